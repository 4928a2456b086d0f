//! What a webhook is: one endpoint of a tenant, what it subscribes to and how it wants to be called.

mod check;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::check::InvalidField;
pub(crate) use self::check::check_headers;
use ipnet::IpNet;

use crate::dialect::Dialect;
use crate::filter::Filter;
use crate::gateway::webhook::GatewaySpec;
use crate::subscription::Subscriptions;

/// Whether deliveries are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookStatus {
    /// Events are fanned out to it and delivered.
    #[default]
    Active,
    /// Events are fanned out to it and wait until it is active again.
    Paused,
    /// Nothing is fanned out to it; what was pending is canceled.
    Disabled,
}

/// In which order deliveries to one webhook are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// Concurrently, in no promised order.
    #[default]
    None,
    /// One at a time in order of acceptance; a failing delivery parks the webhook.
    Strict,
    /// One at a time per `ordering_key` of the event; a failing delivery parks its key.
    ByKey,
}

/// How often and when a failed delivery is tried again; exactly one of the two is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, try_from = "RetryFields")]
pub enum RetryPolicy {
    /// The waits before each further try, in milliseconds.
    Schedule { schedule_ms: Vec<u64> },
    /// The dialect's schedule, cut or continued to this many tries in all.
    MaxAttempts { max_attempts: u32 },
}

/// A policy as it is read: with names of fields, so that nothing is passed over in silence.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryFields {
    schedule_ms: Option<Vec<u64>>,
    max_attempts: Option<u32>,
}

impl TryFrom<RetryFields> for RetryPolicy {
    type Error = &'static str;
    fn try_from(fields: RetryFields) -> Result<RetryPolicy, &'static str> {
        match (fields.schedule_ms, fields.max_attempts) {
            (Some(schedule_ms), None) => Ok(RetryPolicy::Schedule { schedule_ms }),
            (None, Some(max_attempts)) => Ok(RetryPolicy::MaxAttempts { max_attempts }),
            _ => Err("retry takes either schedule_ms or max_attempts"),
        }
    }
}

/// At most this many attempts a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateLimit {
    pub per_second: f64,
}

/// At most this many attempts in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concurrency {
    pub max: u32,
}

/// What a webhook that also receives knows beside its secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReceiverSpec {
    /// Who sends, as the user wrote it; which provider that is, says [`Provider::find`](crate::inbound::Provider::find).
    pub source: String,
    /// The receive URL as the provider was told it, for the schemes that sign it. Never made from what is received.
    pub url: String,
    /// From where requests are taken; empty: from anywhere.
    #[serde(default)]
    pub allowed_addresses: Vec<IpNet>,
    /// Requests a second that are taken; the rest is answered 429. `None`: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// What an accepted request is answered with. `None`: what the provider or else the contract wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<ReceiverAnswer>,
}

/// An answer of the user's own to accepted requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverAnswer {
    /// 200 to 299.
    pub status: u16,
    #[serde(default)]
    pub content_type: Option<String>,
    #[serde(default)]
    pub body: String,
}

/// Everything a user decides about a webhook but its status and secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WebhookSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where deliveries go. Empty: nowhere, the webhook only receives.
    #[serde(default)]
    pub url: String,
    /// `None`: it only sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver: Option<ReceiverSpec>,
    /// Set: operations of the data gateway fire it, and events that are published do not reach it. `url` is then the
    /// origin that its requests go to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewaySpec>,
    #[serde(default)]
    pub events: Subscriptions,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default)]
    pub dialect: Dialect,
    /// Sent with every request; may not replace a header the dialect sets.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// `None`: the dialect's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
    /// `None`: the dialect's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    #[serde(default)]
    pub ordering: Ordering,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    #[serde(default)]
    pub metadata: BTreeMap<String, serde_json::Value>,
}

impl WebhookSpec {
    /// Whether all its deliveries must be sent by one process, its *home*: its order, its rate or its concurrency
    /// would not hold otherwise.
    pub fn is_homed(&self) -> bool {
        self.ordering != Ordering::None || self.rate_limit.is_some() || self.concurrency.is_some()
    }
}

#[cfg(test)]
mod tests;
