//! The machine's real-time clock: the one clock that the driver and the sink, two processes, share.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970.
pub(crate) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    u64::try_from(since.as_nanos()).expect("the year is before 2554")
}

/// How long until `instant_ns`; zero if it has passed.
pub(crate) fn until(instant_ns: u64) -> Duration {
    Duration::from_nanos(instant_ns.saturating_sub(now_ns()))
}
