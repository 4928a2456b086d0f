//! Received requests: looked up with their verdicts, verified again, released.

use std::collections::HashSet;

use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use postrider_core::ids::{EventId, TenantId, WebhookId};
use postrider_core::inbound::{Reason, VerdictKind};
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::deliveries::Delivery;
use super::events::Event;
use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result};
use crate::api::page::{self, List};
use crate::api::route::{Access, Effect, Route};
use crate::auth::Permission;
use crate::inbound::{self, ReleaseError};
use crate::schemas;
use crate::store::{EventKey, ReceivedQuery, ReceivedRecord};

pub(super) fn routes() -> Vec<Route> {
    let read = Access::Needs(Permission::EventsRead);
    let write = Access::Needs(Permission::EventsWrite);
    vec![
        Route::new(Method::GET, "/v1/received", read, list)
            .says(
                "List received requests",
                "Requests to receivers with what verification found, without headers and bodies. A page may be \
                 shorter than `limit`.",
            )
            .query::<ListQuery>()
            .gives_list::<ReceivedRequest>("Requests, newest first"),
        Route::new(Method::GET, "/v1/received/{id}", read, get)
            .says("Get a received request", "With headers (without credentials), body, and the event that it became.")
            .gives::<ReceivedInFull>(200, "The request"),
        Route::new(Method::POST, "/v1/received/{id}/release", write, release)
            .effect(Effect::Changes)
            .says(
                "Release a received request",
                "Makes it an event although it was not believed: somebody has looked at it and answers for it.",
            )
            .gives::<Released>(202, "It is an event, or repeats one")
            .fails(&[Code::AlreadyDone]),
        Route::new(Method::POST, "/v1/received/reverify", write, reverify)
            .effect(Effect::Changes)
            .says(
                "Verify failed requests again",
                "After a secret was corrected: each as of the time it came in, oldest first. What passes is released. \
                 Requests that carried the secret itself cannot be verified again: that is not kept.",
            )
            .takes::<Reverify>()
            .gives::<Reverified>(200, "What it came to"),
    ]
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only this tenant's; implied by a tenant's key.
    #[param(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    /// Only requests to this webhook.
    #[param(value_type = Option<String>)]
    webhook_id: Option<WebhookId>,
    #[param(value_type = Option<schemas::Verdict>)]
    verdict: Option<VerdictKind>,
    /// Only events of this type.
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// Received at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<UnixMs>,
    /// Received before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<UnixMs>,
    /// Items on the page, 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct ReceivedRequest {
    /// Also the id of the event that it became at once.
    #[schema(value_type = String, example = "evt_01998f2e4f8f7e0f9d5ab9b7a3f3a1c7")]
    id: EventId,
    #[schema(value_type = String)]
    tenant_id: TenantId,
    #[schema(value_type = String)]
    webhook_id: WebhookId,
    /// Who the receiver took for the sender.
    #[schema(example = "stripe")]
    source: String,
    #[serde(rename = "type")]
    event_type: String,
    #[schema(value_type = schemas::Verdict)]
    verdict: VerdictKind,
    /// Why it failed.
    #[schema(value_type = Option<schemas::Reason>)]
    reason: Option<Reason>,
    method: String,
    /// Path and query as they came in.
    target: String,
    content_type: Option<String>,
    body_bytes: usize,
    remote_address: Option<String>,
    /// The event's id with the provider.
    provider_event_id: Option<String>,
    /// Made by ourselves.
    test: bool,
    /// The event that it became, at once or by release, or that it repeats.
    #[schema(value_type = Option<String>)]
    event_id: Option<EventId>,
    /// Whether it repeats an event that another request became.
    repeat: bool,
    #[schema(value_type = String, format = DateTime)]
    received_at: UnixMs,
    #[schema(value_type = Option<String>, format = DateTime)]
    released_at: Option<UnixMs>,
}

#[derive(Serialize, ToSchema)]
struct ReceivedInFull {
    #[serde(flatten)]
    request: ReceivedRequest,
    /// Without credentials, in order.
    headers: Vec<HeaderPair>,
    /// As it came in: as text, or what is not UTF-8 in base64.
    body: String,
    #[schema(value_type = schemas::BodyEncoding)]
    body_encoding: &'static str,
    /// Null if it became none, or history no longer has it.
    event: Option<Event>,
    deliveries: Vec<Delivery>,
}

#[derive(Serialize, ToSchema)]
struct HeaderPair {
    name: String,
    value: String,
}

impl ReceivedRequest {
    fn of(record: ReceivedRecord) -> ReceivedRequest {
        ReceivedRequest {
            id: record.id,
            tenant_id: record.tenant_id,
            webhook_id: record.webhook_id,
            source: record.source,
            event_type: record.event_type,
            verdict: record.verdict,
            reason: record.reason,
            method: record.method,
            target: record.target,
            content_type: record.content_type,
            body_bytes: record.body.len(),
            remote_address: record.remote_address.map(|address| address.to_string()),
            provider_event_id: record.provider_event_id,
            test: record.test,
            event_id: record.event_id,
            repeat: record.repeat,
            received_at: record.received_at,
            released_at: record.released_at,
        }
    }
}

async fn list(call: Call) -> Result<Reply> {
    let query: ListQuery = call.query()?;
    let listed = call.app().store.received(ReceivedQuery {
        scope: call.narrowed(query.tenant_id)?,
        webhook_id: query.webhook_id,
        verdict: query.verdict,
        event_type: query.event_type,
        since: query.since,
        until: query.until,
        page: page::stored(query.limit, query.cursor.as_deref())?,
    });
    Reply::ok(&List::stored(listed.await?, ReceivedRequest::of))
}

async fn get(call: Call) -> Result<Reply> {
    let app = call.app();
    let found = app.store.received_one(call.scope(), call.id("received request")?).await?;
    let mut record = found.ok_or_else(|| ApiError::not_found("received request"))?;
    let (event, deliveries) = match record.event_id {
        Some(id) => (app.store.event(call.scope(), &EventKey::Id(id)).await?, app.store.event_deliveries(id).await?),
        None => (None, Vec::new()),
    };
    let in_flight: HashSet<_> = app.engine.in_flight().await.into_iter().collect();
    let headers = std::mem::take(&mut record.headers);
    let (body, body_encoding) = match std::str::from_utf8(&record.body) {
        Ok(text) => (text.to_owned(), "text"),
        Err(_) => (BASE64.encode(&record.body), "base64"),
    };
    Reply::ok(&ReceivedInFull {
        request: ReceivedRequest::of(record),
        headers: headers.into_iter().map(|(name, value)| HeaderPair { name, value }).collect(),
        body,
        body_encoding,
        event: event.map(Event::of).transpose()?,
        deliveries: deliveries.into_iter().map(|delivery| Delivery::of(delivery, &in_flight)).collect(),
    })
}

#[derive(Serialize, ToSchema)]
struct Released {
    #[schema(value_type = String)]
    event_id: EventId,
    /// Another request had brought the same event before.
    repeat: bool,
}

async fn release(call: Call) -> Result<Reply> {
    let id = call.id("received request")?;
    let released = inbound::release(call.app(), call.scope(), id, &call.actor()).await?;
    Reply::accepted(&Released { event_id: released.id, repeat: released.repeat })
}

impl From<ReleaseError> for ApiError {
    fn from(error: ReleaseError) -> ApiError {
        match error {
            ReleaseError::NotFound => ApiError::not_found("received request"),
            ReleaseError::AlreadyReleased => ApiError::new(Code::AlreadyDone, error.to_string()),
            ReleaseError::Publish(error) => error.into(),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Reverify {
    #[schema(value_type = String)]
    webhook_id: WebhookId,
    /// Only requests received at this time or later; all that are kept unless given.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<UnixMs>,
}

#[derive(Serialize, ToSchema)]
struct Reverified {
    /// Requests looked at.
    checked: usize,
    /// Of these, now believed and released.
    released: usize,
    /// Of these, now believed, but another request has brought the same event meanwhile.
    repeats: usize,
    /// Set where one call does not do all: go on with it as `since`.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_since: Option<UnixMs>,
}

async fn reverify(mut call: Call) -> Result<Reply> {
    let Reverify { webhook_id, since } = call.json().await?;
    let unknown = || ApiError::not_found("webhook").at("webhook_id");
    let app = call.app();
    let webhook = app.catalog.webhook(webhook_id).filter(|webhook| call.scope().covers(webhook.record.tenant_id));
    let record = webhook.ok_or_else(unknown)?.record;
    let receiver = app.inbound.receiver(app, &record).map_err(ApiError::internal)?;
    let receiver = receiver.ok_or_else(|| ApiError::field("webhook_id", "this webhook does not receive"))?;
    let done = inbound::reverify(app, &receiver, since, &call.actor()).await?;
    Reply::ok(&Reverified {
        checked: done.checked,
        released: done.released,
        repeats: done.repeats,
        next_since: done.next_since,
    })
}
