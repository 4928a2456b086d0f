//! Retry schedules: when a failed delivery is tried again.

use std::time::Duration;

use crate::dialect::Dialect;
use crate::time::UnixMs;
use crate::webhook::RetryPolicy;

/// The waits after each failed try; when they are used up, the delivery has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub waits: Vec<Duration>,
}

impl Schedule {
    /// The schedule of a webhook: its own policy, else its dialect's.
    pub fn of(dialect: Dialect, policy: Option<&RetryPolicy>) -> Schedule {
        let _ = (dialect, policy);
        unimplemented!("core")
    }

    /// One try and no more, as tests and pings have it.
    pub fn once() -> Schedule {
        Schedule { waits: Vec::new() }
    }

    /// When to try again after wait number `step` (0-based) was reached at `now`; `None` when used up.
    /// `jitter` in `0.0..1.0` moves the wait within ±10 % (never beyond the dialect's bound).
    pub fn next(&self, step: u32, now: UnixMs, jitter: f64) -> Option<UnixMs> {
        let _ = (step, now, jitter);
        unimplemented!("core")
    }
}
