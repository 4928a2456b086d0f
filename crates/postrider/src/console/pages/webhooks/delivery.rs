//! One delivery: what was sent, and what came back of every attempt.

use std::collections::HashSet;

use askama::Template;
use postrider_core::delivery::{Attempt, DeliveryStatus};
use postrider_core::ids::{DeliveryId, WebhookId};

use super::{found, name_of, status_pill};
use crate::auth::Permission;
use crate::console::answer::{Answer, Fault};
use crate::console::kit::{self, Html, Mood};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::registry::webhooks;

pub(super) fn routes() -> Vec<Route> {
    let read = Access::Needs(Permission::DeliveriesRead);
    vec![Route::get("/settings/webhooks/{webhook}/deliveries/{delivery}", read, show)]
}

/// A page stays small whatever an endpoint answers; the API has all that is kept.
const REQUEST_CHARS: usize = 8_000;
const RESPONSE_CHARS: usize = 1_000;
const ATTEMPTS_SHOWN: usize = 12;

struct AttemptRow {
    number: u32,
    at: Html,
    duration_ms: u32,
    pill: Html,
    address: String,
    error: String,
    headers: Option<Html>,
    body: Option<Html>,
}

#[derive(Template)]
#[template(path = "delivery.html")]
struct Page {
    chrome: Chrome,
    webhook: WebhookId,
    webhook_name: String,
    id: DeliveryId,
    event_type: Html,
    event: String,
    pill: Html,
    trigger: &'static str,
    created: Html,
    next: Html,
    may_retry: bool,
    ended: String,
    request: Option<Request>,
    attempts: Vec<AttemptRow>,
}

struct Request {
    url: String,
    headers: Html,
    body: Html,
}

fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

fn lines(headers: &[(String, String)]) -> String {
    headers.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n")
}

fn attempt_row(attempt: &Attempt) -> AttemptRow {
    let response = attempt.response.as_ref();
    let mood = if attempt.succeeded() { Mood::Good } else { Mood::Bad };
    let text = response.map_or_else(|| "No answer".to_owned(), |response| response.status.to_string());
    AttemptRow {
        number: attempt.number,
        at: kit::time(attempt.at),
        duration_ms: attempt.duration_ms,
        pill: kit::pill(mood, &text),
        address: attempt.remote_address.map(|address| address.to_string()).unwrap_or_default(),
        error: attempt.error.as_ref().map(|error| error.detail.to_string()).unwrap_or_default(),
        headers: response
            .map(|response| kit::code(&cut(&lines(&response.headers), RESPONSE_CHARS), "Response headers")),
        body: response.map(|response| kit::code(&cut(&response.body, RESPONSE_CHARS), "Response body")),
    }
}

async fn show(visit: Visit) -> Result<Answer, Fault> {
    let (app, webhook) = (visit.app(), found(&visit)?);
    let id = DeliveryId(visit.id("delivery")?);
    let record = app.store.delivery(visit.scope(), id).await?;
    let record = record.filter(|record| record.webhook_id == webhook.id).ok_or(Fault::NotFound)?;
    let attempts = app.store.attempts(id).await?;
    let request = webhooks::shown_request(app, &record, attempts.last()).await?;
    let in_flight: HashSet<_> = app.engine.in_flight().await.into_iter().collect();
    let is_sending = record.status == DeliveryStatus::Pending && in_flight.contains(&id);
    let status = if is_sending { DeliveryStatus::Delivering } else { record.status };
    Answer::page(&Page {
        webhook: webhook.id,
        webhook_name: name_of(&webhook),
        id,
        event_type: kit::badge(&record.event_type),
        event: record.external_id.clone().unwrap_or_else(|| record.event_id.to_string()),
        pill: status_pill(status),
        trigger: trigger(record.trigger),
        created: kit::time(record.created_at),
        next: kit::maybe_time(record.next_attempt_at, "none"),
        may_retry: visit.may(Permission::DeliveriesWrite) && status != DeliveryStatus::Delivering,
        ended: record.ended.as_ref().map(|ended| ended.detail.to_string()).unwrap_or_default(),
        request: request.map(|request| Request {
            url: request.url,
            headers: kit::code(&cut(&lines(&request.headers), REQUEST_CHARS), "Request headers"),
            body: kit::code(&cut(&request.body, REQUEST_CHARS), "Payload"),
        }),
        attempts: attempts.iter().rev().take(ATTEMPTS_SHOWN).map(attempt_row).collect(),
        chrome: Chrome::of(&visit, "Delivery"),
    })
}

fn trigger(trigger: postrider_core::delivery::Trigger) -> &'static str {
    use postrider_core::delivery::Trigger;
    match trigger {
        Trigger::Event => "an event",
        Trigger::Retry => "a retry by hand",
        Trigger::Replay => "a replay",
        Trigger::Test => "a test",
    }
}
