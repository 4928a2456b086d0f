//! Retry schedules: when a failed delivery is tried again.

use std::time::Duration;

use crate::dialect::Dialect;
use crate::limits;
use crate::time::UnixMs;
use crate::webhook::{InvalidField, RetryPolicy};

/// The waits after each failed try; when they are used up, the delivery has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub waits: Vec<Duration>,
    /// No try starts later than this after the first, jitter and `Retry-After` included.
    pub within: Option<Within>,
}

/// A bound on the whole schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within {
    pub span: Duration,
    /// The longest one attempt is taken to last.
    pub attempt: Duration,
}

/// When a delivery is tried again, and how far the schedule has come by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextTry {
    pub due_at: UnixMs,
    pub step: u32,
}

/// Jitter in thousandths of a wait, to either side.
const JITTER_PER_MILLE: u32 = 100;

impl Schedule {
    /// The schedule of a webhook: its own policy, else its dialect's.
    ///
    /// A `schedule_ms` replaces all the dialect says. `max_attempts` cuts the dialect's waits, or repeats the last one
    /// as far as the dialect's bound allows.
    pub fn of(dialect: Dialect, policy: Option<&RetryPolicy>) -> Schedule {
        let retry = &dialect.profile().retry;
        let used = match policy {
            Some(RetryPolicy::Schedule { schedule_ms }) => {
                let waits = schedule_ms.iter().map(|ms| Duration::from_millis(*ms)).collect();
                return Schedule { waits, within: None };
            }
            Some(RetryPolicy::MaxAttempts { max_attempts }) => max_attempts.saturating_sub(1) as usize,
            None => retry.used,
        };
        let last = retry.waits.last().copied().unwrap_or_default();
        let mut waits: Vec<Duration> = retry.waits.iter().copied().chain(std::iter::repeat(last)).take(used).collect();
        if retry.within.is_some() {
            waits.truncate(retry.waits.len());
        }
        let within = retry.within.map(|span| Within { span, attempt: dialect.timeout() });
        Schedule { waits, within }
    }

    /// One try and no more, as tests and pings have it.
    pub fn once() -> Schedule {
        Schedule::fixed(Vec::new())
    }

    /// Exactly these waits.
    pub fn fixed(waits: Vec<Duration>) -> Schedule {
        Schedule { waits, within: None }
    }

    /// When to try again after wait number `step` (0-based) was reached at `now`; `None` when used up.
    /// `jitter` in `0.0..1.0` moves the wait within ±10 % (never beyond the dialect's bound).
    pub fn next(&self, step: u32, now: UnixMs, jitter: f64) -> Option<UnixMs> {
        self.next_after(step, now, jitter, Duration::ZERO).map(|next| next.due_at)
    }

    /// As [`Schedule::next`], but no sooner than the endpoint asked for with `at_least`.
    ///
    /// A bounded schedule gives up the waits that a longer one has eaten, so that its bound holds all the same.
    pub fn next_after(&self, step: u32, now: UnixMs, jitter: f64, at_least: Duration) -> Option<NextTry> {
        let wait = jittered(*self.waits.get(step as usize)?, jitter).max(at_least);
        let Some(within) = self.within else {
            return Some(NextTry { due_at: now + wait, step: step + 1 });
        };
        let so_far = self.latest(step, within) + within.attempt;
        let wait = wait.min(within.span.saturating_sub(so_far));
        let steps = u32::try_from(self.waits.len()).unwrap_or(u32::MAX);
        let eaten = (step + 1..steps).find(|later| self.latest(*later, within) >= so_far + wait);
        Some(NextTry { due_at: now + wait, step: eaten.unwrap_or(steps) })
    }

    /// How long after the first try the one before wait number `step` starts, at the latest.
    fn latest(&self, step: u32, within: Within) -> Duration {
        let waits: Duration = self.waits.iter().take(step as usize).map(|wait| jittered(*wait, 1.0)).sum();
        (waits + within.attempt * step).min(within.span)
    }
}

fn jittered(wait: Duration, jitter: f64) -> Duration {
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.5 };
    let spread = wait * JITTER_PER_MILLE / 1000;
    wait - spread + (spread * 2).mul_f64(jitter)
}

/// Checks a webhook's own policy.
///
/// # Errors
/// Names the field (`retry.schedule_ms[3]`).
pub fn check_policy(dialect: Dialect, policy: &RetryPolicy) -> Result<(), InvalidField> {
    match policy {
        RetryPolicy::Schedule { schedule_ms } => {
            if schedule_ms.len() > limits::SCHEDULE_WAITS_MAX {
                let most = limits::SCHEDULE_WAITS_MAX;
                return Err(InvalidField::new("retry.schedule_ms", format!("has at most {most} waits")));
            }
            let longest = limits::SCHEDULE_WAIT_MAX.as_millis();
            match schedule_ms.iter().position(|ms| u128::from(*ms) > longest) {
                Some(n) => Err(InvalidField::new(format!("retry.schedule_ms[{n}]"), format!("is at most {longest}"))),
                None => Ok(()),
            }
        }
        RetryPolicy::MaxAttempts { max_attempts } => {
            let retry = &dialect.profile().retry;
            let bounded = retry.within.and_then(|_| u32::try_from(retry.waits.len() + 1).ok());
            let most = bounded.unwrap_or(limits::ATTEMPTS_MAX);
            if (1..=most).contains(max_attempts) {
                return Ok(());
            }
            let text = format!("must be from 1 to {most} in dialect {}", dialect.name());
            Err(InvalidField::new("retry.max_attempts", text))
        }
    }
}

#[cfg(test)]
mod tests;
