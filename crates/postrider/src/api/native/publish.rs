//! `POST /v1/events`, the hot path: parse, check the form, hand over, answer.
//!
//! The payload is never parsed into a tree: it stays the bytes the publisher sent. It is copied once, out of the
//! connection's read buffer: a slice of that buffer would keep all of it in memory for as long as the event waits.

use std::fmt;

use axum::body::Bytes;
use axum::http::StatusCode;
use postrider_core::ids::TenantId;
use postrider_core::limits::{
    EVENT_BATCH_MAX, EVENT_BODY_BYTES_MAX, EXTERNAL_ID_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX, JSON_DEPTH_MAX,
    ORDERING_KEY_BYTES_MAX, WARNINGS_MAX,
};
use postrider_core::subscription::{check_event_type, is_reserved};
use postrider_core::time::UnixMs;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Result};
use crate::api::{idempotency, json};
use crate::pipeline::{Publish, PublishError, Published};
use crate::telemetry::traces::{self, TraceParent};

/// One event.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewEvent)]
pub(super) struct EventInput<'a> {
    /// Needed with the platform admin key; implied by a tenant's key.
    #[schema(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    /// 1 to 128 characters of `A-Z a-z 0-9 . _ - /`.
    #[serde(rename = "type")]
    #[schema(value_type = String, required, example = "user.created", min_length = 1, max_length = 128)]
    event_type: Option<Box<str>>,
    /// Any JSON value, nested at most 64 deep; delivered byte for byte.
    #[serde(borrow, default, deserialize_with = "raw")]
    #[schema(value_type = serde_json::Value, required)]
    data: Option<&'a RawValue>,
    /// Your own id for the event: `A-Z a-z 0-9 _ - :`; sending it again is a repeat.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_:-]+$")]
    id: Option<Box<str>>,
    /// An event with the same key is a repeat for 24 hours, and is not accepted again.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256, pattern = "^[ -~]+$")]
    idempotency_key: Option<Box<str>>,
    /// Events with the same key are delivered in order by webhooks with `ordering: by_key`.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256)]
    ordering_key: Option<Box<str>>,
    /// When it happened; when it is accepted unless given.
    #[schema(value_type = Option<String>, format = DateTime)]
    occurred_at: Option<UnixMs>,
}

/// Up to 1,000 events, accepted all or none.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes a body for the OpenAPI document")]
pub(super) struct EventBatch<'a> {
    /// For those events that name no tenant of their own.
    #[schema(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    #[serde(borrow)]
    #[schema(min_items = 1, max_items = 1000)]
    events: Vec<EventInput<'a>>,
}

/// One event, or a batch.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes a body for the OpenAPI document")]
pub(super) enum PublishBody<'a> {
    #[serde(borrow)]
    One(EventInput<'a>),
    Batch(EventBatch<'a>),
}

/// The fields of one event beside those of a batch; which of the two it is shows when it is read.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    tenant_id: Option<TenantId>,
    #[serde(rename = "type")]
    event_type: Option<Box<str>>,
    #[serde(borrow, default, deserialize_with = "raw")]
    data: Option<&'a RawValue>,
    id: Option<Box<str>>,
    idempotency_key: Option<Box<str>>,
    ordering_key: Option<Box<str>>,
    occurred_at: Option<UnixMs>,
    #[serde(borrow, default, deserialize_with = "bounded")]
    events: Option<Vec<EventInput<'a>>>,
}

/// The id of the accepted event, or the ids in the order of the batch.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum PublishReply {
    One {
        id: String,
        /// Where the data does not fit the schema of its type, if the tenant wants to be warned.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        #[schema(required = false)]
        warnings: Vec<Warning>,
    },
    Batch {
        ids: Vec<String>,
        /// At most one for an event, and 100 in all.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        #[schema(required = false)]
        warnings: Vec<Warning>,
    },
}

/// Data that does not fit the schema of its type.
#[derive(Serialize, ToSchema)]
#[schema(as = PublishWarning)]
pub(super) struct Warning {
    /// JSON Pointer of the value in the body.
    #[schema(example = "/data/amount")]
    param: String,
    message: String,
}

/// A `null` is data like any other.
fn raw<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Stops reading at the bound, so that a body full of `{}` cannot become a list of 350,000.
fn bounded<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<EventInput<'a>>>, D::Error> {
    struct Bounded;
    impl<'de> Visitor<'de> for Bounded {
        type Value = Vec<EventInput<'de>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of events")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut events = Vec::new();
            while let Some(event) = list.next_element()? {
                if events.len() == EVENT_BATCH_MAX {
                    return Err(serde::de::Error::custom(format!("a batch has at most {EVENT_BATCH_MAX} events")));
                }
                events.push(event);
            }
            Ok(events)
        }
    }
    deserializer.deserialize_seq(Bounded).map(Some)
}

pub(super) async fn publish(mut call: Call) -> Result<Reply> {
    let body = call.bytes(EVENT_BODY_BYTES_MAX).await?;
    let header_key = idempotency::header(&call)?;
    let publisher = trace_parent(&call);
    let span = traces::ingest(publisher.as_deref());
    let trace_parent = span.as_ref().map_or(publisher, |span| Some(span.trace_parent().to_string().into()));
    let mut body: Body = json::parse_flat(&body)?;
    let batch = body.events.take();
    let is_batch = batch.is_some();
    let reader = Reader { call: &call, default_tenant: body.tenant_id, trace_parent };
    let events = match batch {
        None => vec![reader.event("", EventInput::from(body), header_key.map(Into::into))?],
        Some(batch) => {
            check_alone(&body)?;
            if batch.is_empty() {
                return Err(ApiError::field("events", "a batch has at least one event"));
            }
            reader.batch(batch, header_key.as_deref())?
        }
    };
    let published = call.app().engine.publish(events).await.map_err(|error| refusal(error, is_batch))?;
    if let Some(span) = span {
        traces::end_ingest(span, published.iter().map(|event| event.id.as_str()));
    }
    answer(published, is_batch)
}

/// Names the value of an event that does not fit by its place in the whole body.
fn refusal(error: PublishError, is_batch: bool) -> ApiError {
    match &error {
        PublishError::Misfit { at, misfit } => {
            let param = pointer(*at, &misfit.pointer, is_batch);
            ApiError::from(error).at(param)
        }
        _ => error.into(),
    }
}

fn pointer(at: usize, pointer: &str, is_batch: bool) -> String {
    if is_batch { format!("/events/{at}/data{pointer}") } else { format!("/data{pointer}") }
}

fn answer(published: Vec<Published>, is_batch: bool) -> Result<Reply> {
    let is_repeat = published.iter().all(|event| event.repeat);
    let status = if is_repeat { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut warnings = Vec::new();
    let mut ids = Vec::with_capacity(published.len());
    for (at, event) in published.into_iter().enumerate() {
        if let Some(misfit) = event.misfit.filter(|_| warnings.len() < WARNINGS_MAX) {
            warnings.push(Warning { param: pointer(at, &misfit.pointer, is_batch), message: misfit.message });
        }
        ids.push(event.id);
    }
    if is_batch {
        return Reply::json(status, &PublishReply::Batch { ids, warnings });
    }
    let id = ids.pop().ok_or_else(|| ApiError::internal(anyhow::anyhow!("the engine gave no id")))?;
    Reply::json(status, &PublishReply::One { id, warnings })
}

/// Beside `events`, only the tenant for all of them may be given.
fn check_alone(body: &Body<'_>) -> Result<()> {
    let given = [
        ("type", body.event_type.is_some()),
        ("data", body.data.is_some()),
        ("id", body.id.is_some()),
        ("idempotency_key", body.idempotency_key.is_some()),
        ("ordering_key", body.ordering_key.is_some()),
        ("occurred_at", body.occurred_at.is_some()),
    ];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((name, _)) => Err(ApiError::field(name, "belongs into the events of a batch, not beside them")),
    }
}

impl<'a> From<Body<'a>> for EventInput<'a> {
    fn from(body: Body<'a>) -> EventInput<'a> {
        EventInput {
            tenant_id: body.tenant_id,
            event_type: body.event_type,
            data: body.data,
            id: body.id,
            idempotency_key: body.idempotency_key,
            ordering_key: body.ordering_key,
            occurred_at: body.occurred_at,
        }
    }
}

/// Checks events and makes them ready for the engine.
struct Reader<'a> {
    call: &'a Call,
    default_tenant: Option<TenantId>,
    trace_parent: Option<Box<str>>,
}

impl Reader<'_> {
    fn batch(&self, batch: Vec<EventInput<'_>>, header_key: Option<&str>) -> Result<Vec<Publish>> {
        let numbered = batch.into_iter().enumerate();
        numbered
            .map(|(at, event)| {
                // An arrow cannot be part of a key that is given, so these keys cannot meet those of single events.
                let key = header_key.map(|key| format!("{key}→{at}").into());
                self.event(&format!("events[{at}]."), event, key)
            })
            .collect()
    }

    /// `place` is what stands before a field's name in errors.
    fn event(&self, place: &str, event: EventInput<'_>, header_key: Option<Box<str>>) -> Result<Publish> {
        let at = |name: &str| format!("{place}{name}");
        let missing = |name: &'static str| ApiError { param: Some(at(name)), ..ApiError::missing(name) };
        let event_type = event.event_type.ok_or_else(|| missing("type"))?;
        check_event_type(&event_type).map_err(|error| ApiError::field(at("type"), error.0))?;
        if is_reserved(&event_type) {
            return Err(ApiError::field(at("type"), "types that begin with postrider. are for Postrider's own events"));
        }
        let data = event.data.ok_or_else(|| missing("data"))?.get();
        if json::is_deeper_than(data.as_bytes(), JSON_DEPTH_MAX) {
            return Err(ApiError::field(at("data"), format!("nests deeper than {JSON_DEPTH_MAX}")));
        }
        check_text(at, "id", event.id.as_deref(), EXTERNAL_ID_BYTES_MAX, is_id_char)?;
        check_text(at, "idempotency_key", event.idempotency_key.as_deref(), IDEMPOTENCY_KEY_BYTES_MAX, is_key_char)?;
        check_text(at, "ordering_key", event.ordering_key.as_deref(), ORDERING_KEY_BYTES_MAX, |c| !c.is_control())?;
        let tenant_id = self
            .call
            .tenant(event.tenant_id.or(self.default_tenant))
            .map_err(|error| ApiError { param: Some(at("tenant_id")), ..error })?;
        Ok(Publish {
            tenant_id,
            event_type,
            occurred_at: event.occurred_at,
            external_id: event.id,
            idempotency_key: event.idempotency_key.or(header_key),
            ordering_key: event.ordering_key,
            trace_parent: self.trace_parent.clone(),
            data: Bytes::copy_from_slice(data.as_bytes()),
        })
    }
}

/// Fit for a header, and without the full stop that separates what is signed.
fn is_id_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':')
}

fn is_key_char(c: char) -> bool {
    matches!(c, ' '..='~')
}

fn check_text(
    at: impl Fn(&str) -> String,
    name: &str,
    text: Option<&str>,
    bytes_max: usize,
    is_allowed: impl Fn(char) -> bool,
) -> Result<()> {
    let Some(text) = text else { return Ok(()) };
    if text.is_empty() || text.len() > bytes_max {
        return Err(ApiError::field(at(name), format!("has 1 to {bytes_max} bytes")));
    }
    match text.chars().find(|c| !is_allowed(*c)) {
        None => Ok(()),
        Some(c) => Err(ApiError::field(at(name), format!("may not contain {c:?}"))),
    }
}

/// The W3C trace context of the publisher, if it is well formed.
fn trace_parent(call: &Call) -> Option<Box<str>> {
    let value = call.parts.headers.get("traceparent")?.to_str().ok()?;
    Some(value.parse::<TraceParent>().ok()?.to_string().into())
}
