//! A webhook of this contract: read from a request, shown in a reply.

use postrider_core::dialect::Dialect;
use postrider_core::limits::{EVENT_TYPE_BYTES_MAX, SUBSCRIPTIONS_MAX};
use postrider_core::signing::Secret;
use postrider_core::time::UnixMs;
use postrider_core::webhook::WebhookStatus;
use serde::{Deserialize, Serialize};
use uuid::fmt::Hyphenated;

use crate::api::error::{ApiError, Result};
use crate::registry::Patch;
use crate::registry::webhooks::{DEFAULT_SOURCE, ReceiverChange, WebhookChange, receive_url};
use crate::store::WebhookRecord;

/// Fields of a new webhook. As everywhere in this contract, what it does not know is ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Create {
    name: Option<String>,
    url: Option<String>,
    events: Option<Vec<String>>,
    source: Option<String>,
    description: Option<String>,
    secret: Option<Secret>,
    secrets: Option<Vec<Secret>>,
    verify_token: Option<Secret>,
}

impl Create {
    pub(super) fn into_change(self, origin: String) -> Result<WebhookChange> {
        let receiver = ReceiverChange {
            source: Patch::Set(self.source.unwrap_or_else(|| DEFAULT_SOURCE.to_owned())),
            secrets: ReceiverChange::secrets(self.secret.into(), self.secrets.into()),
            verify_token: self.verify_token.into(),
            ..ReceiverChange::default()
        };
        Ok(WebhookChange {
            name: Patch::Set(self.name.ok_or_else(|| ApiError::missing("name"))?),
            url: self.url.into(),
            events: Patch::Set(normalised(self.events.unwrap_or_default())?),
            description: self.description.into(),
            dialect: Patch::Set(Dialect::Alumia),
            receiver: Patch::Set(receiver),
            origin,
            ..WebhookChange::default()
        })
    }
}

/// Any subset of the fields. `null` resets a field, where it has something to be reset to.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Change {
    #[serde(default)]
    name: Patch<String>,
    #[serde(default)]
    url: Patch<String>,
    #[serde(default)]
    source: Patch<String>,
    #[serde(default)]
    description: Patch<String>,
    #[serde(default)]
    events: Patch<Vec<String>>,
    #[serde(default)]
    enabled: Patch<bool>,
    #[serde(default)]
    status: Patch<WebhookStatus>,
    #[serde(default)]
    secret: Patch<Secret>,
    #[serde(default)]
    secrets: Patch<Vec<Secret>>,
    #[serde(default)]
    verify_token: Patch<Secret>,
}

impl Change {
    /// `status`: what it is now.
    pub(super) fn into_change(self, status: WebhookStatus, origin: String) -> Result<WebhookChange> {
        if matches!(self.name, Patch::Null) {
            return Err(ApiError::field("name", "may not be null"));
        }
        let events = match self.events {
            Patch::Absent => Patch::Absent,
            Patch::Null => Patch::Null,
            Patch::Set(events) => Patch::Set(normalised(events)?),
        };
        let receiver = ReceiverChange {
            source: self.source,
            secrets: ReceiverChange::secrets(self.secret, self.secrets),
            verify_token: self.verify_token,
            ..ReceiverChange::default()
        };
        let is_untouched = matches!(
            receiver,
            ReceiverChange { source: Patch::Absent, secrets: Patch::Absent, verify_token: Patch::Absent, .. }
        );
        Ok(WebhookChange {
            name: self.name,
            url: self.url,
            events,
            description: self.description,
            receiver: if is_untouched { Patch::Absent } else { Patch::Set(receiver) },
            status: new_status(self.status, self.enabled, status)?,
            origin,
            ..WebhookChange::default()
        })
    }
}

/// `status` says it; else `enabled` does, which leaves a paused webhook paused when it is false.
fn new_status(status: Patch<WebhookStatus>, enabled: Patch<bool>, now: WebhookStatus) -> Result<Patch<WebhookStatus>> {
    Ok(match (status, enabled) {
        (Patch::Null, _) => return Err(ApiError::field("status", "is active, paused or disabled")),
        (Patch::Set(status), _) => Patch::Set(status),
        (Patch::Absent, Patch::Absent) => Patch::Absent,
        (Patch::Absent, Patch::Null) => return Err(ApiError::field("enabled", "is true or false")),
        (Patch::Absent, Patch::Set(true)) => Patch::Set(WebhookStatus::Active),
        (Patch::Absent, Patch::Set(false)) if now == WebhookStatus::Active => Patch::Set(WebhookStatus::Disabled),
        (Patch::Absent, Patch::Set(false)) => Patch::Absent,
    })
}

/// Trimmed, in lower case, without empty ones and repeats, sorted.
pub(super) fn normalised(events: Vec<String>) -> Result<Vec<String>> {
    let mut all: Vec<String> = events.iter().map(|event| event.trim().to_lowercase()).collect();
    all.retain(|event| !event.is_empty());
    all.sort_unstable();
    all.dedup();
    let is_type = |event: &str| {
        let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
        (1..=EVENT_TYPE_BYTES_MAX).contains(&event.len()) && event.bytes().all(is_fit)
    };
    let is_pattern = |event: &String| event == "*" || is_type(event.strip_suffix(".*").unwrap_or(event));
    if !all.iter().all(is_pattern) {
        let message =
            format!("each is `*`, or 1 to {EVENT_TYPE_BYTES_MAX} of a-z 0-9 _ . - with an optional .* at the end");
        return Err(ApiError::field("events", message));
    }
    if all.len() > SUBSCRIPTIONS_MAX {
        return Err(ApiError::field("events", format!("may have at most {SUBSCRIPTIONS_MAX} entries")));
    }
    Ok(all)
}

/// A webhook as it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Webhook {
    id: Hyphenated,
    name: String,
    url: String,
    source: String,
    description: Option<String>,
    events: Vec<String>,
    status: WebhookStatus,
    enabled: bool,
    delivery_count: u64,
    last_delivery_at: Option<UnixMs>,
    created_at: UnixMs,
    updated_at: UnixMs,
    receive_url: String,
}

/// What history says of a webhook.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Past {
    pub deliveries: u64,
    pub last_delivery_at: Option<UnixMs>,
}

impl Webhook {
    pub(super) fn of(record: &WebhookRecord, past: Past, origin: &str) -> Webhook {
        let spec = &record.spec;
        let receive_url = receive_url(origin, record.id);
        Webhook {
            id: record.id.0.hyphenated(),
            name: spec.name.clone().unwrap_or_default(),
            url: if spec.url.is_empty() { receive_url.clone() } else { spec.url.clone() },
            source: spec.receiver.as_ref().map(|receiver| receiver.source.clone()).unwrap_or_default(),
            description: spec.description.clone(),
            events: spec.events.0.clone(),
            status: record.status,
            enabled: record.status == WebhookStatus::Active,
            delivery_count: past.deliveries,
            last_delivery_at: past.last_delivery_at,
            created_at: record.created_at,
            updated_at: record.updated_at,
            receive_url,
        }
    }
}

/// A webhook with its secret, shown when it is made and when it is rotated.
#[derive(Debug, Serialize)]
pub(super) struct WithSecret {
    #[serde(flatten)]
    pub webhook: Webhook,
    pub secret: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(events: &[&str]) -> Result<Vec<String>> {
        normalised(events.iter().map(|event| (*event).to_owned()).collect())
    }

    #[test]
    fn event_types_are_normalised() {
        for (given, kept) in [
            (&[" B ", "a", "", "  ", "A", "b"][..], &["a", "b"][..]),
            (&["payment_intent.succeeded", "Invoice.*", "*"], &["*", "invoice.*", "payment_intent.succeeded"]),
            (&[], &[]),
            (&[""], &[]),
        ] {
            assert_eq!(of(given).unwrap(), kept, "{given:?}");
        }
        let long = "x".repeat(EVENT_TYPE_BYTES_MAX);
        assert_eq!(of(&[&long, &format!("{long}.*")]).unwrap().len(), 2);
    }

    #[test]
    fn event_types_that_cannot_be_are_refused() {
        let long = "x".repeat(EVENT_TYPE_BYTES_MAX + 1);
        for wrong in ["a b", "a/b", "a*", "*.a", ".*", "é", "a\0", long.as_str(), &format!("{long}.*")] {
            assert_eq!(of(&[wrong]).unwrap_err().param.as_deref(), Some("events"), "{wrong:?}");
        }
        let many = |n: usize| {
            of(&(0..n).map(|n| format!("e{n}")).collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>())
        };
        assert_eq!(many(SUBSCRIPTIONS_MAX).unwrap().len(), SUBSCRIPTIONS_MAX);
        assert!(many(SUBSCRIPTIONS_MAX + 1).is_err());
        let repeated = vec!["a"; SUBSCRIPTIONS_MAX + 1];
        assert_eq!(of(&repeated).unwrap(), ["a"], "repeats do not count");
    }
}
