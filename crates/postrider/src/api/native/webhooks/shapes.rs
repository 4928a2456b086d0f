//! A webhook on the wire.

mod receiver;

use std::collections::BTreeMap;

use postrider_core::dialect::Dialect;
use postrider_core::filter::Filter;
use postrider_core::ids::{TenantId, WebhookId};
use postrider_core::signing::Secret;
use postrider_core::time::UnixMs;
use postrider_core::webhook::{Concurrency, Ordering, RateLimit, RetryPolicy, WebhookStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::registry::Patch;
use crate::registry::webhooks::{WebhookChange, masked};
use crate::schemas;
use crate::store::{WebhookHealth, WebhookRecord};
use receiver::{Receiver, ReceiverFields};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookCreate {
    /// Needed with the platform admin key; implied by a tenant's key.
    #[schema(value_type = Option<String>)]
    pub tenant_id: Option<TenantId>,
    #[schema(min_length = 1, max_length = 120)]
    name: Option<String>,
    /// Where to deliver: https, unless the deployment allows http for the address. Needed unless the webhook receives;
    /// without one, what it receives only enters the tenant's events.
    #[schema(example = "https://example.com/hook", max_length = 2048)]
    url: Option<String>,
    /// Makes it a receiver, too: a URL of ours that a third party sends its webhooks to.
    receiver: Option<ReceiverFields>,
    /// Event types, exact (`user.created`) or by prefix (`user.*`); empty or `["*"]`: all.
    #[schema(max_items = 100)]
    events: Vec<String>,
    #[schema(max_length = 2000)]
    description: Option<String>,
    /// The tenant's unless given.
    #[schema(value_type = Option<schemas::Dialect>)]
    dialect: Option<Dialect>,
    /// Made up unless given. For `standard`: `whsec_<base64 of 24 to 64 bytes>`, or `whsk_<base64>` for ed25519.
    #[schema(value_type = Option<String>)]
    secret: Option<Secret>,
    /// Sent with every request.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Of one attempt; the dialect's unless given.
    #[schema(minimum = 100, maximum = 300_000)]
    timeout_ms: Option<u32>,
    retry: Option<Retry>,
    rate_limit: Option<RateLimitShape>,
    concurrency: Option<ConcurrencyShape>,
    #[schema(value_type = Option<schemas::Ordering>)]
    ordering: Option<Ordering>,
    /// Only events that pass: `{"all":[{"path":"data.amount","op":"gte","value":100}]}` with `all`, `any`, `not` and
    /// the operators `eq ne gt gte lt lte in exists prefix`.
    #[schema(value_type = Option<Object>)]
    filter: Option<Value>,
    /// Yours; not sent.
    #[serde(default)]
    #[schema(value_type = Object)]
    metadata: BTreeMap<String, Value>,
}

/// The waits before each further try, or how many tries in all; one of the two.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, try_from = "RetryFields")]
pub(super) struct Retry {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 20)]
    schedule_ms: Option<Vec<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 30)]
    max_attempts: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryFields {
    schedule_ms: Option<Vec<u64>>,
    max_attempts: Option<u32>,
}

impl TryFrom<RetryFields> for Retry {
    type Error = &'static str;

    fn try_from(fields: RetryFields) -> Result<Retry, Self::Error> {
        match (&fields.schedule_ms, &fields.max_attempts) {
            (Some(_), None) | (None, Some(_)) => {
                Ok(Retry { schedule_ms: fields.schedule_ms, max_attempts: fields.max_attempts })
            }
            _ => Err("give either schedule_ms or max_attempts"),
        }
    }
}

impl From<Retry> for RetryPolicy {
    fn from(retry: Retry) -> RetryPolicy {
        match (retry.schedule_ms, retry.max_attempts) {
            (Some(schedule_ms), _) => RetryPolicy::Schedule { schedule_ms },
            (None, max_attempts) => RetryPolicy::MaxAttempts { max_attempts: max_attempts.unwrap_or(1) },
        }
    }
}

impl From<&RetryPolicy> for Retry {
    fn from(policy: &RetryPolicy) -> Retry {
        match policy {
            RetryPolicy::Schedule { schedule_ms } => {
                Retry { schedule_ms: Some(schedule_ms.clone()), max_attempts: None }
            }
            RetryPolicy::MaxAttempts { max_attempts } => Retry { schedule_ms: None, max_attempts: Some(*max_attempts) },
        }
    }
}

/// At most so many attempts a second.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RateLimit)]
pub(super) struct RateLimitShape {
    #[schema(minimum = 0.01, maximum = 100_000)]
    per_second: f64,
}

/// At most so many attempts in flight.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Concurrency)]
pub(super) struct ConcurrencyShape {
    #[schema(minimum = 1, maximum = 64)]
    max: u32,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookPatch {
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 120)]
    name: Patch<String>,
    /// Null, of a receiver: nothing is forwarded.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 2048)]
    url: Patch<String>,
    /// Null: it no longer receives.
    #[serde(default)]
    #[schema(value_type = Option<ReceiverFields>)]
    receiver: Patch<ReceiverFields>,
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, max_items = 100)]
    events: Patch<Vec<String>>,
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 2000)]
    description: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<schemas::Dialect>)]
    dialect: Patch<Dialect>,
    /// All of them. A value shown as `***` leaves the header as it is.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    headers: Patch<BTreeMap<String, String>>,
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 100, maximum = 300_000)]
    timeout_ms: Patch<u32>,
    #[serde(default)]
    #[schema(value_type = Option<Retry>)]
    retry: Patch<Retry>,
    #[serde(default)]
    #[schema(value_type = Option<RateLimitShape>)]
    rate_limit: Patch<RateLimitShape>,
    #[serde(default)]
    #[schema(value_type = Option<ConcurrencyShape>)]
    concurrency: Patch<ConcurrencyShape>,
    #[serde(default)]
    #[schema(value_type = Option<schemas::Ordering>)]
    ordering: Patch<Ordering>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    filter: Patch<Value>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Patch<BTreeMap<String, Value>>,
    #[serde(default)]
    #[schema(value_type = Option<schemas::WebhookStatus>)]
    status: Patch<WebhookStatus>,
}

impl WebhookPatch {
    /// `origin`: under which we are reached.
    pub(super) fn into_change(self, origin: String) -> WebhookChange {
        let patch = self;
        WebhookChange {
            name: patch.name,
            url: patch.url,
            receiver: patch.receiver.map(ReceiverFields::into_change),
            events: patch.events,
            description: patch.description,
            dialect: patch.dialect,
            headers: patch.headers,
            timeout_ms: patch.timeout_ms,
            retry: patch.retry.map(RetryPolicy::from),
            rate_limit: patch.rate_limit.map(|limit| RateLimit { per_second: limit.per_second }),
            concurrency: patch.concurrency.map(|limit| Concurrency { max: limit.max }),
            ordering: patch.ordering,
            filter: patch.filter,
            metadata: patch.metadata,
            status: patch.status,
            origin,
        }
    }
}

impl WebhookCreate {
    /// `origin`: under which we are reached.
    pub(super) fn into_change(self, origin: String) -> (WebhookChange, Option<Secret>) {
        let change = WebhookChange {
            name: self.name.into(),
            url: self.url.into(),
            receiver: self.receiver.map(ReceiverFields::into_change).into(),
            events: Patch::Set(self.events),
            description: self.description.into(),
            dialect: self.dialect.into(),
            headers: Patch::Set(self.headers),
            timeout_ms: self.timeout_ms.into(),
            retry: self.retry.map(RetryPolicy::from).into(),
            rate_limit: self.rate_limit.map(|limit| RateLimit { per_second: limit.per_second }).into(),
            concurrency: self.concurrency.map(|limit| Concurrency { max: limit.max }).into(),
            ordering: self.ordering.into(),
            filter: self.filter.into(),
            metadata: Patch::Set(self.metadata),
            status: Patch::Absent,
            origin,
        };
        (change, self.secret)
    }
}

/// A webhook, without its secret.
#[derive(Serialize, ToSchema)]
pub(super) struct Webhook {
    #[schema(value_type = String, example = "wh_7d0c2f8e4f8f4e0f9d5ab9b7a3f3a1c7")]
    id: WebhookId,
    #[schema(value_type = String)]
    tenant_id: TenantId,
    name: Option<String>,
    /// Null: it only receives.
    url: Option<String>,
    /// Null: it does not receive.
    receiver: Option<Receiver>,
    events: Vec<String>,
    description: Option<String>,
    #[schema(value_type = schemas::Dialect)]
    dialect: Dialect,
    /// The values of those whose name says that they are credentials are shown as `***`.
    headers: BTreeMap<String, String>,
    /// Null: the dialect's.
    timeout_ms: Option<u32>,
    /// Null: the dialect's.
    retry: Option<Retry>,
    rate_limit: Option<RateLimitShape>,
    concurrency: Option<ConcurrencyShape>,
    #[schema(value_type = schemas::Ordering)]
    ordering: Ordering,
    #[schema(value_type = Option<Object>)]
    filter: Option<Filter>,
    #[schema(value_type = Object)]
    metadata: BTreeMap<String, Value>,
    #[schema(value_type = schemas::WebhookStatus)]
    status: WebhookStatus,
    disabled_reason: Option<String>,
    /// Made by `postrider listen`; goes when the listener disconnects.
    temporary: bool,
    /// A delivery has failed for good, and none has succeeded since.
    failing: bool,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_delivery_at: Option<UnixMs>,
    last_delivery_status: Option<LastStatus>,
    #[schema(value_type = String, format = DateTime)]
    created_at: UnixMs,
    #[schema(value_type = String, format = DateTime)]
    updated_at: UnixMs,
}

/// What the last attempt came to.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum LastStatus {
    Succeeded,
    Failed,
}

#[derive(Serialize, ToSchema)]
pub(super) struct WebhookCreated {
    #[serde(flatten)]
    pub webhook: Webhook,
    /// Shown only here; keep it.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    pub secret: String,
}

impl Webhook {
    /// `origin`: under which we are reached.
    pub(super) fn of(record: &WebhookRecord, health: Option<&WebhookHealth>, origin: &str) -> Webhook {
        let spec = &record.spec;
        let status = |succeeded| if succeeded { LastStatus::Succeeded } else { LastStatus::Failed };
        Webhook {
            id: record.id,
            tenant_id: record.tenant_id,
            name: spec.name.clone(),
            url: (!spec.url.is_empty()).then(|| spec.url.clone()),
            receiver: spec.receiver.as_ref().map(|receiver| Receiver::of(receiver, record.id, origin)),
            events: spec.events.0.clone(),
            description: spec.description.clone(),
            dialect: spec.dialect,
            headers: masked(&spec.headers),
            timeout_ms: spec.timeout_ms,
            retry: spec.retry.as_ref().map(Retry::from),
            rate_limit: spec.rate_limit.map(|limit| RateLimitShape { per_second: limit.per_second }),
            concurrency: spec.concurrency.map(|limit| ConcurrencyShape { max: limit.max }),
            ordering: spec.ordering,
            filter: spec.filter.clone(),
            metadata: spec.metadata.clone(),
            status: record.status,
            disabled_reason: record.disabled_reason.clone(),
            temporary: record.temporary,
            failing: health.is_some_and(|health| health.failing),
            last_delivery_at: health.and_then(|health| health.last_delivery_at),
            last_delivery_status: health.and_then(|health| health.last_succeeded).map(status),
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }
}
