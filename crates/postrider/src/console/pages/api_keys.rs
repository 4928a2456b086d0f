//! API keys of a tenant: listed, created (and shown that once), revoked.

use askama::Template;
use postrider_core::ids::KeyId;
use postrider_core::limits::NAME_CHARS_MAX;
use postrider_core::time::UnixMs;

use crate::auth::{Permission, role_name};
use crate::console::answer::{Answer, Fault};
use crate::console::errors::Errors;
use crate::console::flash::{Flash, Reveal};
use crate::console::kit::{self, Choice, Field, Html, Mood};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::registry::keys::{self, NewKey};
use crate::store::{KeyRecord, Role};

const PATH: &str = "/settings/api-keys";

pub(super) fn routes() -> Vec<Route> {
    let write = Access::Needs(Permission::KeysWrite);
    vec![
        Route::get(PATH, Access::Needs(Permission::KeysRead), list),
        Route::get("/settings/api-keys/new", write, form),
        Route::post("/settings/api-keys/new", write, create),
        Route::get("/settings/api-keys/{key}/revoke", write, ask),
        Route::post("/settings/api-keys/{key}/revoke", write, revoke),
    ]
}

struct Row {
    id: KeyId,
    name: String,
    prefix: String,
    role: &'static str,
    scopes: Vec<Html>,
    created: Html,
    expires: Html,
    expired: bool,
}

#[derive(Template)]
#[template(path = "api_keys.html")]
struct Page {
    chrome: Chrome,
    may_write: bool,
    rows: Vec<Row>,
    revealed: Option<Reveal>,
    expired: Html,
}

async fn list(visit: Visit) -> Result<Answer, Fault> {
    let tenant = visit.tenant()?.record.id;
    let now = visit.app().ambient.now();
    let mut keys = visit.app().catalog.keys(Some(tenant));
    keys.reverse();
    let rows = keys.iter().map(|key| Row {
        id: key.id,
        name: key.name.clone(),
        prefix: key.shown_prefix.clone(),
        role: role_name(key.role),
        scopes: key.scopes.iter().map(|scope| kit::badge(scope)).collect(),
        created: kit::time(key.created_at),
        expires: kit::maybe_time(key.expires_at, "never"),
        expired: key.expires_at.is_some_and(|at| at <= now),
    });
    Answer::page(&Page {
        may_write: visit.may(Permission::KeysWrite),
        rows: rows.collect(),
        revealed: visit.revealed("api_key"),
        expired: kit::pill(Mood::Bad, "Expired"),
        chrome: Chrome::of(&visit, "API keys"),
    })
}

#[derive(Template)]
#[template(path = "api_key_new.html")]
struct NewPage {
    chrome: Chrome,
    problem: Option<String>,
    name: Field,
    role: Field,
    scopes: Vec<Choice>,
    scopes_error: Option<String>,
    mode: Field,
    expires: Field,
}

const ROLES: [(Role, &str); 4] = [
    (Role::Viewer, "Reads events, webhooks and deliveries."),
    (Role::Member, "Publishes events, sends tests, retries deliveries."),
    (Role::Admin, "Manages webhooks, event types and keys."),
    (Role::Owner, "Everything within the tenant."),
];

fn new_page(visit: &Visit, errors: &Errors) -> NewPage {
    let chosen = visit.form.given("role").unwrap_or("member");
    let own = visit.principal().role();
    let roles = ROLES.into_iter().filter(|(role, _)| *role <= own).map(|(role, hint)| Choice {
        value: role_name(role).to_owned(),
        label: role_name(role).to_owned(),
        hint: hint.to_owned(),
        chosen: role_name(role) == chosen,
    });
    let wanted = visit.form.all("scopes");
    let scopes = Permission::ALL.iter().filter(|permission| visit.may(**permission)).map(|permission| Choice {
        value: permission.name().to_owned(),
        label: permission.name().to_owned(),
        hint: permission.meaning().to_owned(),
        chosen: wanted.iter().any(|scope| scope == permission.name()),
    });
    let modes = [("live", "Live"), ("test", "Test")].map(|(value, label)| Choice {
        value: value.to_owned(),
        label: label.to_owned(),
        hint: String::new(),
        chosen: visit.form.text("mode") == value,
    });
    let fields = ["name", "role", "scopes", "mode", "expires_at"];
    NewPage {
        chrome: Chrome::of(visit, "New API key"),
        problem: errors.beside(&fields).map(str::to_owned),
        name: Field::line("name", "Name")
            .value(visit.form.text("name"))
            .hint("What it is for, such as the service that uses it.")
            .error(errors.at("name"))
            .longest(NAME_CHARS_MAX)
            .required()
            .focused(),
        role: Field::radios("role", "Role", roles.collect()).error(errors.at("role")).required(),
        scopes: scopes.collect(),
        scopes_error: errors.at("scopes").map(str::to_owned),
        mode: Field::select("mode", "Marked as", modes.into()).hint("Only how the key begins: sk_live_ or sk_test_."),
        expires: Field::date("expires_at", "Expires on")
            .value(visit.form.text("expires_at"))
            .hint("At the end of that day, UTC. Empty: never.")
            .error(errors.at("expires_at")),
    }
}

async fn form(visit: Visit) -> Result<Answer, Fault> {
    visit.tenant()?;
    Answer::page(&new_page(&visit, &Errors::none()))
}

/// The end of a day as a form gives it.
fn end_of(day: &str) -> Result<UnixMs, Errors> {
    let date: jiff::civil::Date =
        day.parse().map_err(|_| Errors::one("expires_at", "Give a date such as 2026-12-31."))?;
    let next = date.tomorrow().and_then(|day| day.to_zoned(jiff::tz::TimeZone::UTC));
    let next = next.map_err(|_| Errors::one("expires_at", "That is too far away."))?;
    Ok(UnixMs(next.timestamp().as_millisecond()))
}

fn wanted(visit: &Visit) -> Result<NewKey, Errors> {
    let role = ROLES.into_iter().find(|(role, _)| role_name(*role) == visit.form.text("role"));
    Ok(NewKey {
        tenant_id: visit.tenant_id().unwrap_or(postrider_core::ids::TenantId(uuid::Uuid::nil())),
        name: visit.form.text("name").trim().to_owned(),
        role: role.ok_or_else(|| Errors::one("role", "Choose one."))?.0,
        scopes: visit.form.all("scopes"),
        expires_at: visit.form.given("expires_at").map(end_of).transpose()?,
        prefix: "sk",
        mode: if visit.form.text("mode") == "test" { "test" } else { "live" },
    })
}

async fn create(visit: Visit) -> Result<Answer, Fault> {
    visit.tenant()?;
    let new = match wanted(&visit) {
        Ok(new) => new,
        Err(errors) => return Answer::unfit(&new_page(&visit, &errors)),
    };
    match keys::create(visit.app(), visit.principal(), new, &visit.actor()).await {
        Ok((key, secret)) => {
            let flash = Flash::good("The key is created.").revealing("api_key", key.name, secret.reveal());
            Ok(Answer::to(PATH)?.saying(flash))
        }
        Err(rejection) => Answer::unfit(&new_page(&visit, &Errors::of(rejection)?)),
    }
}

#[derive(Template)]
#[template(path = "api_key_revoke.html")]
struct RevokePage {
    chrome: Chrome,
    id: KeyId,
    name: String,
    prefix: String,
}

fn found(visit: &Visit) -> Result<std::sync::Arc<KeyRecord>, Fault> {
    let key = visit.app().catalog.key_by_id(visit.id("key")?);
    key.filter(|key| visit.scope().covers(key.tenant_id)).ok_or(Fault::NotFound)
}

async fn ask(visit: Visit) -> Result<Answer, Fault> {
    let key = found(&visit)?;
    let (name, prefix) = (key.name.clone(), key.shown_prefix.clone());
    Answer::page(&RevokePage { chrome: Chrome::of(&visit, "Revoke an API key"), id: key.id, name, prefix })
}

async fn revoke(visit: Visit) -> Result<Answer, Fault> {
    let key = found(&visit)?;
    keys::revoke(visit.app(), visit.scope(), key.id, &visit.actor()).await?;
    Ok(Answer::to(PATH)?.saying(Flash::good(format!("The key {} is revoked.", key.name))))
}
