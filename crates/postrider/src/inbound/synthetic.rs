//! A request of our own to a receiver, to see that everything behind it is connected.

use axum::http::header;
use bytes::Bytes;
use postrider_core::dialect::Dialect;
use postrider_core::ids::EventId;
use postrider_core::inbound::Verdict;
use postrider_core::signing::{SigningKeys, WebhookSecrets};
use postrider_core::time::UnixMs;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Arrival, Failure, Receiver, Synthetic};
use crate::app::App;

/// Sends `data` to a receiver as an event of `event_type`, on the way of every other request: verified, kept, entering
/// the stream, forwarded. The id of the kept request.
///
/// Where core can sign as the source does (`custom`), the request is signed with the receiver's own secret and has to
/// pass verification. Of any other source we know how to check a signature, not how to make one; such a test is taken
/// as verified by construction. That opens no door: it is made here, in memory, for a caller whose key may send tests
/// to this webhook; no request from outside can bring `test` with it, and what is kept says that it was one.
///
/// # Errors
/// See [`Failure`].
pub async fn send_test(
    app: &App,
    receiver: &Receiver,
    event_type: Option<&str>,
    data: Value,
) -> Result<EventId, Failure> {
    let now = app.ambient.now();
    let event_type = event_type.map_or_else(|| format!("{}.test", receiver.provider.name), str::to_lowercase);
    let body = Bytes::from(json!({ "type": event_type, "test": true, "data": data }).to_string());
    let id = Uuid::from_bytes(app.ambient.random()).to_string();
    let mut headers = vec![
        (header::CONTENT_TYPE.as_str(), "application/json"),
        ("x-alumia-event", &event_type),
        ("x-alumia-delivery", &id),
    ];
    let signature = signature(receiver, &body, now);
    headers.extend(signature.iter().map(|(name, value)| (*name, value.as_str())));
    let test = Some(Synthetic { event_type: &event_type, id: &id });
    let arrival = Arrival { method: "POST", target: "/", headers, body: body.clone(), address: None, test };
    let url = receiver.signed_url(None);
    let verdict = match signature {
        Some(_) => app.inbound.verdict(receiver, &arrival, &url, now).await,
        None => Verdict::Verified { secret: 0 },
    };
    let kept = app.inbound.keep(app, receiver, &arrival, (verdict, &url)).await?;
    Ok(kept.id)
}

/// What signs the body for the receiver, if its source is one that core can sign as and its secret one to sign with.
fn signature(receiver: &Receiver, body: &[u8], now: UnixMs) -> Option<(&'static str, String)> {
    let secret = receiver.setup(now).secrets.first()?;
    if receiver.provider.name != "custom" || receiver.provider.gives_public(secret) {
        return None;
    }
    let secrets = WebhookSecrets { current: secret.clone(), previous: None };
    let keys = SigningKeys::new(Dialect::Alumia, &secrets).ok()?;
    Dialect::Alumia.sign_body("", body, &keys, now).pop()
}
