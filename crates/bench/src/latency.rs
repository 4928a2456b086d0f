//! Latency histograms: microseconds in, milliseconds out.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longer waits are counted as this long (ten minutes).
const MICROS_MAX: u64 = 600_000_000;

/// Durations of one kind in one window.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

/// What is reported of a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Latencies {
    pub(crate) fn new() -> Latencies {
        Latencies(Histogram::new_with_bounds(1, MICROS_MAX, 3).expect("the bounds are constants within its rules"))
    }

    pub(crate) fn record_ns(&mut self, nanos: u64) {
        self.0.saturating_record((nanos / 1_000).clamp(1, MICROS_MAX));
    }

    pub(crate) fn clear(&mut self) {
        self.0.reset();
    }

    pub(crate) fn summary(&self) -> Summary {
        let ms = |micros: u64| micros as f64 / 1_000.0;
        Summary {
            count: self.0.len(),
            p50_ms: ms(self.0.value_at_quantile(0.50)),
            p99_ms: ms(self.0.value_at_quantile(0.99)),
            max_ms: ms(self.0.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(measured: f64, wanted: f64) -> bool {
        (measured - wanted).abs() <= wanted * 0.001
    }

    #[test]
    fn percentiles_are_those_of_the_recorded_durations() {
        let mut latencies = Latencies::new();
        for micros in 1..=10_000u64 {
            latencies.record_ns(micros * 1_000);
        }
        let summary = latencies.summary();
        assert_eq!(summary.count, 10_000);
        assert!(near(summary.p50_ms, 5.0) && near(summary.p99_ms, 9.9) && near(summary.max_ms, 10.0), "{summary:?}");
    }

    #[test]
    fn one_outlier_in_a_hundred_is_the_maximum_and_not_the_median() {
        let mut latencies = Latencies::new();
        for _ in 0..99 {
            latencies.record_ns(2_000_000);
        }
        latencies.record_ns(5_000_000_000);
        let summary = latencies.summary();
        assert!(near(summary.p50_ms, 2.0) && near(summary.p99_ms, 2.0) && near(summary.max_ms, 5_000.0), "{summary:?}");
    }

    #[test]
    fn durations_beyond_the_bounds_are_kept_at_the_bound() {
        let mut latencies = Latencies::new();
        latencies.record_ns(0);
        latencies.record_ns(u64::MAX);
        let summary = latencies.summary();
        assert_eq!(summary.count, 2);
        assert!(near(summary.max_ms, 600_000.0), "{summary:?}");
    }

    #[test]
    fn nothing_recorded_is_all_zero() {
        assert_eq!(Latencies::new().summary(), Summary::default());
    }
}
