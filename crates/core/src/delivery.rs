//! The life of one delivery: what an attempt came to, and what follows from it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::dialect::Dialect;
use crate::retry::Schedule;
use crate::time::UnixMs;

/// Why a delivery exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    Event,
    /// A finished delivery that somebody asked to try again.
    Retry,
    Replay,
    Test,
}

/// Where a delivery stands, as users see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryStatus {
    Pending,
    /// Pending, and a request is in flight.
    Delivering,
    Succeeded,
    Failed,
    Canceled,
}

/// The class of an attempt that was no success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    Dns,
    RefusedByPolicy,
    Connect,
    Tls,
    Timeout,
    Reset,
    TooLarge,
    /// The endpoint answered, but not with 2xx.
    HttpStatus,
    /// The webhook was disabled or deleted.
    Disabled,
    OverLimit,
    /// Cut short because the process was stopping; never counted.
    Shutdown,
}

/// Why an attempt was no success. `detail` is safe to show to the tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptError {
    pub class: ErrorClass,
    pub detail: String,
}

/// What the endpoint answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    pub status: u16,
    /// Names in lower case; values that are not UTF-8 are shown with replacement characters.
    pub headers: Vec<(String, String)>,
    /// The first bytes of the body, lossily as text.
    pub body: String,
}

/// One request made for a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// 1-based, over the whole life of the delivery.
    pub number: u32,
    pub at: UnixMs,
    pub duration_ms: u32,
    pub response: Option<Response>,
    pub error: Option<AttemptError>,
    pub remote_address: Option<IpAddr>,
}

impl Attempt {
    /// A 2xx reply within the deadline.
    pub fn succeeded(&self) -> bool {
        self.error.is_none() && self.response.as_ref().is_some_and(|r| (200..300).contains(&r.status))
    }
}

/// How far a delivery has come: what must be stored to go on after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Attempts made and counted so far.
    pub attempts: u32,
    /// Waits of the schedule used so far.
    pub step: u32,
    /// Set while a retry asked for by hand runs before its turn: when the schedule goes on.
    pub resume_at: Option<UnixMs>,
}

/// What follows an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    Succeeded,
    Retry {
        due_at: UnixMs,
        progress: Progress,
    },
    Failed,
    /// Failed, and the endpoint asked for nothing more (410 in a dialect that honours it): disable the webhook.
    FailedAndDisable,
    /// Not counted: back to pending, due at once.
    Release,
}

/// Decides what follows `attempt`.
///
/// `progress` is the state before the attempt; `jitter` in `0.0..1.0` is a random draw; `now` is when the attempt
/// ended. Obeys `Retry-After` on 429 and 503 (never sooner than the schedule, at most
/// [`limits::RETRY_AFTER_MAX`](crate::limits::RETRY_AFTER_MAX) later), 410, and `webhook-delivery: abort`.
pub fn transition(
    dialect: Dialect,
    schedule: &Schedule,
    progress: Progress,
    attempt: &Attempt,
    now: UnixMs,
    jitter: f64,
) -> Transition {
    let _ = (dialect, schedule, progress, attempt, now, jitter);
    unimplemented!("core")
}
