//! Receivers that fail one request in twenty: which ones is decided by a rule and not by chance, so that two runs fail the
//! same events, and so that every delivery is taken in the end.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::book::Reply;
use crate::latency::{Latencies, Summary};

/// One request in so many fails.
pub(crate) const FAILS_ONE_IN: u64 = 20;
/// A delivery that has failed so often is taken when it comes again.
pub(crate) const FAILURES_MAX: u32 = 3;

/// What came to the stumbling webhooks since somebody asked last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interval {
    /// Due instant → arrival, of what was taken at its first attempt.
    pub(crate) first: Summary,
    /// The same of what had failed before: mostly the waits of its schedule.
    pub(crate) retried: Summary,
    /// Requests answered 500 or 503, or with a reset connection.
    pub(crate) failed: u64,
    /// The most failures that one webhook met one after the other.
    pub(crate) in_a_row_max: u32,
    /// The longest that one webhook was not called.
    pub(crate) silence_max_ms: f64,
    /// All deliveries that ever arrived.
    pub(crate) delivered: u64,
}

/// The state of all stumbling webhooks.
#[derive(Debug)]
pub(super) struct Stumbles {
    /// Failures so far of deliveries, by webhook and number, that have failed and were not taken yet.
    failures: HashMap<(usize, u64), u32>,
    webhooks: HashMap<usize, Called>,
    first: Latencies,
    retried: Latencies,
    interval: Interval,
}

/// The calls of one webhook.
#[derive(Clone, Copy, Debug)]
struct Called {
    last_ns: u64,
    failed_in_a_row: u32,
}

impl Default for Stumbles {
    fn default() -> Self {
        Stumbles {
            failures: HashMap::new(),
            webhooks: HashMap::new(),
            first: Latencies::new(),
            retried: Latencies::new(),
            interval: Interval::default(),
        }
    }
}

impl Stumbles {
    /// What this request is answered; unless that is [`Reply::Ok`], it comes again.
    pub(super) fn judge(&mut self, webhook: usize, sequence: u64, now_ns: u64) -> Reply {
        let failed_before = self.failures.get(&(webhook, sequence)).copied().unwrap_or_default();
        let reply = reply(webhook, sequence, failed_before);
        let called = self.webhooks.entry(webhook).or_insert(Called { last_ns: now_ns, failed_in_a_row: 0 });
        let silence_ms = now_ns.saturating_sub(called.last_ns) as f64 / 1e6;
        called.last_ns = now_ns;
        if reply == Reply::Ok {
            called.failed_in_a_row = 0;
        } else {
            called.failed_in_a_row += 1;
            self.failures.insert((webhook, sequence), failed_before + 1);
            self.interval.failed += 1;
        }
        self.interval.silence_max_ms = self.interval.silence_max_ms.max(silence_ms);
        self.interval.in_a_row_max = self.interval.in_a_row_max.max(called.failed_in_a_row);
        reply
    }

    /// A delivery was taken, so long after it was due.
    pub(super) fn took(&mut self, webhook: usize, sequence: u64, after_ns: u64) {
        match self.failures.remove(&(webhook, sequence)) {
            None => self.first.record_ns(after_ns),
            Some(_) => self.retried.record_ns(after_ns),
        }
    }

    /// What came since this was asked last.
    pub(super) fn interval(&mut self, delivered: u64) -> Interval {
        let (first, retried) = (self.first.summary(), self.retried.summary());
        self.first.clear();
        self.retried.clear();
        Interval { first, retried, delivered, ..std::mem::take(&mut self.interval) }
    }
}

/// The rule: depends on nothing but which delivery it is and how often it has failed.
fn reply(webhook: usize, sequence: u64, failed_before: u32) -> Reply {
    if failed_before >= FAILURES_MAX {
        return Reply::Ok;
    }
    let dice = scattered((webhook as u64) << 40 ^ sequence << 2 ^ u64::from(failed_before));
    match (dice % FAILS_ONE_IN, (dice >> 32) % 3) {
        (0, 0) => Reply::Failed,
        (0, 1) => Reply::Unavailable,
        (0, _) => Reply::Reset,
        _ => Reply::Ok,
    }
}

/// Neighbouring numbers, far apart (the finalizer of SplitMix64).
fn scattered(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// The first number whose first attempt at webhook 0 fails.
    fn unlucky() -> u64 {
        (0..).find(|sequence| reply(0, *sequence, 0) != Reply::Ok).expect("one in twenty fails")
    }

    #[test]
    fn one_request_in_twenty_fails_in_three_ways_that_are_about_as_frequent() {
        let mut counts = [0_u32; 3];
        for (webhook, sequence) in (0..50).flat_map(|webhook| (0..4_000).map(move |sequence| (webhook, sequence))) {
            match reply(webhook, sequence, 0) {
                Reply::Failed => counts[0] += 1,
                Reply::Unavailable => counts[1] += 1,
                Reply::Reset => counts[2] += 1,
                _ => {}
            }
        }
        // 10,000 expected, a third of each; the bounds are more than five standard deviations away.
        assert!((9_500..10_500).contains(&counts.iter().sum::<u32>()), "{counts:?}");
        assert!(counts.iter().all(|count| (3_000..3_700).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_same_delivery_meets_the_same_fate_in_every_run_and_is_taken_after_three_failures() {
        let fates = |_| (0..1_000).map(|sequence| reply(7, sequence, 1)).collect::<Vec<_>>();
        assert_eq!(fates(1), fates(2));
        assert!((0..100_000).all(|sequence| reply(3, sequence, FAILURES_MAX) == Reply::Ok));
    }

    #[test]
    fn no_webhook_fails_so_often_in_a_row_that_its_breaker_would_rightly_open() {
        for webhook in 0..50 {
            let mut row = 0;
            for sequence in 0..200_000 {
                row = if reply(webhook, sequence, 0) == Reply::Ok { 0 } else { row + 1 };
                assert!(row < 8, "webhook {webhook} at {sequence}");
            }
        }
    }

    #[test]
    fn what_failed_is_told_apart_when_it_comes_again() {
        let (mut stumbles, sequence) = (Stumbles::default(), unlucky());
        assert_ne!(stumbles.judge(0, sequence, 10 * MS), Reply::Ok);
        let mut at = 20 * MS;
        while stumbles.judge(0, sequence, at) != Reply::Ok {
            at += 10 * MS;
        }
        stumbles.took(0, sequence, 500 * MS);
        stumbles.took(0, sequence + 1, MS);
        let interval = stumbles.interval(2);
        assert_eq!((interval.first.count, interval.retried.count, interval.delivered), (1, 1, 2));
        assert!(interval.failed >= 1 && interval.retried.p50_ms > 400.0, "{interval:?}");
        assert_eq!(u64::from(interval.in_a_row_max), interval.failed);
        assert!((interval.silence_max_ms - 10.0).abs() < 0.001, "{interval:?}");
        assert_eq!(stumbles.interval(2), Interval { delivered: 2, ..Interval::default() }, "it starts afresh");
    }
}
