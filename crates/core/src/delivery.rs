//! The life of one delivery: what an attempt came to, and what follows from it.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::dialect::Dialect;
use crate::limits;
use crate::retry::{NextTry, Schedule};
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
///
/// An attempt made by hand before its turn (`progress.resume_at`) uses up no wait: if it fails, the schedule goes on
/// where it stood.
pub fn transition(
    dialect: Dialect,
    schedule: &Schedule,
    progress: Progress,
    attempt: &Attempt,
    now: UnixMs,
    jitter: f64,
) -> Transition {
    if attempt.succeeded() {
        return Transition::Succeeded;
    }
    match attempt.error.as_ref().map(|error| error.class) {
        Some(ErrorClass::Shutdown) => return Transition::Release,
        Some(ErrorClass::Disabled | ErrorClass::OverLimit) => return Transition::Failed,
        _ => {}
    }
    if let Some(response) = &attempt.response {
        if response.status == 410 && dialect.gone_disables() {
            return Transition::FailedAndDisable;
        }
        if response.asks_to_stop() {
            return Transition::Failed;
        }
    }
    let asked = attempt.response.as_ref().and_then(|response| response.retry_after(now)).unwrap_or_default();
    let next = match progress.resume_at {
        Some(resume_at) => Some(NextTry { due_at: resume_at.max(now + asked), step: progress.step }),
        None => schedule.next_after(progress.step, now, jitter, asked),
    };
    match next {
        Some(NextTry { due_at, step }) => {
            let attempts = progress.attempts.saturating_add(1);
            Transition::Retry { due_at, progress: Progress { attempts, step, resume_at: None } }
        }
        None => Transition::Failed,
    }
}

impl Response {
    /// The first value of a header, by its lower-case name.
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The endpoint will never take this delivery: `webhook-delivery: abort`.
    fn asks_to_stop(&self) -> bool {
        self.header("webhook-delivery").is_some_and(|value| value.eq_ignore_ascii_case("abort"))
    }

    /// How long the endpoint wants to be left alone, in seconds or until a date (RFC 9110, section 10.2.3).
    /// Only 429 and 503 are asked; what is not understood is ignored.
    fn retry_after(&self, now: UnixMs) -> Option<Duration> {
        if !matches!(self.status, 429 | 503) {
            return None;
        }
        let value = self.header("retry-after")?;
        let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
            value.parse().map_or(Duration::MAX, Duration::from_secs)
        } else {
            http_date(value)?.since(now)
        };
        Some(wait.min(limits::RETRY_AFTER_MAX))
    }
}

/// An HTTP date in the one form that may still be sent (`Sun, 06 Nov 1994 08:49:37 GMT`). The day's name is not
/// checked.
fn http_date(text: &str) -> Option<UnixMs> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ');
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    if words.next()? != "GMT" || words.next().is_some() || day.len() != 2 || year.len() != 4 || time.len() != 8 {
        return None;
    }
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    format!("{year}-{month:02}-{day}T{time}Z").parse().ok()
}

impl Attempt {
    /// Whether the attempt says that the endpoint is unwell: counted by the breaker and by auto-disable.
    ///
    /// Every failure does, but those that never reached out to it.
    pub fn counts_against_endpoint(&self) -> bool {
        let ours = [ErrorClass::Shutdown, ErrorClass::Disabled, ErrorClass::OverLimit];
        !self.succeeded() && !self.error.as_ref().is_some_and(|error| ours.contains(&error.class))
    }

    /// Whether the endpoint had more to do than it could bear, so that fewer attempts should run at once: a timeout,
    /// 429, or 502 to 504.
    pub fn shows_overload(&self) -> bool {
        let timed_out = self.error.as_ref().is_some_and(|error| error.class == ErrorClass::Timeout);
        timed_out || self.response.as_ref().is_some_and(|response| matches!(response.status, 429 | 502..=504))
    }
}

#[cfg(test)]
mod tests;
