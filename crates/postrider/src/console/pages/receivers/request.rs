//! One received request: why it was believed or not, what it brought, and what became of it.

use std::collections::HashSet;
use std::fmt::Write as _;

use askama::Template;
use axum::http::{HeaderValue, header};
use postrider_core::delivery::DeliveryStatus;
use postrider_core::ids::{DeliveryId, EventId, WebhookId};
use postrider_core::inbound::VerdictKind;

use super::actions::unpublished;
use super::{address, found, name_of, setup, show, verdict_pill};
use crate::auth::Permission;
use crate::catalog::Catalog;
use crate::console::answer::{Answer, Fault};
use crate::console::errors::sentence;
use crate::console::flash::Flash;
use crate::console::kit::{self, Html};
use crate::console::layout::Chrome;
use crate::console::pages::webhooks::{name_of as webhook_name, status_pill};
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::inbound::{self, ReleaseError};
use crate::store::{DeliveryRecord, ReceivedRecord, WebhookRecord};

/// A page stays small whatever somebody sends; the body as a whole can be downloaded.
const BODY_CHARS: usize = 12_000;
const BODY_BYTES_SHOWN: usize = 1024;
const HEADER_CHARS: usize = 8_000;
const DELIVERIES_SHOWN: usize = 50;

pub(super) fn routes() -> Vec<Route> {
    let read = Access::Needs(Permission::EventsRead);
    vec![
        Route::get("/settings/receivers/{receiver}/requests/{request}", read, show_one),
        Route::get("/settings/receivers/{receiver}/requests/{request}/body", read, body),
        Route::post(
            "/settings/receivers/{receiver}/requests/{request}/release",
            Access::Needs(Permission::EventsWrite),
            release,
        ),
        Route::post(
            "/settings/receivers/{receiver}/requests/{request}/forward",
            Access::Needs(Permission::DeliveriesWrite),
            forward,
        ),
    ]
}

struct Forwarded {
    id: DeliveryId,
    webhook: WebhookId,
    name: String,
    pill: Html,
    code: String,
    attempts: u32,
    is_known: bool,
}

#[derive(Template)]
#[template(path = "receiver_request.html")]
struct Page {
    chrome: Chrome,
    receiver: WebhookId,
    receiver_name: String,
    id: EventId,
    verdict: Html,
    reason: String,
    advice: &'static str,
    outcome: Html,
    at: Html,
    released: Option<Html>,
    method: String,
    target: String,
    from: String,
    event_type: Html,
    provider_event_id: String,
    content_type: String,
    is_test: bool,
    is_repeat: bool,
    event: Option<EventId>,
    headers: Html,
    body: Html,
    body_bytes: usize,
    body_note: &'static str,
    deliveries: Vec<Forwarded>,
    may_release: bool,
    may_forward: bool,
}

/// The request that the path names, if it was sent to that receiver.
async fn named(visit: &Visit) -> Result<(std::sync::Arc<WebhookRecord>, ReceivedRecord), Fault> {
    let receiver = found(visit)?;
    let record = visit.app().store.received_one(visit.scope(), visit.id("request")?).await?;
    let record = record.filter(|record| record.webhook_id == receiver.id).ok_or(Fault::NotFound)?;
    Ok((receiver, record))
}

fn own_address(receiver: WebhookId, request: EventId) -> String {
    format!("{}/requests/{request}", address(receiver))
}

async fn show_one(visit: Visit) -> Result<Answer, Fault> {
    let (receiver, record) = named(&visit).await?;
    let app = visit.app();
    let deliveries = match record.event_id {
        Some(event) => app.store.event_deliveries(event).await?,
        None => Vec::new(),
    };
    let in_flight: HashSet<_> = app.engine.in_flight().await.into_iter().collect();
    let newest = deliveries.iter().rev().take(DELIVERIES_SHOWN);
    let deliveries = newest.map(|delivery| forwarded(&app.catalog, delivery, &in_flight)).collect();
    let (body, body_note) = shown_body(&record.body);
    let headers: Vec<_> = record.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    Answer::page(&Page {
        receiver: receiver.id,
        receiver_name: name_of(&receiver),
        id: record.id,
        verdict: verdict_pill(record.verdict),
        reason: reason(&record),
        advice: record.reason.map_or("", setup::advice),
        outcome: show::outcome(&record),
        at: kit::time(record.received_at),
        released: record.released_at.map(kit::time),
        method: record.method.clone(),
        target: kit::short(&record.target, 2000),
        from: record.remote_address.map(|address| address.to_string()).unwrap_or_default(),
        event_type: kit::badge(&record.event_type),
        provider_event_id: record.provider_event_id.clone().unwrap_or_default(),
        content_type: record.content_type.clone().unwrap_or_default(),
        is_test: record.test,
        is_repeat: record.repeat,
        event: record.event_id,
        headers: kit::code(&kit::short(&headers.join("\n"), HEADER_CHARS), "Headers, without credentials"),
        body,
        body_bytes: record.body.len(),
        body_note,
        deliveries,
        may_release: record.event_id.is_none() && visit.may(Permission::EventsWrite),
        may_forward: record.event_id.is_some()
            && !receiver.spec.url.is_empty()
            && visit.may(Permission::DeliveriesWrite),
        chrome: Chrome::of(&visit, "Received request"),
    })
}

fn reason(record: &ReceivedRecord) -> String {
    match (record.verdict, record.reason) {
        (_, Some(reason)) => sentence(&reason.to_string()),
        (VerdictKind::Verified, None) => "Somebody with the secret signed this request.".to_owned(),
        (VerdictKind::Authenticated, None) => {
            "The request carried the secret itself; its content is not signed.".to_owned()
        }
        (VerdictKind::Unattempted | VerdictKind::Failed, None) => {
            "There was nothing to verify with: no secret, a provider that does not sign, or a certificate that could not be \
             fetched."
                .to_owned()
        }
    }
}

fn forwarded(catalog: &Catalog, delivery: &DeliveryRecord, in_flight: &HashSet<DeliveryId>) -> Forwarded {
    let is_sending = delivery.status == DeliveryStatus::Pending && in_flight.contains(&delivery.id);
    let webhook = catalog.webhook(delivery.webhook_id);
    let response = delivery.last_attempt.as_ref().and_then(|attempt| attempt.response.as_ref());
    Forwarded {
        id: delivery.id,
        webhook: delivery.webhook_id,
        is_known: webhook.is_some(),
        name: webhook.map_or_else(|| "a webhook that is gone".to_owned(), |webhook| webhook_name(&webhook.record)),
        pill: status_pill(if is_sending { DeliveryStatus::Delivering } else { delivery.status }),
        code: response.map_or_else(|| "–".to_owned(), |response| response.status.to_string()),
        attempts: delivery.attempt_count,
    }
}

/// A body as far as a page shows it: text as it is, anything else as bytes.
fn shown_body(body: &[u8]) -> (Html, &'static str) {
    let is_plain = |text: &&str| !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'));
    match std::str::from_utf8(body).ok().filter(is_plain) {
        Some("") => (kit::code("", "Body"), "It has no body."),
        Some(text) if text.chars().nth(BODY_CHARS).is_some() => {
            (kit::code(&kit::short(text, BODY_CHARS), "Body, its beginning"), "Only its beginning is shown.")
        }
        Some(text) => (kit::code(text, "Body"), ""),
        None if body.len() > BODY_BYTES_SHOWN => (
            kit::code(&hex_lines(&body[..BODY_BYTES_SHOWN]), "Body, its first bytes"),
            "It is no text: its first bytes.",
        ),
        None => (kit::code(&hex_lines(body), "Body, as bytes"), "It is no text."),
    }
}

/// Sixteen bytes a line, with what of them is ASCII.
fn hex_lines(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 5);
    for (at, line) in bytes.chunks(16).enumerate() {
        let hex: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let is_shown = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        let ascii: String = line.iter().map(|byte| if is_shown(*byte) { char::from(*byte) } else { '.' }).collect();
        let _ = writeln!(text, "{:04x}  {:<47}  {ascii}", at * 16, hex.join(" "));
    }
    text
}

async fn body(visit: Visit) -> Result<Answer, Fault> {
    let (_, record) = named(&visit).await?;
    let disposition = format!("attachment; filename=\"{}.bin\"", record.id);
    let disposition = HeaderValue::try_from(disposition).map_err(|error| Fault::Internal(error.into()))?;
    let answer = Answer::document("application/octet-stream", record.body);
    Ok(answer.header(header::CONTENT_DISPOSITION, disposition))
}

async fn release(visit: Visit) -> Result<Answer, Fault> {
    let (receiver, record) = named(&visit).await?;
    let done = inbound::release(visit.app(), visit.scope(), record.id, &visit.actor()).await;
    let flash = match done {
        Ok(released) if released.repeat => {
            Flash::good("It repeats an event that another request brought: nothing is sent.")
        }
        Ok(_) => Flash::good("It is released: it is an event now, and on its way."),
        Err(ReleaseError::AlreadyReleased) => Flash::bad("It is an event already."),
        Err(ReleaseError::NotFound) => return Err(Fault::NotFound),
        Err(ReleaseError::Publish(error)) => return Err(unpublished(error)),
    };
    Ok(Answer::to(&own_address(receiver.id, record.id))?.saying(flash))
}

async fn forward(visit: Visit) -> Result<Answer, Fault> {
    let (receiver, record) = named(&visit).await?;
    let event = record.event_id.ok_or_else(|| {
        Fault::Conflict("It is no event, so there is nothing to forward: release it first.".to_owned())
    })?;
    visit.send_by_hand()?;
    let (app, only) = (visit.app(), Some(vec![receiver.id]));
    let queued = app.engine.replay_event(visit.scope(), event, only, &visit.actor()).await?;
    let flash = match queued {
        Some(queued) if !queued.is_empty() => Flash::good("It is on its way again."),
        Some(_) => Flash::bad("Nothing was sent: the receiver forwards nowhere, or is off."),
        None => Flash::bad("Nothing was sent: the event is no longer kept."),
    };
    Ok(Answer::to(&own_address(receiver.id, record.id))?.saying(flash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_shown_as_text_or_as_bytes_and_never_as_a_whole_book() {
        let shown = |body: &[u8]| shown_body(body).0.to_string();
        assert!(shown(b"{\"a\":1}").contains("{&quot;a&quot;:1}"));
        let binary = shown(b"\x00\x01AB<script>\xff");
        assert!(binary.contains("0000  00 01 41 42 3c") && binary.contains("..AB&lt;script&gt;."), "{binary}");
        let long = "é".repeat(BODY_CHARS + 1);
        assert!(shown(long.as_bytes()).matches('é').count() == BODY_CHARS);
        assert!(shown(&long.as_bytes()[..BODY_CHARS * 2]).matches('é').count() == BODY_CHARS);
        assert!(shown(&[0; 256 * 1024]).len() < 10_000);
    }
}
