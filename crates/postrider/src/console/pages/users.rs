//! Everybody who has an account, for platform admins.

use askama::Template;
use serde::Deserialize;
use uuid::Uuid;

use super::members::{link_made, status};
use crate::auth::role_name;
use crate::console::answer::{Answer, Fault};
use crate::console::errors::Errors;
use crate::console::flash::{Flash, Reveal};
use crate::console::kit::{self, Html};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::registry::{self, users};
use crate::store::{UserRecord, UserStatus};

const PATH: &str = "/settings/users";
/// How many are shown; more are found by their name or address.
const SHOWN_MAX: usize = 50;
/// Tenants of one row.
const TENANTS_SHOWN: usize = 5;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get(PATH, Access::Platform, list),
        Route::post("/settings/users/{user}/link", Access::Platform, make_link),
        Route::post("/settings/users/{user}/deactivate", Access::Platform, |visit| set_active(visit, false)),
        Route::post("/settings/users/{user}/reactivate", Access::Platform, |visit| set_active(visit, true)),
        Route::post("/settings/users/{user}/admin", Access::Platform, set_admin),
    ]
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Query {
    q: String,
}

struct Row {
    id: Uuid,
    name: String,
    email: String,
    status: Html,
    tenants: Vec<String>,
    more_tenants: usize,
    since: Html,
    is_you: bool,
    is_admin: bool,
    is_deactivated: bool,
}

#[derive(Template)]
#[template(path = "users.html")]
struct Page {
    chrome: Chrome,
    q: String,
    rows: Vec<Row>,
    more: usize,
    revealed: Option<Reveal>,
}

fn row(visit: &Visit, user: &UserRecord) -> Row {
    let tenants = user.memberships.iter().filter_map(|(id, role)| Some((visit.app().catalog.tenant(*id)?, *role)));
    let mut names: Vec<_> =
        tenants.map(|(tenant, role)| format!("{} ({})", tenant.record.name, role_name(role))).collect();
    let more_tenants = names.len().saturating_sub(TENANTS_SHOWN);
    names.truncate(TENANTS_SHOWN);
    Row {
        id: user.id,
        name: user.name.clone(),
        email: user.email.clone(),
        status: status(user),
        tenants: names,
        more_tenants,
        since: kit::time(user.created_at),
        is_you: user.id == visit.member().user.id,
        is_admin: user.is_platform_admin,
        is_deactivated: user.status == UserStatus::Deactivated,
    }
}

async fn list(visit: Visit) -> Result<Answer, Fault> {
    let query: Query = visit.query();
    let wanted = query.q.trim().to_lowercase();
    let all = visit.app().catalog.users().into_iter();
    let is_wanted =
        |user: &UserRecord| user.email.to_lowercase().contains(&wanted) || user.name.to_lowercase().contains(&wanted);
    let mut found = all.filter(|user| is_wanted(user));
    let rows: Vec<_> = found.by_ref().take(SHOWN_MAX).map(|user| row(&visit, &user)).collect();
    let revealed = visit.revealed("link");
    Answer::page(&Page { chrome: Chrome::of(&visit, "Users"), q: query.q, rows, more: found.count(), revealed })
}

/// Back to the list, which says what was done, or why not.
fn done(result: registry::Result<Flash>) -> Result<Answer, Fault> {
    let flash = match result {
        Ok(flash) => flash,
        Err(rejection) => Flash::bad(Errors::of(rejection)?.beside(&[]).unwrap_or_default()),
    };
    Ok(Answer::to(PATH)?.saying(flash))
}

async fn make_link(visit: Visit) -> Result<Answer, Fault> {
    let user = users::get(visit.app(), visit.id("user")?)?;
    let made = users::make_link(visit.app(), visit.principal(), (None, user.id), &visit.actor()).await;
    done(made.map(|(kind, token)| link_made(&visit, kind, &user, &token)))
}

async fn set_active(visit: Visit, active: bool) -> Result<Answer, Fault> {
    let whom = (None, visit.id("user")?);
    let changed = users::set_active(visit.app(), visit.principal(), whom, active, &visit.actor()).await;
    let told = if active { "is active again" } else { "is deactivated, and logged out everywhere" };
    done(changed.map(|user| Flash::good(format!("{} {told}.", user.email))))
}

async fn set_admin(visit: Visit) -> Result<Answer, Fault> {
    let (id, is_admin) = (visit.id("user")?, visit.form.text("admin") == "yes");
    let changed = users::set_platform_admin(visit.app(), visit.principal(), id, is_admin, &visit.actor()).await;
    let told = if is_admin { "is a platform admin now" } else { "is no longer a platform admin" };
    done(changed.map(|user| Flash::good(format!("{} {told}.", user.email))))
}
