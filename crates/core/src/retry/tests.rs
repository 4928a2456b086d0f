use proptest::prelude::*;

use super::*;

const NOW: UnixMs = UnixMs(1_700_000_000_000);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn attempts(n: u32) -> RetryPolicy {
    RetryPolicy::MaxAttempts { max_attempts: n }
}

/// The waits in seconds, as they are in the middle of their jitter.
fn waits(schedule: &Schedule) -> Vec<u64> {
    let due = (0..).map_while(|step| schedule.next(step, NOW, 0.5));
    due.map(|at| at.since(NOW).as_secs()).collect()
}

/// When each try starts after the first, with every wait at `jitter` and every attempt as long as it may be.
fn starts(schedule: &Schedule, timeout: Duration, jitter: f64) -> Vec<Duration> {
    let mut at = NOW;
    let mut step = 0;
    std::iter::from_fn(|| {
        let next = schedule.next_after(step, at + timeout, jitter, Duration::ZERO)?;
        (at, step) = (next.due_at, next.step);
        Some(at.since(NOW))
    })
    .collect()
}

#[test]
fn each_dialect_has_the_schedule_of_its_contract() {
    let common = [60, 300, 900, 3600, 21_600];
    for (dialect, expected) in [
        (Dialect::Standard, vec![5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]),
        (Dialect::Athenatext, (0..13).map(|n| 10 << n).collect()),
        (Dialect::Athenty, common.to_vec()),
        (Dialect::Scaikey, common.to_vec()),
        (Dialect::Alumia, common.to_vec()),
        (Dialect::Athena, vec![]),
    ] {
        assert_eq!(waits(&Schedule::of(dialect, None)), expected, "{dialect:?}");
    }
    assert!(waits(&Schedule::once()).is_empty());
}

#[test]
fn the_day_long_wait_of_athenty_comes_with_a_seventh_attempt_only() {
    let last = |n| waits(&Schedule::of(Dialect::Athenty, Some(&attempts(n)))).last().copied();
    assert_eq!(last(6), Some(21_600));
    assert_eq!(last(7), Some(86_400));
    assert_eq!(last(8), Some(86_400));
}

#[test]
fn max_attempts_cuts_the_schedule_or_repeats_its_last_wait() {
    let of = |dialect, n| waits(&Schedule::of(dialect, Some(&attempts(n))));
    assert_eq!(of(Dialect::Standard, 1), Vec::<u64>::new());
    assert_eq!(of(Dialect::Standard, 3), [5, 300]);
    assert_eq!(of(Dialect::Standard, 12)[8..], [86_400, 86_400, 86_400]);
    assert_eq!(of(Dialect::Athena, 3), [60, 300]);
    assert_eq!(of(Dialect::Athenatext, 30).len(), 13, "the bound of 24 h leaves room for no more");
}

#[test]
fn a_schedule_of_the_webhooks_own_replaces_the_dialects() {
    let own = RetryPolicy::Schedule { schedule_ms: vec![1000, 0, 7_000] };
    assert_eq!(waits(&Schedule::of(Dialect::Athenatext, Some(&own))), [1, 0, 7]);
}

#[test]
fn jitter_moves_a_wait_by_a_tenth_at_most() {
    let schedule = Schedule::fixed(vec![Duration::from_secs(100)]);
    let at = |jitter| schedule.next(0, NOW, jitter).unwrap().since(NOW).as_millis();
    assert_eq!([at(0.0), at(0.25), at(0.5), at(1.0)], [90_000, 95_000, 100_000, 110_000]);
    assert_eq!([at(-5.0), at(7.0), at(f64::NAN)], [90_000, 110_000, 100_000]);
}

#[test]
fn athenatext_tries_last_within_a_day_of_the_first_try_however_the_dice_fall() {
    let schedule = Schedule::of(Dialect::Athenatext, None);
    let timeout = Dialect::Athenatext.timeout();
    for jitter in [0.0, 0.5, 0.999_999, 1.0] {
        let starts = starts(&schedule, timeout, jitter);
        assert_eq!(starts.len(), 13);
        assert!(*starts.last().unwrap() <= DAY, "{jitter}: {starts:?}");
        assert!(*starts.last().unwrap() >= DAY * 8 / 10, "{jitter}: {starts:?}");
    }
}

#[test]
fn a_wish_of_the_endpoint_never_carries_athenatext_beyond_its_day() {
    let schedule = Schedule::of(Dialect::Athenatext, None);
    let timeout = Dialect::Athenatext.timeout();
    for first in 0..13 {
        for hours in [1, 5, 23, 24] {
            let (mut at, mut step, mut tries) = (NOW, 0, 0);
            while let Some(next) = {
                let asked = if tries == first { Duration::from_secs(hours * 3600) } else { Duration::ZERO };
                schedule.next_after(step, at + timeout, 1.0, asked)
            } {
                (at, step, tries) = (next.due_at, next.step, tries + 1);
                assert!(tries <= 13);
            }
            assert!(at.since(NOW) <= DAY, "{hours} h asked for after try {first}: {:?}", at.since(NOW));
        }
    }
}

#[test]
fn a_policy_out_of_bounds_is_refused_by_the_name_of_its_field() {
    let schedule = |waits: Vec<u64>| RetryPolicy::Schedule { schedule_ms: waits };
    let longest = u64::try_from(limits::SCHEDULE_WAIT_MAX.as_millis()).unwrap();
    for (dialect, policy, field) in [
        (Dialect::Standard, attempts(0), Some("retry.max_attempts")),
        (Dialect::Standard, attempts(1), None),
        (Dialect::Standard, attempts(limits::ATTEMPTS_MAX), None),
        (Dialect::Standard, attempts(limits::ATTEMPTS_MAX + 1), Some("retry.max_attempts")),
        (Dialect::Athenatext, attempts(14), None),
        (Dialect::Athenatext, attempts(15), Some("retry.max_attempts")),
        (Dialect::Standard, schedule(vec![]), None),
        (Dialect::Standard, schedule(vec![1; limits::SCHEDULE_WAITS_MAX]), None),
        (Dialect::Standard, schedule(vec![1; limits::SCHEDULE_WAITS_MAX + 1]), Some("retry.schedule_ms")),
        (Dialect::Standard, schedule(vec![1, longest]), None),
        (Dialect::Standard, schedule(vec![1, 2, 3, longest + 1]), Some("retry.schedule_ms[3]")),
    ] {
        let found = check_policy(dialect, &policy).err().map(|error| error.field);
        assert_eq!(found.as_deref(), field, "{dialect:?} {policy:?}");
    }
}

proptest! {
    #[test]
    fn every_schedule_moves_forward_and_ends(
        dialect in proptest::sample::select(&Dialect::ALL[..]),
        policy in proptest::option::of(prop_oneof![
            (1_u32..=limits::ATTEMPTS_MAX).prop_map(attempts),
            proptest::collection::vec(0_u64..604_800_000, 0..20).prop_map(|schedule_ms| RetryPolicy::Schedule { schedule_ms }),
        ]),
        jitter in 0.0..1.0,
    ) {
        let schedule = Schedule::of(dialect, policy.as_ref());
        let starts = starts(&schedule, Duration::ZERO, jitter);
        prop_assert!(starts.is_sorted());
        prop_assert_eq!(starts.len(), schedule.waits.len());
        let sum: Duration = schedule.waits.iter().sum();
        let last = starts.last().copied().unwrap_or_default();
        prop_assert!(last <= sum * 11 / 10 && last + Duration::from_millis(20) >= sum * 9 / 10);
    }

    #[test]
    fn no_step_nor_wish_makes_a_schedule_panic(
        waits in proptest::collection::vec(any::<u64>(), 0..4),
        step in any::<u32>(),
        now in any::<i64>(),
        jitter in any::<f64>(),
        asked in any::<u64>(),
        bounded in any::<bool>(),
    ) {
        let within = bounded.then_some(Within { span: DAY, attempt: Duration::from_secs(10) });
        let waits = waits.into_iter().map(Duration::from_millis).collect();
        let _ = Schedule { waits, within }.next_after(step, UnixMs(now), jitter, Duration::from_secs(asked));
    }
}
