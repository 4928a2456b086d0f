//! Settings ▸ Tenant hostnames: names that stand for a client, for platform admins.

mod onboard;

use askama::Template;
use postrider_core::gateway::hostname::parse_token;
use serde_json::Value;
use uuid::Uuid;

use super::{clients, public_routes};
use crate::console::answer::{Answer, Fault};
use crate::console::flash::Flash;
use crate::console::kit::{self, Html};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::registry::public_routes as registry;
use crate::registry::tenant_hostnames::{self, Dns, Hostname};

const PATH: &str = "/settings/hostnames";
/// How many are shown.
const SHOWN_MAX: usize = 100;

pub(super) fn routes() -> Vec<Route> {
    let mut routes = vec![
        Route::get(PATH, Access::Platform, list),
        Route::post("/settings/hostnames/{route}/check", Access::Platform, check),
        Route::get("/settings/hostnames/{route}/remove", Access::Platform, ask),
        Route::post("/settings/hostnames/{route}/remove", Access::Platform, remove),
    ];
    routes.extend(onboard::routes());
    routes
}

/// The hostname whose route the path names.
fn found(visit: &Visit) -> Result<Hostname, Fault> {
    let id = visit.id::<Uuid>("route")?;
    tenant_hostnames::all(visit.app()).into_iter().find(|name| name.route.id == id).ok_or(Fault::NotFound)
}

struct Row {
    id: Uuid,
    host: Html,
    route: String,
    client: String,
    client_path: Option<String>,
    state: Html,
    database: String,
}

#[derive(Template)]
#[template(path = "hostnames.html")]
struct Page {
    chrome: Chrome,
    /// `None`: switched off.
    pattern: Option<Pattern>,
    rows: Vec<Row>,
    more: usize,
    has_clients: bool,
}

/// What the edge proxy needs to know.
struct Pattern {
    wildcard: Html,
    ask: Html,
    proxies: Vec<String>,
}

async fn list(visit: Visit) -> Result<Answer, Fault> {
    let app = visit.app();
    let pattern = app.config.gateway.host_pattern.as_ref().map(|pattern| Pattern {
        wildcard: kit::copyable(&pattern.to_string(), "the pattern"),
        ask: kit::copyable(&format!("{}/admin/tenant-hostnames/ask", visit.origin()), "the address to ask"),
        proxies: app.config.trusted_proxies.iter().map(ToString::to_string).collect(),
    });
    let all = tenant_hostnames::all(app);
    let more = all.len().saturating_sub(SHOWN_MAX);
    Answer::page(&Page {
        chrome: Chrome::of(&visit, "Tenant hostnames"),
        pattern,
        rows: all.iter().take(SHOWN_MAX).map(row).collect(),
        more,
        has_clients: !app.catalog.clients().is_empty(),
    })
}

fn row(name: &Hostname) -> Row {
    let client = name.client.as_ref();
    let is_usable = client.is_some_and(|client| client.is_usable());
    Row {
        id: name.route.id,
        host: kit::copyable(&name.host, "the hostname"),
        route: public_routes::address_of(name.route.id),
        client: client.map_or_else(|| "a client that is gone".to_owned(), |client| client.name.clone()),
        client_path: client.map(|client| clients::address_of(client.id)),
        state: public_routes::state(&name.route, is_usable),
        database: public_place(name).map(|(host, port)| format!("{host}:{port}")).unwrap_or_default(),
    }
}

/// Where the public is told to find the client's PostgreSQL.
fn public_place(name: &Hostname) -> Option<(String, u64)> {
    let token = parse_token(&name.route.route_key).ok()?;
    let public = tenant_hostnames::binding_of(name.client.as_ref()?, &token)?.get("public")?;
    Some((public.get("host")?.as_str()?.to_owned(), public.get("port").and_then(Value::as_u64)?))
}

/// What the domain name system says, in words, and whether it is good.
fn told(dns: &Dns) -> (bool, String) {
    if let Some(error) = &dns.error {
        let why = error.strip_prefix(dns.host.as_str()).unwrap_or(error).trim();
        return (false, format!("{} does not resolve: {why}", dns.host));
    }
    let addresses: Vec<_> = dns.addresses.iter().map(ToString::to_string).collect();
    (true, format!("{} resolves to {}", dns.host, addresses.join(", ")))
}

async fn check(visit: Visit) -> Result<Answer, Fault> {
    let (app, name) = (visit.app(), found(&visit)?);
    let mut looked = vec![told(&tenant_hostnames::look_up(app, &name.host).await)];
    if let Some((host, _)) = public_place(&name).filter(|(host, _)| *host != name.host) {
        looked.push(told(&tenant_hostnames::look_up(app, &host).await));
    }
    let is_known = tenant_hostnames::is_known(app, &name.host);
    let known = if is_known { "Requests to it find their client" } else { "Requests to it find no client now" };
    let is_good = is_known && looked.iter().all(|(is_good, _)| *is_good);
    let texts: Vec<_> = looked.into_iter().map(|(_, text)| text).collect();
    let text = format!("{}. {known}.", texts.join("; "));
    Ok(Answer::to(PATH)?.saying(if is_good { Flash::good(text) } else { Flash::bad(text) }))
}

#[derive(Template)]
#[template(path = "hostname_remove.html")]
struct RemovePage {
    chrome: Chrome,
    id: Uuid,
    host: String,
    key: String,
    route: String,
}

async fn ask(visit: Visit) -> Result<Answer, Fault> {
    let name = found(&visit)?;
    Answer::page(&RemovePage {
        chrome: Chrome::of(&visit, "Remove a hostname"),
        id: name.route.id,
        host: name.host,
        key: name.route.route_key.clone(),
        route: public_routes::address_of(name.route.id),
    })
}

async fn remove(visit: Visit) -> Result<Answer, Fault> {
    let name = found(&visit)?;
    registry::delete(visit.app(), &name.route.route_key, &visit.actor()).await?;
    Ok(Answer::to(PATH)?.saying(Flash::good(format!("{} is removed.", name.host))))
}
