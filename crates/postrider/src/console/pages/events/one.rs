//! One event: its payload, its deliveries, and sending it again.

use askama::Template;
use axum::http::{HeaderValue, header};
use postrider_core::ids::{EventId, WebhookId};

use super::{PATH, source_label};
use crate::auth::Permission;
use crate::console::answer::{Answer, Fault};
use crate::console::flash::Flash;
use crate::console::kit::{self, Field, Html};
use crate::console::layout::Chrome;
use crate::console::pages::deliveries::{Rows, webhook_choices};
use crate::console::payload::{self, Shown};
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::registry::webhooks;
use crate::store::{self, DeliveryQuery, EventBody, EventKey, EventRecord, Page as ListPage, Scope};

pub(super) fn routes() -> Vec<Route> {
    let read = Access::Needs(Permission::EventsRead);
    vec![
        Route::get("/settings/events/{event}", read, show),
        Route::get("/settings/events/{event}/payload", read, download),
        Route::post("/settings/events/{event}/replay", Access::Needs(Permission::DeliveriesWrite), replay),
    ]
}

const DELIVERIES_SHOWN: usize = 15;

#[derive(Template)]
#[template(path = "event.html")]
struct Page {
    chrome: Chrome,
    id: EventId,
    name: Html,
    event_type: Html,
    source: &'static str,
    accepted: Html,
    /// `None`: when it was accepted.
    occurred: Option<Html>,
    idempotency_key: String,
    ordering_key: String,
    size: String,
    payload: Html,
    is_whole: bool,
    content_type: String,
    rows: Rows,
    may_retry: bool,
    all_deliveries: Option<String>,
    target: Field,
}

/// The event that the path names, if it exists for this visitor.
async fn found(visit: &Visit) -> Result<EventRecord, Fault> {
    let id: EventId = visit.id("event")?;
    visit.app().store.event(visit.scope(), &EventKey::Id(id)).await?.ok_or(Fault::NotFound)
}

/// The bytes that came in.
fn bytes(event: &EventBody) -> &[u8] {
    event.raw.as_ref().and_then(|raw| raw.body.as_deref()).unwrap_or(&event.data)
}

async fn show(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit).await?;
    let event = &record.event;
    let Shown { text, is_whole } = payload::shown(bytes(event));
    let query = DeliveryQuery {
        scope: visit.scope(),
        webhook_id: None,
        event_id: Some(event.id),
        event_type: None,
        status: None,
        since: None,
        until: None,
        page: ListPage { before: None, limit: DELIVERIES_SHOWN },
    };
    let listed = visit.app().engine.deliveries(query).await?;
    let key = |key: Option<&str>| key.map(|key| payload::cut(key, 300).text).unwrap_or_default();
    let content_type = event.raw.as_ref().and_then(|raw| raw.content_type.as_deref());
    Answer::page(&Page {
        id: event.id,
        name: kit::copyable(&store::outer_id(event.id, event.external_id.as_deref()), "the id"),
        event_type: kit::badge(&event.event_type),
        source: source_label(event.source),
        accepted: kit::time(record.accepted_at),
        occurred: (event.occurred_at != record.accepted_at).then(|| kit::time(event.occurred_at)),
        idempotency_key: key(record.idempotency_key.as_deref()),
        ordering_key: key(event.ordering_key.as_deref()),
        size: payload::size(bytes(event).len()),
        payload: kit::code(&text, "Payload"),
        is_whole,
        content_type: key(content_type),
        rows: Rows { names_event: false, ..Rows::of(&visit, &listed.items, format!("event:{}", event.id)) },
        may_retry: visit.may(Permission::DeliveriesWrite),
        all_deliveries: listed.next.map(|_| format!("/settings/deliveries?event={}", event.id)),
        target: target(&visit)?,
        chrome: Chrome::of(&visit, "Event"),
    })
}

fn target(visit: &Visit) -> Result<Field, Fault> {
    let tenant = visit.tenant()?;
    Ok(match webhook_choices(&tenant, "", "All that are subscribed now") {
        Some(choices) => Field::select("webhook", "To", choices),
        None => Field::line("webhook", "To").placeholder("A webhook's id; else all that are subscribed now"),
    })
}

/// All of it, as it came in.
async fn download(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit).await?;
    let body = axum::body::Bytes::copy_from_slice(bytes(&record.event));
    // Never shown by the browser itself, whatever it is.
    let answer = Answer::document("application/octet-stream", body);
    let name = format!("attachment; filename=\"{}.{}\"", record.event.id, ending(&record.event));
    let name = HeaderValue::try_from(name).map_err(|error| Fault::Internal(error.into()))?;
    Ok(answer.header(header::CONTENT_DISPOSITION, name))
}

fn ending(event: &EventBody) -> &'static str {
    if event.raw.as_ref().is_some_and(|raw| raw.body.is_some()) { "bin" } else { "json" }
}

async fn replay(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit).await?;
    let event = &record.event;
    let chosen = match visit.form.given("webhook") {
        Some(id) => {
            let id: WebhookId = id.parse().map_err(|_| Fault::NotFound)?;
            Some(vec![webhooks::get(visit.app(), Scope::Tenant(event.tenant_id), id)?.id])
        }
        None => None,
    };
    visit.send_by_hand()?;
    let queued = visit.app().engine.replay_event(visit.scope(), event.id, chosen, &visit.actor()).await?;
    let flash = match queued.ok_or(Fault::NotFound)?.len() {
        0 => Flash::bad("Nothing was queued: no active webhook takes this event now."),
        1 => Flash::good("It goes out again, to one webhook."),
        count => Flash::good(format!("It goes out again, to {count} webhooks.")),
    };
    Ok(Answer::to(&format!("{PATH}/{}", event.id))?.saying(flash))
}
