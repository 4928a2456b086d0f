//! Verifying, testing, and doing something again.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::{Method, StatusCode};
use bytes::Bytes;
use postrider_core::ids::{EventId, WebhookId};
use postrider_core::subscription::check_event_type;
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::envelope::Items;
use super::{body, envelope, of_path, tenant, webhook};
use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result};
use crate::api::route::{Access, Effect, Route};
use crate::auth::Permission;
use crate::inbound::{self, Arrival, Failure, Receiver};
use crate::store::{Scope, WebhookRecord};

pub(super) fn routes() -> Vec<Route> {
    let (test, again) = (Access::Needs(Permission::WebhooksTest), Access::Needs(Permission::DeliveriesWrite));
    let (write, types) = (Access::Needs(Permission::EventsWrite), Access::Needs(Permission::EventTypesRead));
    vec![
        Route::new(Method::POST, "/api/v1/webhooks/test", test, send_test).effect(Effect::Creates),
        Route::new(Method::POST, "/api/v1/webhooks/verify", test, verify).effect(Effect::Reads),
        Route::new(Method::GET, "/api/v1/webhooks/event-types", types, event_types),
        Route::new(Method::POST, "/api/v1/webhooks/events/{id}/retry", again, retry).effect(Effect::Creates),
        Route::new(Method::POST, "/api/v1/webhooks/{id}/events/reverify", write, reverify),
    ]
}

/// What a webhook verifies with, opened.
fn receiver(call: &Call, record: &Arc<WebhookRecord>) -> Result<Arc<Receiver>> {
    let app = call.app();
    let opened = app.inbound.receiver(app, record).map_err(ApiError::internal)?;
    opened.ok_or_else(|| ApiError::not_found("webhook"))
}

/// An id in a body. What is no id names nothing, as in a path.
fn named(call: &Call, id: Option<String>) -> Result<Arc<WebhookRecord>> {
    let id = id.ok_or_else(|| ApiError::missing("webhookId"))?;
    webhook(call, id.parse::<WebhookId>().map_err(|_| ApiError::not_found("webhook"))?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Test {
    webhook_id: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    data: Option<Value>,
}

async fn send_test(mut call: Call) -> Result<Reply> {
    tenant(&call)?;
    let wanted: Test = body(&mut call).await?;
    let record = named(&call, wanted.webhook_id)?;
    let event_type = wanted.event_type.map(|event_type| event_type.trim().to_lowercase());
    if let Some(event_type) = &event_type {
        check_event_type(event_type).map_err(|error| ApiError::field("type", error.0))?;
    }
    let data = wanted.data.unwrap_or_else(|| json!({ "message": "Hello from Postrider" }));
    let receiver = receiver(&call, &record)?;
    let sent = inbound::send_test(call.app(), &receiver, event_type.as_deref(), data).await;
    let id = sent.map_err(|failure| match failure {
        Failure::Publish(error) => ApiError::from(error),
        Failure::Registry(rejection) => ApiError::from(rejection),
    })?;
    envelope::data(StatusCode::ACCEPTED, &json!({ "eventId": id.0.hyphenated() }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Verify {
    webhook_id: Option<String>,
    payload: Option<String>,
    headers: Option<BTreeMap<String, String>>,
    signature: Option<String>,
    timestamp: Option<Timestamp>,
}

/// As the provider writes it, which for most is a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Timestamp {
    Number(i64),
    Text(String),
}

impl Timestamp {
    fn text(&self) -> String {
        match self {
            Timestamp::Number(number) => number.to_string(),
            Timestamp::Text(text) => text.clone(),
        }
    }
}

#[derive(Serialize)]
struct Verified {
    valid: bool,
    /// Null if it is.
    reason: Option<&'static str>,
}

/// Judges a request as if it had come in now, and keeps nothing.
async fn verify(mut call: Call) -> Result<Reply> {
    tenant(&call)?;
    let wanted: Verify = body(&mut call).await?;
    let record = named(&call, wanted.webhook_id)?;
    let payload = wanted.payload.ok_or_else(|| ApiError::missing("payload"))?;
    let receiver = receiver(&call, &record)?;
    let mut headers: Vec<(String, String)> =
        wanted.headers.into_iter().flatten().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    match &wanted.signature {
        Some(signature) => {
            let timestamp = wanted.timestamp.as_ref().map(Timestamp::text);
            headers.extend(receiver.provider.signature_headers(signature, timestamp.as_deref()));
        }
        None if headers.is_empty() => return Err(ApiError::field("headers", "give headers, or signature")),
        None => {}
    }
    let arrival = Arrival {
        method: "POST",
        target: "/",
        headers: headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        body: Bytes::from(payload),
        address: None,
        test: None,
    };
    let (app, url) = (call.app(), receiver.signed_url(None));
    let verdict = app.inbound.verdict(&receiver, &arrival, &url, app.ambient.now()).await;
    let valid = verdict.is_accepted();
    let reason = verdict.reason().map_or(verdict.as_str(), postrider_core::inbound::Reason::as_str);
    envelope::data(StatusCode::OK, &Verified { valid, reason: (!valid).then_some(reason) })
}

#[derive(Serialize)]
struct EventType<'a> {
    name: &'a str,
    group: Option<&'a str>,
    description: Option<&'a str>,
    deprecated: bool,
}

async fn event_types(call: Call) -> Result<Reply> {
    let types = call.app().catalog.event_types(Some(tenant(&call)?));
    let items: Vec<EventType<'_>> = types
        .iter()
        .map(|known| EventType {
            name: &known.name,
            group: known.group.as_deref(),
            description: known.description.as_deref(),
            deprecated: known.deprecated,
        })
        .collect();
    envelope::data(StatusCode::OK, &Items { items })
}

/// Delivers a received event again to whoever is subscribed to it now.
async fn retry(call: Call) -> Result<Reply> {
    let scope = Scope::Tenant(tenant(&call)?);
    let app = call.app();
    let id: EventId = call.id("event")?;
    let received = app.store.received_one(scope, id).await?.ok_or_else(|| ApiError::not_found("event"))?;
    let Some(event) = received.event_id else {
        let why = "it is not forwarded: verify it again once the secret is right";
        return Err(ApiError::new(Code::Conflict, why));
    };
    let queued = app.engine.replay_event(scope, event, None, &call.actor()).await?;
    let deliveries = queued.ok_or_else(|| ApiError::not_found("event"))?;
    let ids: Vec<String> = deliveries.iter().map(ToString::to_string).collect();
    envelope::data(StatusCode::ACCEPTED, &json!({ "eventId": id.0.hyphenated(), "deliveryIds": ids }))
}

#[derive(Default, Deserialize)]
struct Since {
    since: Option<UnixMs>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    checked: usize,
    released: usize,
    repeats: usize,
    /// Where the next call goes on; null when all were looked at.
    next_since: Option<UnixMs>,
}

async fn reverify(mut call: Call) -> Result<Reply> {
    let record = of_path(&call)?;
    let Since { since } = super::body_or_default(&mut call).await?;
    let receiver = receiver(&call, &record)?;
    let done = inbound::reverify(call.app(), &receiver, since, &call.actor()).await?;
    let counts =
        Counts { checked: done.checked, released: done.released, repeats: done.repeats, next_since: done.next_since };
    envelope::data(StatusCode::OK, &counts)
}
