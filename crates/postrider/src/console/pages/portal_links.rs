//! Links into the customers' portal, made by hand, those that wait to be used, and the sessions that are open there.

use std::time::Duration;

use askama::Template;
use postrider_core::ids::PortalLinkId;
use postrider_core::limits::PORTAL_LIFETIME;
use uuid::Uuid;

use super::audit_log::shown_actor;
use super::profile::browser;
use crate::auth::{Permission, role_name};
use crate::console::answer::{Answer, Fault};
use crate::console::errors::Errors;
use crate::console::flash::{Flash, Reveal};
use crate::console::kit::{self, Choice, Field, Html};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::portal::sessions::{self, ENTRANCE, Wanted};
use crate::store::{Role, Scope};

const PATH: &str = "/settings/portal";
/// What a flash with a link is called.
const REVEAL: &str = "portal_link";

pub(super) fn routes() -> Vec<Route> {
    let access = Access::Needs(Permission::PortalWrite);
    vec![
        Route::get(PATH, access, list),
        Route::post(PATH, access, create),
        Route::post("/settings/portal/links/{link}/revoke", access, revoke),
        Route::post("/settings/portal/{session}/end", access, end),
    ]
}

struct Row {
    id: Uuid,
    agent: String,
    address: String,
    role: &'static str,
    began: Html,
    seen: Html,
    ends: Html,
}

/// A link that waits to be used.
struct UnusedRow {
    id: PortalLinkId,
    by: String,
    role: &'static str,
    made: Html,
    ends: Html,
}

/// Links on the page; the newest are those that somebody has just made by mistake.
const UNUSED_SHOWN: usize = 50;

#[derive(Template)]
#[template(path = "portal_links.html")]
struct Page {
    chrome: Chrome,
    is_on: bool,
    tenant: String,
    problem: Option<String>,
    role: Field,
    lifetime: Field,
    revealed: Option<Reveal>,
    rows: Vec<Row>,
    unused: Vec<UnusedRow>,
    /// How many more wait to be used.
    more: usize,
}

const ROLES: [(Role, &str, &str); 3] = [
    (Role::Admin, "Manages the webhooks", "Adds, changes and deletes them, and sees their secrets once."),
    (Role::Member, "Tests and retries", "Sees everything there, sends tests, retries deliveries."),
    (Role::Viewer, "Looks", "Sees webhooks, deliveries and event types."),
];

const LIFETIMES: [(Duration, &str); 4] = [
    (Duration::from_secs(15 * 60), "15 minutes"),
    (PORTAL_LIFETIME, "1 hour"),
    (Duration::from_secs(8 * 60 * 60), "8 hours"),
    (Duration::from_secs(24 * 60 * 60), "24 hours"),
];

async fn page(visit: &Visit, errors: &Errors) -> Result<Page, Fault> {
    let tenant = visit.tenant()?;
    let chosen = visit.form.given("role").unwrap_or("admin");
    let given = ROLES.into_iter().filter(|(role, ..)| *role <= visit.principal().role());
    let roles = given.map(|(role, label, hint)| Choice {
        value: role_name(role).to_owned(),
        label: label.to_owned(),
        hint: hint.to_owned(),
        chosen: role_name(role) == chosen,
    });
    let wanted = visit.form.given("lifetime").and_then(|text| text.parse().ok()).unwrap_or(PORTAL_LIFETIME.as_secs());
    let lifetimes = LIFETIMES.map(|(span, label)| Choice {
        value: span.as_secs().to_string(),
        label: label.to_owned(),
        hint: String::new(),
        chosen: span.as_secs() == wanted,
    });
    let open = sessions::open(visit.app(), tenant.record.id).await?;
    let rows = open.into_iter().map(|session| Row {
        id: session.id,
        agent: session.agent.as_deref().map_or_else(|| "Unknown browser".to_owned(), browser),
        address: session.address.map_or_else(|| "unknown address".to_owned(), |address| address.to_string()),
        role: session.role.map_or("none", role_name),
        began: kit::time(session.created_at),
        seen: kit::time(session.seen_at),
        ends: kit::time(session.ends_at),
    });
    let waiting = sessions::unused(visit.app(), tenant.record.id).await?;
    let unused = waiting.iter().take(UNUSED_SHOWN).map(|link| UnusedRow {
        id: link.id,
        by: link.by.as_deref().map_or_else(|| "not known".to_owned(), |by| shown_actor(visit.app(), by)),
        role: role_name(link.role),
        made: kit::time(link.created_at),
        ends: kit::time(link.expires_at),
    });
    Ok(Page {
        unused: unused.collect(),
        more: waiting.len().saturating_sub(UNUSED_SHOWN),
        is_on: visit.app().config.portal.is_on,
        tenant: tenant.record.name.clone(),
        problem: errors.beside(&["role", "expires_in"]).map(str::to_owned),
        role: Field::radios("role", "Whoever opens it", roles.collect()).error(errors.at("role")).required(),
        lifetime: Field::select("lifetime", "Good for", lifetimes.into())
            .hint("The link is good for one use, and the session that it becomes ends at the same time.")
            .error(errors.at("expires_in")),
        revealed: visit.revealed(REVEAL),
        rows: rows.collect(),
        chrome: Chrome::of(visit, "Portal links"),
    })
}

async fn list(visit: Visit) -> Result<Answer, Fault> {
    Answer::page(&page(&visit, &Errors::none()).await?)
}

async fn create(visit: Visit) -> Result<Answer, Fault> {
    let tenant = visit.tenant()?;
    if !visit.app().config.portal.is_on {
        return Err(Fault::Conflict("The portal is switched off.".to_owned()));
    }
    let role = ROLES.into_iter().find(|(role, ..)| role_name(*role) == visit.form.text("role"));
    let seconds: Option<u64> = visit.form.text("lifetime").parse().ok();
    let errors = match (role, seconds) {
        (None, _) => Errors::one("role", "Choose one."),
        (_, None) => Errors::one("expires_in", "Choose one."),
        (Some((role, ..)), Some(seconds)) => {
            let lifetime = Some(Duration::from_secs(seconds));
            let wanted = Wanted { tenant_id: tenant.record.id, role: Some(role), lifetime };
            match sessions::make_link(visit.app(), visit.principal(), wanted, &visit.actor()).await {
                Ok(made) => {
                    let link = format!("{}{ENTRANCE}{}", visit.origin(), made.token.reveal());
                    let flash = Flash::good("The link is made.").revealing(REVEAL, &*tenant.record.name, link);
                    return Ok(Answer::to(PATH)?.saying(flash));
                }
                Err(rejection) => Errors::of(rejection)?,
            }
        }
    };
    Answer::unfit(&page(&visit, &errors).await?)
}

async fn revoke(visit: Visit) -> Result<Answer, Fault> {
    // The tenant that is looked at, also for a platform admin, who reaches all.
    let scope = Scope::Tenant(visit.tenant()?.record.id);
    sessions::revoke(visit.app(), scope, visit.id("link")?, &visit.actor()).await?;
    Ok(Answer::to(PATH)?.saying(Flash::good("The link is revoked: nobody gets in by it.")))
}

async fn end(visit: Visit) -> Result<Answer, Fault> {
    let tenant = visit.tenant()?.record.id;
    if !sessions::end(visit.app(), tenant, visit.id("session")?, &visit.actor()).await? {
        return Err(Fault::NotFound);
    }
    Ok(Answer::to(PATH)?.saying(Flash::good("The session has ended.")))
}
