//! Settings ▸ Webhooks: the list, with the history of the one that is open.

mod actions;
mod delivery;
mod edit;
mod secret;

use std::collections::HashSet;
use std::sync::Arc;

use askama::Template;
use postrider_core::delivery::DeliveryStatus;
use postrider_core::dialect::Dialect;
use postrider_core::ids::{DeliveryId, Sequence, WebhookId};
use postrider_core::webhook::WebhookStatus;
use serde::Deserialize;

use crate::auth::Permission;
use crate::console::answer::{Answer, Fault};
use crate::console::kit::{self, Html, Mood, Pager};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::registry::webhooks;
use crate::store::{DeliveryQuery, DeliveryRecord, Page as ListPage, WebhookHealth, WebhookRecord};

const PATH: &str = "/settings/webhooks";
const PER_PAGE: usize = 20;
const HISTORY_PER_PAGE: usize = 20;
/// Badges of one row; the page of the webhook has them all.
const BADGES: usize = 6;

pub(super) fn routes() -> Vec<Route> {
    let mut routes = vec![Route::get(PATH, Access::Needs(Permission::WebhooksRead), list)];
    routes.extend(edit::routes());
    routes.extend(secret::routes());
    routes.extend(actions::routes());
    routes.extend(delivery::routes());
    routes
}

/// Where the list is, in console or portal.
fn path(visit: &Visit) -> String {
    visit.at("/webhooks")
}

/// The row of a webhook in the list.
fn row_of(visit: &Visit, id: WebhookId) -> String {
    format!("{}?at={id}#{id}", path(visit))
}

/// The webhook that the path names, if it exists for this visitor.
fn found(visit: &Visit) -> Result<std::sync::Arc<WebhookRecord>, Fault> {
    Ok(webhooks::get(visit.app(), visit.scope(), visit.id::<WebhookId>("webhook")?)?)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Query {
    /// The webhook whose history is shown.
    open: String,
    /// Another whose row is to be seen.
    at: String,
    /// Of the list; unless given, the one with that webhook.
    page: Option<usize>,
    /// Of the history.
    cursor: Option<String>,
}

struct Row {
    id: WebhookId,
    name: String,
    url: Html,
    description: String,
    events: Vec<Html>,
    more_events: usize,
    is_active: bool,
    state: Html,
    last: Html,
    pill: Html,
    is_rotating: bool,
    history: Option<History>,
    toggle_address: String,
}

struct History {
    rows: Vec<HistoryRow>,
    pager: Pager,
    /// Where the newest of this history are.
    live: String,
    /// Not the first page, which is not kept up to date.
    is_later: bool,
    /// Deliveries with a greater number have come since.
    newest: i64,
}

struct HistoryRow {
    id: DeliveryId,
    event_type: Html,
    at: Html,
    pill: Html,
    status: String,
    attempts: u32,
    body: String,
    may_retry: bool,
}

#[derive(Template)]
#[template(path = "webhooks.html")]
struct Page {
    chrome: Chrome,
    may_write: bool,
    may_test: bool,
    may_retry: bool,
    rows: Vec<Row>,
    pager: Pager,
}

/// A description as a row shows it; the form has all of it.
fn short(text: &str) -> String {
    const SHOWN_CHARS: usize = 160;
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// What a webhook is called where there is no room for its URL.
pub(super) fn name_of(record: &WebhookRecord) -> String {
    let host = || url::Url::parse(&record.spec.url).ok().and_then(|url| url.host_str().map(str::to_owned));
    record.spec.name.clone().or_else(host).unwrap_or_else(|| "Receiver".to_owned())
}

fn state(record: &WebhookRecord) -> Html {
    match record.status {
        WebhookStatus::Active => kit::pill(Mood::Good, "Active"),
        WebhookStatus::Paused => kit::pill(Mood::Warning, "Paused"),
        WebhookStatus::Disabled => kit::pill(Mood::Neutral, "Off"),
    }
}

/// How its deliveries go: "Failed" from the last attempt of one until another succeeds.
pub(super) fn standing(health: Option<&WebhookHealth>) -> Html {
    match health {
        Some(health) if health.failing => kit::pill(Mood::Bad, "Failed"),
        Some(health) => match health.last_succeeded {
            Some(true) => kit::pill(Mood::Good, "Delivered"),
            Some(false) => kit::pill(Mood::Warning, "Retrying"),
            None => kit::pill(Mood::Neutral, "No deliveries"),
        },
        None => kit::pill(Mood::Neutral, "No deliveries"),
    }
}

pub(super) fn status_pill(status: DeliveryStatus) -> Html {
    match status {
        DeliveryStatus::Pending => kit::pill(Mood::Warning, "Waiting"),
        DeliveryStatus::Delivering => kit::pill(Mood::Busy, "Sending"),
        DeliveryStatus::Succeeded => kit::pill(Mood::Good, "Delivered"),
        DeliveryStatus::Failed => kit::pill(Mood::Bad, "Failed"),
        DeliveryStatus::Canceled => kit::pill(Mood::Neutral, "Canceled"),
    }
}

async fn list(visit: Visit) -> Result<Answer, Fault> {
    let query: Query = visit.query();
    let tenant = visit.tenant()?;
    // A receiver that forwards nothing has a page of its own.
    let sends = |record: &Arc<WebhookRecord>| !record.spec.url.is_empty();
    let mut records: Vec<_> = tenant.webhooks.iter().map(|webhook| webhook.record.clone()).filter(sends).collect();
    records.sort_by_key(|record| std::cmp::Reverse((record.created_at, record.id)));
    let total = records.len();
    let opened: Option<WebhookId> = query.open.parse().ok();
    let place_of = |id| records.iter().position(|record| record.id == id);
    let sought = opened.or_else(|| query.at.parse().ok());
    let page = query.page.or_else(|| sought.and_then(place_of).map(|at| at / PER_PAGE)).unwrap_or_default();
    let shown: Vec<_> = records.into_iter().skip(page.saturating_mul(PER_PAGE)).take(PER_PAGE).collect();
    let ids: Vec<_> = shown.iter().map(|record| record.id).collect();
    let health = visit.app().store.health(&ids).await?;
    let mut rows = Vec::with_capacity(shown.len());
    for record in shown {
        let history = match opened {
            Some(id) if id == record.id => Some(history(&visit, id, query.cursor.as_deref()).await?),
            _ => None,
        };
        let health = health.iter().find(|health| health.webhook_id == record.id);
        rows.push(row(&visit, &record, health, history)?);
    }
    let path = path(&visit);
    let address = |page: usize| if page == 0 { path.clone() } else { format!("{path}?page={page}") };
    let pager = Pager {
        next: (page.saturating_add(1).saturating_mul(PER_PAGE) < total).then(|| address(page + 1)),
        first: (page > 0).then(|| address(0)),
    };
    Answer::page(&Page {
        chrome: Chrome::of(&visit, "Webhooks"),
        may_write: visit.may(Permission::WebhooksWrite),
        may_test: visit.may(Permission::WebhooksTest),
        may_retry: visit.may(Permission::DeliveriesWrite),
        rows,
        pager,
    })
}

fn row(
    visit: &Visit,
    record: &WebhookRecord,
    health: Option<&WebhookHealth>,
    history: Option<History>,
) -> Result<Row, Fault> {
    let spec = &record.spec;
    let patterns = &spec.events.0;
    let mut events: Vec<_> = patterns.iter().take(BADGES).map(|pattern| kit::badge(pattern)).collect();
    if events.is_empty() {
        events.push(kit::badge("all events"));
    }
    let secrets = webhooks::own_secrets(visit.app(), record)?;
    let now = visit.app().ambient.now();
    let toggled = if history.is_some() { format!("at={}", record.id) } else { format!("open={}", record.id) };
    Ok(Row {
        id: record.id,
        name: name_of(record),
        url: kit::copyable(&spec.url, "the URL"),
        description: short(spec.description.as_deref().unwrap_or_default()),
        events,
        more_events: patterns.len().saturating_sub(BADGES),
        is_active: record.status == WebhookStatus::Active,
        state: state(record),
        last: health.and_then(|health| health.last_delivery_at).map(kit::time).unwrap_or_default(),
        pill: standing(health),
        is_rotating: secrets.previous.is_some_and(|(_, until)| now < until),
        history,
        toggle_address: format!("{}?{toggled}#{}", path(visit), record.id),
    })
}

async fn history(visit: &Visit, id: WebhookId, cursor: Option<&str>) -> Result<History, Fault> {
    let app = visit.app();
    let wanted = DeliveryQuery {
        scope: visit.scope(),
        webhook_id: Some(id),
        event_id: None,
        event_type: None,
        status: None,
        since: None,
        until: None,
        page: ListPage { before: cursor.and_then(|cursor| cursor.parse().ok()), limit: HISTORY_PER_PAGE },
    };
    // What comes while the list is read is newer than the list.
    let now = Sequence::floor(app.ambient.now());
    let listed = app.store.deliveries(wanted).await?;
    let newest = listed.items.first().map_or(now, |first| first.id.0.max(now));
    let in_flight: HashSet<_> = app.engine.in_flight().await.into_iter().collect();
    let path = path(visit);
    Ok(History {
        rows: listed.items.iter().map(|record| history_row(record, &in_flight)).collect(),
        pager: Pager::of(&path, &[("open", &id.to_string())], cursor, listed.next),
        live: format!("{path}?open={id}"),
        is_later: cursor.is_some(),
        newest,
    })
}

/// What is shown of a response in a row; the page of the delivery has all that is kept.
const BODY_CHARS: usize = 160;

fn history_row(record: &DeliveryRecord, in_flight: &HashSet<DeliveryId>) -> HistoryRow {
    let is_sending = record.status == DeliveryStatus::Pending && in_flight.contains(&record.id);
    let status = if is_sending { DeliveryStatus::Delivering } else { record.status };
    let last = record.last_attempt.as_ref();
    let response = last.and_then(|attempt| attempt.response.as_ref());
    let problem = last.and_then(|attempt| attempt.error.as_ref()).or(record.ended.as_ref());
    let body = response.map(|response| response.body.trim()).filter(|body| !body.is_empty());
    let body = body.or_else(|| problem.map(|problem| problem.detail.as_ref())).unwrap_or_default();
    HistoryRow {
        id: record.id,
        event_type: kit::badge(&record.event_type),
        at: kit::time(record.created_at),
        pill: status_pill(status),
        status: response.map_or_else(|| "–".to_owned(), |response| response.status.to_string()),
        attempts: record.attempt_count,
        body: body.chars().take(BODY_CHARS).collect(),
        may_retry: status != DeliveryStatus::Delivering,
    }
}

/// A dialect as people know it.
pub(super) fn dialect_label(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Standard => "Standard Webhooks",
        Dialect::Athenatext => "AthenaText",
        Dialect::Athenty => "Athenty",
        Dialect::Scaikey => "ScaiKey",
        Dialect::Alumia => "Alumia",
        Dialect::Athena => "Athena",
    }
}
