//! Settings ▸ Public routes: what strangers may do with a client's database, for platform admins.

mod actions;
mod contract;
mod edit;
mod fields;
mod report;

use std::sync::Arc;

use askama::Template;
use serde::Deserialize;
use uuid::Uuid;

use self::report::Report;
use super::clients::METADATA_CHARS;
use crate::console::answer::{Answer, Fault};
use crate::console::kit::{self, Choice, Field, Html, Mood, Pager};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::gateway::public;
use crate::store::{Page as ListPage, PublicRouteRecord, RouteCallRecord, RouteLogQuery, Scope};

const PATH: &str = "/settings/routes";
/// How many are shown; more are found by their key or client.
const SHOWN_MAX: usize = 100;
const CALLS_PER_PAGE: usize = 25;

pub(super) fn routes() -> Vec<Route> {
    let mut routes =
        vec![Route::get(PATH, Access::Platform, list), Route::get("/settings/routes/{route}", Access::Platform, show)];
    routes.extend(edit::routes());
    routes.extend(actions::routes());
    routes
}

/// The route that the path names.
fn found(visit: &Visit) -> Result<Arc<PublicRouteRecord>, Fault> {
    let id = visit.id::<Uuid>("route")?;
    visit.app().catalog.public_routes().into_iter().find(|route| route.id == id).ok_or(Fault::NotFound)
}

pub(super) fn address_of(route: Uuid) -> String {
    format!("{PATH}/{route}")
}

/// The client of a route, if it is still there, with whether operations run on it.
fn client_of(visit: &Visit, route: &PublicRouteRecord) -> (String, bool) {
    match visit.app().catalog.client(route.client_id).filter(|client| client.deleted_at.is_none()) {
        Some(client) => (client.name.clone(), client.is_usable()),
        None => ("a client that is gone".to_owned(), false),
    }
}

pub(super) fn state(route: &PublicRouteRecord, is_usable: bool) -> Html {
    match (route.is_active, is_usable) {
        (true, true) => kit::pill(Mood::Good, "Active"),
        (true, false) => kit::pill(Mood::Warning, "Client unusable"),
        (false, _) => kit::pill(Mood::Neutral, "Off"),
    }
}

/// Who decides what a call may do.
fn openness(route: &PublicRouteRecord) -> Html {
    match public::contract(&route.metadata) {
        Ok(Some(contract)) => {
            let is_anonymous = |operation: &postrider_gateway::contract::ExposedOperation| {
                operation.anonymous && route.allowed_ops.contains(operation.operation)
            };
            if contract.exposure().iter().any(is_anonymous) {
                kit::pill(Mood::Warning, "Anonymous")
            } else {
                kit::pill(Mood::Neutral, "Keyed")
            }
        }
        Ok(None) => kit::pill(Mood::Bad, "No contract"),
        Err(_) => kit::pill(Mood::Bad, "Unreadable"),
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Query {
    q: String,
}

struct Row {
    id: Uuid,
    key: String,
    client: String,
    ops: Vec<String>,
    openness: Html,
    state: Html,
}

#[derive(Template)]
#[template(path = "routes.html")]
struct ListPageOf {
    chrome: Chrome,
    q: String,
    rows: Vec<Row>,
    more: usize,
    has_clients: bool,
}

async fn list(visit: Visit) -> Result<Answer, Fault> {
    let query: Query = visit.query();
    let wanted = query.q.trim().to_lowercase();
    let all = visit.app().catalog.public_routes();
    let mut found = all
        .iter()
        .map(|route| (route, client_of(&visit, route)))
        .filter(|(route, (client, _))| route.route_key.contains(&wanted) || client.to_lowercase().contains(&wanted));
    let rows = found.by_ref().take(SHOWN_MAX).map(|(route, (client, is_usable))| Row {
        id: route.id,
        key: route.route_key.clone(),
        client,
        ops: route.allowed_ops.iter().cloned().collect(),
        openness: openness(route),
        state: state(route, is_usable),
    });
    let rows = rows.collect();
    let more = found.count();
    let has_clients = !visit.app().catalog.clients().is_empty();
    Answer::page(&ListPageOf { chrome: Chrome::of(&visit, "Public routes"), q: query.q, rows, more, has_clients })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ShowQuery {
    /// Whether a few rows are to be shown.
    samples: String,
    calls: String,
    cursor: Option<String>,
}

struct CallRow {
    at: Html,
    op: String,
    status: Html,
    code: String,
    duration_ms: u32,
    address: String,
    key: String,
    request_id: String,
}

#[derive(Template)]
#[template(path = "route.html")]
struct Page {
    chrome: Chrome,
    id: Uuid,
    key: String,
    state: Html,
    is_active: bool,
    client: String,
    client_path: Option<String>,
    target: String,
    origins: Vec<Html>,
    call: Html,
    created: Html,
    updated: Html,
    metadata: Option<Html>,
    report: Report,
    has_samples: bool,
    outcomes: Field,
    is_filtered: bool,
    calls: Vec<CallRow>,
    pager: Pager,
}

async fn show(visit: Visit) -> Result<Answer, Fault> {
    let (route, query) = (found(&visit)?, visit.query::<ShowQuery>());
    let report = Report::of(visit.app(), &route, query.samples == "yes").await;
    let succeeded = match query.calls.as_str() {
        "failed" => Some(false),
        "succeeded" => Some(true),
        _ => None,
    };
    let listed = visit.app().store.route_log(RouteLogQuery {
        scope: Scope::Platform,
        route_key: Some(route.route_key.clone()),
        succeeded,
        since: None,
        until: None,
        page: ListPage { before: query.cursor.as_ref().and_then(|cursor| cursor.parse().ok()), limit: CALLS_PER_PAGE },
    });
    let listed = listed.await?;
    let filter = if succeeded.is_some() { query.calls.as_str() } else { "" };
    let pager = Pager::of(&address_of(route.id), &[("calls", filter)], query.cursor.as_deref(), listed.next);
    let calls = listed.items.into_iter().map(|record| call_row(&visit, record)).collect();
    Answer::page(&page(&visit, &route, (report, query.samples == "yes"), (succeeded, calls, pager)))
}

fn page(
    visit: &Visit,
    route: &PublicRouteRecord,
    (report, has_samples): (Report, bool),
    (succeeded, calls, pager): (Option<bool>, Vec<CallRow>, Pager),
) -> Page {
    let (client, is_usable) = client_of(visit, route);
    let known = visit.app().catalog.client(route.client_id).filter(|client| client.deleted_at.is_none());
    let op = route.allowed_ops.first().map_or("fetch", String::as_str);
    let call = format!("{}/public/{}/{op}", visit.origin(), route.route_key);
    let mut others = route.metadata.clone();
    others.retain(|name, _| name != public::CONTRACT && name != public::CORS);
    let others = crate::registry::clients::shown_metadata(&others);
    let others =
        serde_json::to_string_pretty(&others).ok().filter(|_| others.as_object().is_some_and(|it| !it.is_empty()));
    Page {
        id: route.id,
        key: route.route_key.clone(),
        state: state(route, is_usable),
        is_active: route.is_active,
        client,
        client_path: known.map(|client| super::clients::address_of(client.id)),
        target: route.target_url.clone().unwrap_or_default(),
        origins: public::origins(&route.metadata).unwrap_or_default().iter().map(|origin| kit::badge(origin)).collect(),
        call: kit::copyable(&call, "the address"),
        created: kit::time(route.created_at),
        updated: kit::time(route.updated_at),
        metadata: others.map(|others| kit::code(&kit::short(&others, METADATA_CHARS), "Other metadata")),
        report,
        has_samples,
        outcomes: outcome_field(succeeded),
        is_filtered: succeeded.is_some(),
        calls,
        pager,
        chrome: Chrome::of(visit, route.route_key.clone()),
    }
}

fn outcome_field(succeeded: Option<bool>) -> Field {
    let choice = |value: &str, label: &str, is: Option<bool>| Choice {
        value: value.to_owned(),
        label: label.to_owned(),
        hint: String::new(),
        chosen: succeeded == is,
    };
    let choices = vec![
        choice("", "All", None),
        choice("failed", "Failed", Some(false)),
        choice("succeeded", "Succeeded", Some(true)),
    ];
    Field::select("calls", "Outcome", choices)
}

fn call_row(visit: &Visit, record: RouteCallRecord) -> CallRow {
    let call = record.call;
    let key = call.key_id.map(|id| {
        visit.app().catalog.gateway_key(id).map_or_else(|| "a key that is gone".to_owned(), |key| key.name.clone())
    });
    let mood = if call.code.is_none() { Mood::Good } else { Mood::Bad };
    CallRow {
        at: kit::time(call.at),
        op: call.op,
        status: kit::pill(mood, &call.status.to_string()),
        code: call.code.unwrap_or_default(),
        duration_ms: call.duration_ms,
        address: call.address.map(|address| address.to_string()).unwrap_or_default(),
        key: key.unwrap_or_default(),
        request_id: call.request_id,
    }
}
