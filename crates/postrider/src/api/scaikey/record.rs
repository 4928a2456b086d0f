//! A webhook of this contract: read from a request, shown in a reply.

use std::ops::RangeInclusive;

use postrider_core::dialect::Dialect;
use postrider_core::ids::{PartnerId, WebhookId};
use postrider_core::limits::{TIMEOUT_MAX, TIMEOUT_MIN};
use postrider_core::subscription::Subscriptions;
use postrider_core::time::UnixMs;
use postrider_core::webhook::WebhookStatus;
use serde::Serialize;
use serde_json::{Number, Value};
use utoipa::ToSchema;

use super::reach::{partner_of, shown_tenant};
use super::reading::{Fields, Wrong, flag, list, seconds, text};
use crate::api::call::Call;
use crate::api::error::Result;
use crate::registry::Patch;
use crate::registry::webhooks::WebhookChange;
use crate::store::{WebhookHealth, WebhookRecord};

/// Fields of a new webhook.
#[derive(Debug, ToSchema)]
pub(super) struct WebhookCreate {
    /// Where to deliver: https, unless the deployment allows http for the address.
    #[schema(example = "https://example.com/hook", max_length = 2048)]
    url: String,
    /// Event types, exact (`user.created`) or by prefix (`user.*`); `["*"]` or an empty list: all.
    #[schema(max_items = 100)]
    events: Vec<String>,
    #[schema(value_type = Option<String>, max_length = 2000)]
    description: Patch<String>,
    /// Whose events it gets; the caller's tenant unless given.
    #[schema(value_type = Option<String>)]
    pub tenant_id: Patch<String>,
    /// Without a tenant: it gets the events of all the partner's tenants.
    #[schema(value_type = Option<String>)]
    pub partner_id: Patch<String>,
    #[schema(value_type = Option<bool>, default = true)]
    is_active: Patch<bool>,
    /// Of one attempt; 10 unless given.
    #[schema(value_type = Option<f64>, minimum = 0.1, maximum = 300)]
    timeout_seconds: Patch<u32>,
}

/// Any subset of the fields. A `null` resets `description` and `timeout_seconds`, and leaves the others as they are.
#[derive(Debug, ToSchema)]
pub(super) struct WebhookUpdate {
    #[schema(value_type = Option<String>, max_length = 2048)]
    url: Patch<String>,
    #[schema(value_type = Option<Vec<String>>, max_items = 100)]
    events: Patch<Vec<String>>,
    #[schema(value_type = Option<String>, max_length = 2000)]
    description: Patch<String>,
    #[schema(value_type = Option<bool>)]
    is_active: Patch<bool>,
    #[schema(value_type = Option<f64>, minimum = 0.1, maximum = 300)]
    timeout_seconds: Patch<u32>,
}

fn timeouts() -> RangeInclusive<f64> {
    TIMEOUT_MIN.as_secs_f64()..=TIMEOUT_MAX.as_secs_f64()
}

fn pattern(value: Value) -> Result<String, Wrong> {
    let pattern = text(value)?;
    Subscriptions::parse(std::slice::from_ref(&pattern)).map_err(|error| Wrong::value(&error.0))?;
    Ok(pattern)
}

/// What a caller can set but not empty: null leaves it as it is.
fn kept<T>(patch: Patch<T>) -> Patch<T> {
    if matches!(patch, Patch::Null) { Patch::Absent } else { patch }
}

fn given<T>(patch: &Patch<T>) -> Option<&T> {
    if let Patch::Set(value) = patch { Some(value) } else { None }
}

impl WebhookCreate {
    pub(super) fn read(mut body: Fields) -> Result<WebhookCreate> {
        let url = body.required("url", text);
        let events = body.required("events", |value| list(value, pattern));
        let wanted = WebhookCreate {
            url: url.unwrap_or_default(),
            events: events.unwrap_or_default(),
            description: body.optional("description", text),
            tenant_id: body.optional("tenant_id", text),
            partner_id: body.optional("partner_id", text),
            is_active: body.optional("is_active", flag),
            timeout_seconds: body.optional("timeout_seconds", |value| seconds(value, timeouts())),
        };
        body.problems.check()?;
        Ok(wanted)
    }

    pub(super) fn tenant(&self) -> Option<&str> {
        given(&self.tenant_id).map(String::as_str)
    }

    pub(super) fn partner(&self) -> Option<&str> {
        given(&self.partner_id).map(String::as_str)
    }

    /// `origin`: under which we are reached.
    pub(super) fn into_change(self, origin: String) -> WebhookChange {
        WebhookChange {
            url: Patch::Set(self.url),
            events: Patch::Set(self.events),
            description: self.description,
            dialect: Patch::Set(Dialect::Scaikey),
            timeout_ms: self.timeout_seconds,
            status: new_status(self.is_active, WebhookStatus::Active),
            origin,
            ..WebhookChange::default()
        }
    }
}

impl WebhookUpdate {
    pub(super) fn read(mut body: Fields) -> Result<WebhookUpdate> {
        let wanted = WebhookUpdate {
            url: body.optional("url", text),
            events: body.optional("events", |value| list(value, pattern)),
            description: body.optional("description", text),
            is_active: body.optional("is_active", flag),
            timeout_seconds: body.optional("timeout_seconds", |value| seconds(value, timeouts())),
        };
        body.problems.check()?;
        Ok(wanted)
    }

    /// `status`: what it is now; `origin`: under which we are reached.
    pub(super) fn into_change(self, status: WebhookStatus, origin: String) -> WebhookChange {
        WebhookChange {
            url: kept(self.url),
            events: kept(self.events),
            description: self.description,
            timeout_ms: self.timeout_seconds,
            status: new_status(self.is_active, status),
            origin,
            ..WebhookChange::default()
        }
    }
}

/// One that is not active anyhow stays as it is, paused or disabled.
fn new_status(is_active: Patch<bool>, now: WebhookStatus) -> Patch<WebhookStatus> {
    match is_active {
        Patch::Set(true) => Patch::Set(WebhookStatus::Active),
        Patch::Set(false) if now == WebhookStatus::Active => Patch::Set(WebhookStatus::Disabled),
        Patch::Set(false) | Patch::Absent | Patch::Null => Patch::Absent,
    }
}

/// A webhook, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Webhook {
    #[schema(value_type = String, example = "wh_7d0c2f8e4f8f4e0f9d5ab9b7a3f3a1c7")]
    id: WebhookId,
    /// Empty: it only receives.
    url: String,
    #[schema(required)]
    description: Option<String>,
    events: Vec<String>,
    is_active: bool,
    /// Null: of the partner, it gets the events of all the partner's tenants.
    #[schema(required, example = "tnt_4b0e5c1f0a7d4c0e9a3f6d2b8c1e7f90")]
    tenant_id: Option<String>,
    /// Null: the tenant has no partner.
    #[schema(required, value_type = Option<String>)]
    partner_id: Option<PartnerId>,
    #[schema(value_type = f64)]
    timeout_seconds: Number,
    #[schema(value_type = String, format = DateTime)]
    created_at: UnixMs,
    #[schema(value_type = String, format = DateTime)]
    updated_at: UnixMs,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    last_delivery_at: Option<UnixMs>,
    /// What the last attempt came to.
    #[schema(required)]
    last_delivery_status: Option<LastDeliveryStatus>,
    /// A delivery has failed for good, and none has succeeded since.
    failing: bool,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum LastDeliveryStatus {
    Succeeded,
    Failed,
}

/// A webhook with its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WebhookCreated {
    #[serde(flatten)]
    pub webhook: Webhook,
    /// Shown only here; keep it.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    pub secret: String,
}

impl Webhook {
    pub(super) fn of(call: &Call, record: &WebhookRecord, health: Option<&WebhookHealth>) -> Webhook {
        let partner_id = partner_of(call, record.tenant_id);
        let is_partners = partner_id.is_some_and(|partner| partner.0 == record.tenant_id.0);
        let status = |succeeded| if succeeded { LastDeliveryStatus::Succeeded } else { LastDeliveryStatus::Failed };
        let spec = &record.spec;
        let default_ms = u32::try_from(spec.dialect.timeout().as_millis()).unwrap_or(u32::MAX);
        Webhook {
            id: record.id,
            url: spec.url.clone(),
            description: spec.description.clone(),
            events: spec.events.0.clone(),
            is_active: record.status == WebhookStatus::Active,
            tenant_id: (!is_partners).then(|| shown_tenant(record.tenant_id)),
            partner_id,
            timeout_seconds: in_seconds(spec.timeout_ms.unwrap_or(default_ms)),
            created_at: record.created_at,
            updated_at: record.updated_at,
            last_delivery_at: health.and_then(|health| health.last_delivery_at),
            last_delivery_status: health.and_then(|health| health.last_succeeded).map(status),
            failing: health.is_some_and(|health| health.failing),
        }
    }
}

/// Whole seconds as an integer, as the contract's are.
fn in_seconds(ms: u32) -> Number {
    let whole = ms.is_multiple_of(1000).then(|| Number::from(ms / 1000));
    whole.or_else(|| Number::from_f64(f64::from(ms) / 1000.0)).unwrap_or_else(|| Number::from(ms / 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_have_no_fraction() {
        for (ms, text) in [(10_000, "10"), (2500, "2.5"), (100, "0.1"), (300_000, "300")] {
            assert_eq!(in_seconds(ms).to_string(), text);
        }
    }

    #[test]
    fn a_paused_webhook_stays_paused_when_it_is_set_inactive() {
        use WebhookStatus::{Active, Disabled, Paused};
        assert_eq!(new_status(Patch::Set(false), Active), Patch::Set(Disabled));
        assert_eq!(new_status(Patch::Set(false), Paused), Patch::Absent);
        assert_eq!(new_status(Patch::Set(false), Disabled), Patch::Absent);
        assert_eq!(new_status(Patch::Set(true), Paused), Patch::Set(Active));
        assert_eq!(new_status(Patch::Null, Active), Patch::Absent);
    }
}
