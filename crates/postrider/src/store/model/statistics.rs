//! What is counted, and how it is asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_core::ids::WebhookId;
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};

use super::Scope;

#[derive(Clone, Debug)]
pub struct StatsQuery {
    pub scope: Scope,
    pub webhook_id: Option<WebhookId>,
    pub since: UnixMs,
    pub until: UnixMs,
    /// Width of a bucket of the series, milliseconds: a multiple of [`ROLLUP_MS`].
    pub bucket_ms: i64,
}

/// Width of the stored buckets, milliseconds.
pub const ROLLUP_MS: i64 = 5 * 60 * 1000;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Deliveries that ended in the window.
    pub succeeded: u64,
    pub failed: u64,
    pub canceled: u64,
    /// Attempts made in the window, by status code (`0`: none received).
    pub attempts: u64,
    pub by_status_code: BTreeMap<u16, u64>,
    /// Deliveries pending now.
    pub pending: u64,
    /// Over attempts that got a reply, milliseconds; within 3.2 % (see `histogram`).
    pub latency: Option<Latency>,
    pub last_success_at: Option<UnixMs>,
    pub last_failure_at: Option<UnixMs>,
    pub series: Vec<StatsPoint>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub avg_ms: f64,
    pub p50_ms: u32,
    pub p95_ms: u32,
    pub p99_ms: u32,
    pub max_ms: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatsPoint {
    /// Start of the bucket.
    pub at: UnixMs,
    pub succeeded: u64,
    pub failed: u64,
    /// As [`Stats::latency`], of the attempts in this bucket.
    pub latency: Option<Latency>,
}

/// What one webhook did in a window.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookTotals {
    pub webhook_id: WebhookId,
    pub succeeded: u64,
    pub failed: u64,
    pub latency: Option<Latency>,
}

/// What is different whenever a tenant's newest events or its deliveries are, but for what was only queued. To be compared
/// and nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Of the newest events.
    pub events: i64,
    /// Of what came of deliveries.
    pub outcomes: i64,
}

/// How a webhook has been doing; all `None` before its first attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookHealth {
    pub webhook_id: WebhookId,
    pub last_delivery_at: Option<UnixMs>,
    pub last_success_at: Option<UnixMs>,
    pub last_failure_at: Option<UnixMs>,
    /// Whether the last attempt succeeded.
    pub last_succeeded: Option<bool>,
    /// Since when nothing but failures.
    pub failing_since: Option<UnixMs>,
    pub consecutive_failures: u32,
    /// A delivery failed for good and none has succeeded since.
    pub failing: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    pub pending: u64,
    pub oldest_due: Option<UnixMs>,
    pub store_bytes: u64,
}

/// A process that has not been taken for dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LivingNode {
    pub name: String,
    pub slot: i16,
    pub version: String,
    pub is_this: bool,
    /// Since its last heartbeat, and after how long others take its deliveries over.
    pub silent: Duration,
    pub ttl: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    pub days_dropped: u32,
    pub rows_removed: u64,
    pub more: bool,
}
