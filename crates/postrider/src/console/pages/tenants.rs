//! Turning to another tenant; for platform admins, making, changing and deleting one.

mod edit;

use askama::Template;
use postrider_core::ids::TenantId;
use serde::Deserialize;

use crate::accounts::sessions;
use crate::console::answer::{Answer, Fault};
use crate::console::flash::Flash;
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;

/// How many are shown; more are found by their name.
const SHOWN_MAX: usize = 50;

pub(super) fn routes() -> Vec<Route> {
    let mut routes = vec![
        Route::get("/settings/tenants", Access::SignedIn, list),
        Route::post("/settings/tenants/switch", Access::SignedIn, switch),
    ];
    routes.extend(edit::routes());
    routes
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Query {
    q: String,
}

struct Row {
    id: TenantId,
    name: String,
    role: &'static str,
    is_current: bool,
}

#[derive(Template)]
#[template(path = "tenants.html")]
struct Page {
    chrome: Chrome,
    is_platform: bool,
    q: String,
    rows: Vec<Row>,
    more: usize,
}

async fn list(visit: Visit) -> Result<Answer, Fault> {
    let query: Query = visit.query();
    let (member, catalog) = (visit.member(), &visit.app().catalog);
    let wanted = query.q.trim().to_lowercase();
    let all = sessions::tenants_of(visit.app(), &member.user);
    let records = all.into_iter().filter_map(|id| catalog.tenant(id));
    let mut found = records.filter(|tenant| tenant.record.name.to_lowercase().contains(&wanted));
    let row = |tenant: crate::catalog::Tenant| Row {
        id: tenant.record.id,
        name: tenant.record.name.clone(),
        role: match member.user.memberships.get(&tenant.record.id) {
            Some(role) => crate::auth::role_name(*role),
            None => "platform admin",
        },
        is_current: member.tenant == Some(tenant.record.id),
    };
    let rows: Vec<_> = found.by_ref().take(SHOWN_MAX).map(row).collect();
    let (is_platform, chrome) = (visit.principal().is_platform(), Chrome::of(&visit, "Tenants"));
    Answer::page(&Page { chrome, is_platform, q: query.q, rows, more: found.count() })
}

async fn switch(visit: Visit) -> Result<Answer, Fault> {
    let tenant: TenantId = visit.form.text("tenant").parse().map_err(|_| Fault::NotFound)?;
    if !sessions::look_at(visit.app(), &visit.signed_in().session, tenant).await? {
        return Err(Fault::NotFound);
    }
    let name = visit.app().catalog.tenant(tenant).map(|tenant| tenant.record.name.clone()).unwrap_or_default();
    Ok(Answer::to("/settings")?.saying(Flash::good(format!("You now look at {name}."))))
}
