//! Settings ▸ Clients: the databases behind the data gateway, for platform admins.

mod actions;
mod edit;

use std::sync::Arc;

use askama::Template;
use postrider_gateway::Uri;
use postrider_gateway::uri::Backend;
use serde::Deserialize;
use uuid::Uuid;

use crate::app::App;
use crate::console::answer::{Answer, Fault};
use crate::console::kit::{self, Html, Mood};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::gateway::address;
use crate::registry::clients::{self, Dependents};
use crate::store::ClientRecord;

const PATH: &str = "/settings/clients";
/// How many are shown; more are found by their name.
const SHOWN_MAX: usize = 100;
/// Routes and keys of one page.
const DEPENDENTS_SHOWN: usize = 50;

/// Of metadata on a page; the form has all of it.
pub(super) const METADATA_CHARS: usize = 8_000;

pub(super) fn routes() -> Vec<Route> {
    let mut routes = vec![
        Route::get(PATH, Access::Platform, list),
        Route::get("/settings/clients/{client}", Access::Platform, show),
    ];
    routes.extend(edit::routes());
    routes.extend(actions::routes());
    routes
}

/// The client that the path names.
fn found(visit: &Visit) -> Result<Arc<ClientRecord>, Fault> {
    let client = visit.app().catalog.client(visit.id::<Uuid>("client")?);
    client.filter(|client| client.deleted_at.is_none()).ok_or(Fault::NotFound)
}

pub(super) fn address_of(client: Uuid) -> String {
    format!("{PATH}/{client}")
}

pub(super) fn state(client: &ClientRecord) -> Html {
    match (client.is_frozen, client.is_active) {
        (true, _) => kit::pill(Mood::Warning, "Frozen"),
        (false, true) => kit::pill(Mood::Good, "Active"),
        (false, false) => kit::pill(Mood::Neutral, "Inactive"),
    }
}

/// Where a client's database is, as it may be shown, and of which kind it is.
struct Place {
    kind: &'static str,
    /// Its password is masked.
    shown: String,
}

fn place(app: &App, client: &ClientRecord) -> Place {
    let kind = |uri: &str| match Uri::parse(uri).map(|uri| uri.backend()) {
        Ok(Backend::Postgres) => "PostgreSQL",
        Ok(Backend::Sqlite) => "SQLite",
        Err(_) => "Unreadable",
    };
    match (&client.uri_env_var, clients::uri(app, client)) {
        (Some(variable), Ok(Some(uri))) => Place { kind: kind(uri.reveal()), shown: format!("${variable}") },
        (Some(variable), _) => Place { kind: "Not set here", shown: format!("${variable}") },
        (None, Ok(Some(uri))) => Place { kind: kind(uri.reveal()), shown: address::shown(uri.reveal()) },
        (None, Ok(None)) => Place { kind: "No address", shown: String::new() },
        (None, Err(error)) => {
            tracing::error!(client = client.name, "an address does not open: {error:#}");
            Place { kind: "Unreadable", shown: "****".to_owned() }
        }
    }
}

/// Whether callers of a client need a gateway key.
fn keys(app: &App, client: &ClientRecord) -> Html {
    if crate::gateway::keys::enforced(app, client) { kit::text("needed") } else { kit::pill(Mood::Bad, "Not needed") }
}

fn connection(app: &App, client: &ClientRecord) -> Html {
    if app.gateway.is_connected(client) { kit::pill(Mood::Good, "Connected") } else { kit::quiet("when it is needed") }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Query {
    q: String,
}

struct Row {
    id: Uuid,
    name: String,
    kind: &'static str,
    place: String,
    state: Html,
    keys: Html,
    connection: Html,
    outbox: usize,
}

#[derive(Template)]
#[template(path = "clients.html")]
struct ListPage {
    chrome: Chrome,
    q: String,
    rows: Vec<Row>,
    more: usize,
}

async fn list(visit: Visit) -> Result<Answer, Fault> {
    let query: Query = visit.query();
    let (app, wanted) = (visit.app(), query.q.trim().to_lowercase());
    let all = app.catalog.clients();
    let mut found = all.iter().filter(|client| client.name.to_lowercase().contains(&wanted));
    let row = |client: &Arc<ClientRecord>| {
        let Place { kind, shown } = place(app, client);
        Row {
            id: client.id,
            name: client.name.clone(),
            kind,
            place: shown,
            state: state(client),
            keys: keys(app, client),
            connection: connection(app, client),
            outbox: client.outbox_tables.len(),
        }
    };
    let rows: Vec<_> = found.by_ref().take(SHOWN_MAX).map(row).collect();
    Answer::page(&ListPage { chrome: Chrome::of(&visit, "Clients"), q: query.q, rows, more: found.count() })
}

/// A route or a key of a client.
struct Dependent {
    name: String,
    path: Option<String>,
}

/// The first of them, and how many more there are.
struct Dependencies {
    shown: Vec<Dependent>,
    more: usize,
}

impl Dependencies {
    fn of<T>(all: &[Arc<T>], one: impl Fn(&T) -> Dependent) -> Dependencies {
        let shown = all.iter().take(DEPENDENTS_SHOWN).map(|it| one(it)).collect();
        Dependencies { shown, more: all.len().saturating_sub(DEPENDENTS_SHOWN) }
    }
}

#[derive(Template)]
#[template(path = "client.html")]
struct Page {
    chrome: Chrome,
    id: Uuid,
    name: String,
    description: String,
    state: Html,
    is_frozen: bool,
    kind: &'static str,
    place: Html,
    keys: Html,
    connection: Html,
    tenant: String,
    source: String,
    created: Html,
    updated: Html,
    outbox: Vec<Html>,
    metadata: Option<Html>,
    routes: Dependencies,
    gateway_keys: Dependencies,
}

async fn show(visit: Visit) -> Result<Answer, Fault> {
    let (app, client) = (visit.app(), found(&visit)?);
    let Place { kind, shown } = place(app, &client);
    let (routes, gateway_keys) = dependents(clients::dependents(app, &client));
    let tenant = app.catalog.tenant(client.tenant_id);
    let metadata = serde_json::to_string_pretty(&clients::shown_metadata(&client.metadata)).unwrap_or_default();
    Answer::page(&Page {
        id: client.id,
        name: client.name.clone(),
        description: client.description.clone().unwrap_or_default(),
        state: state(&client),
        is_frozen: client.is_frozen,
        kind,
        place: kit::code_text(&shown),
        keys: keys(app, &client),
        connection: connection(app, &client),
        tenant: tenant.map_or_else(String::new, |tenant| tenant.record.name.clone()),
        source: client.source.clone(),
        created: kit::time(client.created_at),
        updated: kit::time(client.updated_at),
        outbox: client.outbox_tables.iter().map(|table| kit::badge(table)).collect(),
        metadata: (!client.metadata.is_empty()).then(|| kit::code(&kit::short(&metadata, METADATA_CHARS), "Metadata")),
        routes,
        gateway_keys,
        chrome: Chrome::of(&visit, client.name.clone()),
    })
}

fn dependents(all: Dependents) -> (Dependencies, Dependencies) {
    let route = |route: &crate::store::PublicRouteRecord| Dependent {
        name: route.route_key.clone(),
        path: Some(super::public_routes::address_of(route.id)),
    };
    let key = |key: &crate::store::GatewayKeyRecord| Dependent { name: key.name.clone(), path: None };
    (Dependencies::of(&all.routes, route), Dependencies::of(&all.keys, key))
}
