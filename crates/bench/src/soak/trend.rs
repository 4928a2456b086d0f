//! Whether something grows, as arithmetic: the second quarter of the run against the last, and the slope of its second
//! half.
//!
//! The first quarter is the warming up of caches and allocators. Medians, and Theil–Sen's slope (the median of the slopes
//! between any two points), do not see a few bad seconds of the machine; what stays does not escape them.

use serde::Serialize;

use super::Point;
use crate::session::Measurement;

const HOUR: f64 = 3_600.0;
/// A breaker opens after so many failures in a row, for a second at least (docs/retries-and-guarantees.md).
const BREAKER_FAILURES: u32 = 10;
const BREAKER_OPEN_MIN_MS: f64 = 1_000.0;
/// The benchmark's thread waits for nothing that long; a virtual machine that is suspended does.
const STANDSTILL_MAX_MS: f64 = 500.0;
/// Of the rate asked for.
const RATE_MIN: f64 = 0.99;

/// One figure over time.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Trend {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    /// Of the second quarter and of the last.
    pub(crate) early: f64,
    pub(crate) late: f64,
    /// Of the second half.
    pub(crate) per_hour: f64,
    pub(crate) bound: Bound,
    pub(crate) flat: bool,
}

/// What the last quarter may be of the second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// Something that is not about growth.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Held {
    pub(crate) what: &'static str,
    pub(crate) bound: String,
    pub(crate) measured: String,
    pub(crate) held: bool,
}

/// A figure of a point.
type Figure = fn(&Point) -> f64;

/// How a quarter becomes one figure.
#[derive(Clone, Copy, Debug)]
enum Of {
    Median,
    Greatest,
    /// What the data directory has grown by, for each delivery made meanwhile.
    Growth,
}

impl Bound {
    fn admits(self, early: f64, late: f64) -> bool {
        match self {
            Bound::AtMost(ratio) => late <= early * ratio,
            Bound::AtLeast(ratio) => late >= early * ratio,
        }
    }
}

impl Of {
    fn quarter(self, points: &[Point], figure: Figure) -> f64 {
        match self {
            Of::Median => median(points.iter().map(figure).collect()),
            Of::Greatest => points.iter().map(figure).fold(0.0, f64::max),
            Of::Growth => {
                let [first, .., last] = points else { return 0.0 };
                let bytes = |point: &Point| (point.database_bytes + point.log_bytes) as f64;
                (bytes(last) - bytes(first)) / (last.delivered - first.delivered).max(1) as f64
            }
        }
    }
}

/// Everything that should stay as it is.
pub(super) fn trends(points: &[Point]) -> Vec<Trend> {
    use Bound::{AtLeast, AtMost};
    use Of::{Greatest, Growth, Median};
    let rows: [(&'static str, &'static str, Of, Figure, Bound); 11] = [
        ("delivered a second", "", Median, |point| point.delivered_per_second, AtLeast(RATE_MIN)),
        ("latency of first attempts, p50", "ms", Median, Point::first_p50_ms, AtMost(1.5)),
        ("latency of first attempts, p99", "ms", Median, Point::first_p99_ms, AtMost(1.5)),
        ("latency of what was retried, p50", "ms", Median, Point::retried_p50_ms, AtMost(1.25)),
        ("resident memory", "MB", Median, |point| point.memory_bytes as f64 / 1e6, AtMost(1.1)),
        ("open file descriptors", "", Median, |point| point.descriptors as f64, AtMost(1.25)),
        ("deliveries pending", "", Median, |point| point.pending, AtMost(1.5)),
        ("write-ahead log, greatest", "MB", Greatest, |point| point.log_bytes as f64 / 1e6, AtMost(1.25)),
        ("disk for each further delivery", "B", Growth, Point::database_bytes_per_delivery, AtMost(1.1)),
        ("server CPU s per 10,000", "", Median, Point::cpu_seconds_per_10k, AtMost(1.25)),
        ("the machine: CPU time of the same work", "ms", Median, |point| point.pace_ms, AtMost(1.1)),
    ];
    let quarter = points.len() / 4;
    let (second, last) = (&points[quarter..2 * quarter], &points[3 * quarter..]);
    rows.map(|(what, unit, of, figure, bound)| {
        let (early, late) = (of.quarter(second, figure), of.quarter(last, figure));
        let half: Vec<(f64, f64)> = points[2 * quarter..]
            .iter()
            .map(|point| (point.seconds / HOUR, figure(point)))
            .filter(|(_, value)| !value.is_nan())
            .collect();
        Trend { what, unit, early, late, per_hour: slope(&half), bound, flat: bound.admits(early, late) }
    })
    .into()
}

/// Everything else that 5 % of failures must not do.
pub(super) fn held(points: &[Point], busy: &Measurement) -> Vec<Held> {
    let greatest = |figure: Figure| points.iter().map(figure).fold(0.0, f64::max);
    let rate = busy.rate.unwrap_or_default();
    let in_a_row = points.iter().map(|point| point.failed_in_a_row_max).max().unwrap_or_default();
    let silence_ms = greatest(|point| point.silence_max_ms);
    let late_ms = greatest(|point| point.late_ms);
    let unwell = greatest(|point| point.unwell as f64);
    vec![
        Held {
            what: "accepted of the rate asked for",
            bound: format!("≥ {:.0} %", RATE_MIN * 100.0),
            measured: format!("{:.1} %", busy.accepted_per_second / rate * 100.0),
            held: busy.accepted_per_second >= rate * RATE_MIN,
        },
        Held {
            what: "deliveries lost",
            bound: "0".to_owned(),
            measured: busy.losses.to_string(),
            held: busy.losses == 0,
        },
        Held {
            what: "webhooks disabled, or with a delivery that failed for good",
            bound: "0".to_owned(),
            measured: format!("{unwell:.0}"),
            held: unwell == 0.0,
        },
        Held {
            what: "failures in a row at one webhook (the breaker opens at 10)",
            bound: format!("< {BREAKER_FAILURES}"),
            measured: in_a_row.to_string(),
            held: in_a_row < BREAKER_FAILURES,
        },
        Held {
            what: "longest silence at one webhook (an open breaker is silent for 1 s at least)",
            bound: format!("< {BREAKER_OPEN_MIN_MS:.0} ms"),
            measured: format!("{silence_ms:.0} ms"),
            held: silence_ms < BREAKER_OPEN_MIN_MS,
        },
        Held {
            what: "longest time that the benchmark itself stood still (then the machine did, and the rest says little)",
            bound: format!("< {STANDSTILL_MAX_MS:.0} ms"),
            measured: format!("{late_ms:.0} ms"),
            held: late_ms < STANDSTILL_MAX_MS,
        },
    ]
}

/// The middle of those that are numbers; zero of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.retain(|value| !value.is_nan());
    if values.is_empty() {
        return 0.0;
    }
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { f64::midpoint(values[middle - 1], values[middle]) } else { values[middle] }
}

/// Theil–Sen: the median of the slopes between any two points with different `x`.
fn slope(points: &[(f64, f64)]) -> f64 {
    let pairs = points.iter().enumerate().flat_map(|(at, one)| points[at + 1..].iter().map(move |other| (one, other)));
    median(
        pairs
            .filter(|(one, other)| other.0 != one.0)
            .map(|(one, other)| (other.1 - one.1) / (other.0 - one.0))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Summary;

    /// Half an hour of a server that is as it should be, looked at every five seconds.
    fn steady() -> Vec<Point> {
        let point = |number: u64| {
            let noise = (number * 7 % 11) as f64;
            Point {
                seconds: number as f64 * 5.0,
                delivered_per_second: 6_000.0 + noise,
                delivered: number * 30_000,
                first: Summary { count: 29_000, p50_ms: 3.0 + noise / 100.0, p99_ms: 20.0 + noise, max_ms: 90.0 },
                memory_bytes: 130_000_000 + number * 7 % 11 * 100_000,
                descriptors: 400 + number * 7 % 11,
                pending: 150.0 + noise,
                database_bytes: 1_400 * 30_000 * number,
                log_bytes: 64_000_000,
                server_cores: 0.6,
                pace_ms: 10.0,
                retried: Summary { count: 1_000, p50_ms: 505.0 + noise, p99_ms: 1_500.0, max_ms: 1_600.0 },
                silence_max_ms: 80.0,
                failed_in_a_row_max: 3,
                ..Point::default()
            }
        };
        (1..=360).map(point).collect()
    }

    /// What is not flat in `steady()` with every point changed.
    fn grows(change: impl Fn(&mut Point, f64)) -> Vec<&'static str> {
        let mut points = steady();
        for point in &mut points {
            let share = point.seconds / 1_800.0;
            change(point, share);
        }
        trends(&points).iter().filter(|trend| !trend.flat).map(|trend| trend.what).collect()
    }

    fn trend<'a>(trends: &'a [Trend], what: &str) -> &'a Trend {
        trends.iter().find(|trend| trend.what.contains(what)).expect("there is such a trend")
    }

    #[test]
    fn a_steady_server_is_flat_in_everything_and_costs_what_it_costs() {
        assert_eq!(grows(|_, _| {}), Vec::<&str>::new());
        let trends = trends(&steady());
        assert!((trend(&trends, "each further").late - 1_400.0).abs() < 0.1);
        assert!((trend(&trends, "CPU").early - 1.0).abs() < 0.01);
        assert!(trend(&trends, "memory").per_hour.abs() < 1.0, "noise has no slope");
    }

    #[test]
    fn a_leak_of_a_quarter_in_half_an_hour_is_seen_with_its_slope() {
        let leak = |point: &mut Point, share: f64| point.memory_bytes += (32_000_000.0 * share) as u64;
        assert_eq!(grows(leak), ["resident memory"]);
        let mut points = steady();
        points.iter_mut().for_each(|point| leak(point, point.seconds / 1_800.0));
        let per_hour = trend(&trends(&points), "memory").per_hour;
        assert!((60.0..68.0).contains(&per_hour), "{per_hour}");
    }

    #[test]
    fn what_grows_is_named_and_nothing_else() {
        assert_eq!(grows(|point, share| point.descriptors += (300.0 * share) as u64), ["open file descriptors"]);
        assert_eq!(grows(|point, share| point.pending += 400.0 * share), ["deliveries pending"]);
        assert_eq!(grows(|point, share| point.first.p99_ms *= 1.0 + 2.0 * share), ["latency of first attempts, p99"]);
        assert_eq!(grows(|point, share| point.log_bytes += (4e8 * share) as u64)[0], "write-ahead log, greatest");
        let more_for_each = |point: &mut Point, share: f64| point.database_bytes += (share * share * 8e9) as u64;
        assert_eq!(grows(more_for_each), ["disk for each further delivery"]);
        let slower = |point: &mut Point, share: f64| point.delivered_per_second -= 600.0 * share;
        assert_eq!(grows(slower), ["delivered a second"]);
    }

    #[test]
    fn warming_up_and_a_bad_quarter_of_a_minute_are_not_growth() {
        assert_eq!(grows(|point, share| point.memory_bytes -= if share < 0.25 { 60_000_000 } else { 0 }), [""; 0]);
        let hiccup = |point: &mut Point, share: f64| {
            if (0.90..0.91).contains(&share) {
                point.first.p99_ms = 900.0;
                point.pending = 9_000.0;
                point.delivered_per_second = 100.0;
            }
        };
        assert_eq!(grows(hiccup), [""; 0]);
    }

    #[test]
    fn points_at_which_nothing_had_come_say_nothing_of_latency() {
        let mut points = steady();
        points.iter_mut().skip(300).step_by(2).for_each(|point| {
            point.first = Summary::default();
            point.retried = Summary::default();
        });
        let trends = trends(&points);
        assert!(trend(&trends, "attempts, p99").late >= 20.0, "{trends:?}");
    }

    #[test]
    fn a_slope_is_that_of_most_pairs_and_none_where_there_is_nothing_to_compare() {
        let line = |outlier: f64| [(0.0, 1.0), (1.0, 3.0), (2.0, 5.0), (3.0, outlier), (4.0, 9.0), (5.0, 11.0)];
        assert_eq!((slope(&line(7.0)), slope(&line(1_000.0))), (2.0, 2.0));
        assert_eq!((slope(&[]), slope(&[(1.0, 5.0)]), slope(&[(1.0, 5.0), (1.0, 9.0)])), (0.0, 0.0, 0.0));
        assert_eq!((median(vec![]), median(vec![3.0]), median(vec![4.0, 1.0])), (0.0, 3.0, 2.5));
        assert_eq!(median(vec![f64::NAN, 4.0, 1.0, 3.0]), 3.0);
    }

    #[test]
    fn hardly_any_points_are_a_verdict_without_a_panic() {
        for points in [vec![], steady()[..3].to_vec(), steady()[..5].to_vec()] {
            assert_eq!(trends(&points).len(), 11);
        }
    }
}
