use proptest::prelude::*;

use super::*;

const NOW: UnixMs = UnixMs(1_700_000_000_000);
const HOUR: u64 = 3600;

fn attempt(status: u16, headers: &[(&str, &str)]) -> Attempt {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let failed = !(200..300).contains(&status);
    Attempt {
        number: 1,
        at: NOW,
        duration_ms: 5,
        response: Some(Response { status, headers, body: String::new() }),
        error: failed.then(|| AttemptError { class: ErrorClass::HttpStatus, detail: status.to_string() }),
        remote_address: None,
    }
}

fn unanswered(class: ErrorClass) -> Attempt {
    let error = Some(AttemptError { class, detail: String::new() });
    Attempt { number: 1, at: NOW, duration_ms: 5, response: None, error, remote_address: None }
}

fn follow(dialect: Dialect, progress: Progress, attempt: &Attempt) -> Transition {
    transition(dialect, &Schedule::of(dialect, None), progress, attempt, NOW, 0.5)
}

/// Seconds until the next try of dialect `standard`, whose first wait is 5 s.
fn wait_after(attempt: &Attempt) -> u64 {
    match follow(Dialect::Standard, Progress::default(), attempt) {
        Transition::Retry { due_at, .. } => due_at.since(NOW).as_secs(),
        other => panic!("no retry but {other:?}"),
    }
}

#[test]
fn only_2xx_is_success() {
    for status in [200, 201, 202, 204, 299] {
        assert_eq!(follow(Dialect::Standard, Progress::default(), &attempt(status, &[])), Transition::Succeeded);
    }
    for status in [100, 199, 300, 301, 304, 307, 400, 401, 404, 418, 429, 500, 503, 599] {
        let found = follow(Dialect::Standard, Progress::default(), &attempt(status, &[]));
        assert!(matches!(found, Transition::Retry { .. }), "{status}: {found:?}");
    }
}

#[test]
fn a_2xx_that_did_not_end_in_time_is_a_failure() {
    let mut cut = attempt(200, &[]);
    cut.error = Some(AttemptError { class: ErrorClass::Timeout, detail: String::new() });
    assert_eq!(wait_after(&cut), 5);
    assert!(cut.counts_against_endpoint() && cut.shows_overload());
}

#[test]
fn what_happened_on_the_way_decides_what_follows() {
    for (class, expected) in [
        (ErrorClass::Shutdown, Some(Transition::Release)),
        (ErrorClass::Disabled, Some(Transition::Failed)),
        (ErrorClass::OverLimit, Some(Transition::Failed)),
        (ErrorClass::Dns, None),
        (ErrorClass::RefusedByPolicy, None),
        (ErrorClass::Connect, None),
        (ErrorClass::Tls, None),
        (ErrorClass::Timeout, None),
        (ErrorClass::Reset, None),
        (ErrorClass::TooLarge, None),
    ] {
        let found = follow(Dialect::Standard, Progress::default(), &unanswered(class));
        match expected {
            Some(expected) => assert_eq!(found, expected, "{class:?}"),
            None => assert!(matches!(found, Transition::Retry { .. }), "{class:?}: {found:?}"),
        }
    }
}

#[test]
fn every_failure_uses_one_wait_until_the_delivery_has_failed() {
    let mut progress = Progress::default();
    let mut waits = Vec::new();
    let last = loop {
        match follow(Dialect::Athenty, progress, &attempt(500, &[])) {
            Transition::Retry { due_at, progress: next } => {
                waits.push(due_at.since(NOW).as_secs());
                progress = next;
            }
            other => break other,
        }
    };
    assert_eq!(last, Transition::Failed);
    assert_eq!(waits, [60, 300, 900, 3600, 21_600]);
    assert_eq!(progress, Progress { attempts: 5, step: 5, resume_at: None });
}

#[test]
fn an_endpoint_that_is_gone_disables_the_webhook_in_standard_only() {
    for dialect in Dialect::ALL {
        let found = follow(dialect, Progress::default(), &attempt(410, &[]));
        match dialect {
            Dialect::Standard => assert_eq!(found, Transition::FailedAndDisable),
            Dialect::Athena => assert_eq!(found, Transition::Failed),
            _ => assert!(matches!(found, Transition::Retry { .. }), "{dialect:?}"),
        }
    }
}

#[test]
fn an_endpoint_can_refuse_a_delivery_for_good() {
    for value in ["abort", "ABORT", " abort "] {
        let refusal = attempt(422, &[("webhook-delivery", value)]);
        assert_eq!(follow(Dialect::Scaikey, Progress::default(), &refusal), Transition::Failed);
    }
    assert_eq!(wait_after(&attempt(422, &[("webhook-delivery", "later")])), 5);
    let success = attempt(200, &[("webhook-delivery", "abort")]);
    assert_eq!(follow(Dialect::Standard, Progress::default(), &success), Transition::Succeeded);
}

#[test]
fn retry_after_is_obeyed_on_429_and_503_within_bounds() {
    // 2023-11-14T22:13:20Z is NOW.
    for (status, value, expected) in [
        (429, "60", 60),
        (503, "60", 60),
        (500, "60", 5),
        (404, "60", 5),
        (429, "1", 5),
        (429, "0", 5),
        (429, "86400", 24 * HOUR),
        (429, "86401", 24 * HOUR),
        (429, "99999999999999999999999999", 24 * HOUR),
        (503, "Tue, 14 Nov 2023 22:14:20 GMT", 60),
        (503, "Tue, 14 Nov 2023 22:13:21 GMT", 5),
        (503, "Mon, 13 Nov 2023 22:14:20 GMT", 5),
        (503, "Sat, 14 Nov 2026 22:14:20 GMT", 24 * HOUR),
        (503, "Tue, 14 Nov 2023 22:14:20 CET", 5),
        (503, "Tue, 31 Feb 2023 22:14:20 GMT", 5),
        (503, "Tue, 14 Nov 2023 22:14:20 GMT now", 5),
        (429, "-60", 5),
        (429, "+60", 5),
        (429, "1.5", 5),
        (429, "soon", 5),
        (429, "", 5),
    ] {
        assert_eq!(wait_after(&attempt(status, &[("retry-after", value)])), expected, "{status} {value:?}");
    }
}

#[test]
fn a_failed_attempt_by_hand_leaves_the_schedule_where_it_stood() {
    let resume_at = NOW + Duration::from_secs(HOUR);
    let progress = Progress { attempts: 3, step: 3, resume_at: Some(resume_at) };
    let goes_on = |due_at| Transition::Retry { due_at, progress: Progress { attempts: 4, step: 3, resume_at: None } };
    assert_eq!(follow(Dialect::Standard, progress, &attempt(500, &[])), goes_on(resume_at));
    assert_eq!(follow(Dialect::Standard, progress, &attempt(200, &[])), Transition::Succeeded);
    assert_eq!(follow(Dialect::Standard, progress, &unanswered(ErrorClass::Shutdown)), Transition::Release);
    assert_eq!(follow(Dialect::Standard, progress, &attempt(410, &[])), Transition::FailedAndDisable);

    let busy = attempt(429, &[("retry-after", "7200")]);
    assert_eq!(follow(Dialect::Standard, progress, &busy), goes_on(NOW + Duration::from_secs(2 * HOUR)));
    let overdue = Progress { resume_at: Some(UnixMs(NOW.0 - 1)), ..progress };
    assert_eq!(follow(Dialect::Standard, overdue, &attempt(500, &[])), goes_on(NOW));
}

#[test]
fn a_failed_attempt_by_hand_after_the_last_wait_still_has_the_try_that_was_due() {
    let steps = u32::try_from(Schedule::of(Dialect::Athenty, None).waits.len()).unwrap();
    let progress = Progress { attempts: 5, step: steps, resume_at: Some(NOW + Duration::from_secs(60)) };
    let Transition::Retry { progress, .. } = follow(Dialect::Athenty, progress, &attempt(500, &[])) else {
        panic!("the sixth try was still due");
    };
    assert_eq!(follow(Dialect::Athenty, progress, &attempt(500, &[])), Transition::Failed);
}

#[test]
fn only_what_the_endpoint_did_counts_against_it() {
    for class in [ErrorClass::Shutdown, ErrorClass::Disabled, ErrorClass::OverLimit] {
        assert!(!unanswered(class).counts_against_endpoint(), "{class:?}");
    }
    for class in [ErrorClass::Dns, ErrorClass::Connect, ErrorClass::Tls, ErrorClass::Timeout, ErrorClass::Reset] {
        assert!(unanswered(class).counts_against_endpoint(), "{class:?}");
    }
    assert!(!attempt(204, &[]).counts_against_endpoint());
    assert!(attempt(400, &[]).counts_against_endpoint());
}

#[test]
fn only_signs_of_overload_ask_for_fewer_attempts_at_once() {
    for status in [429, 502, 503, 504] {
        assert!(attempt(status, &[]).shows_overload(), "{status}");
    }
    for status in [200, 400, 410, 500, 501, 505] {
        assert!(!attempt(status, &[]).shows_overload(), "{status}");
    }
    assert!(unanswered(ErrorClass::Timeout).shows_overload());
    assert!(!unanswered(ErrorClass::Connect).shows_overload());
}

proptest! {
    #[test]
    fn no_answer_makes_a_transition_panic_or_run_backwards(
        dialect in proptest::sample::select(&Dialect::ALL[..]),
        status in any::<u16>(),
        retry_after in "([0-9]{0,30}|[A-Z][a-z]{2}, [0-9]{2} (Jan|Feb|Dec) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT|\\PC{0,40})",
        step in 0_u32..40,
        attempts in any::<u32>(),
        resume_in in proptest::option::of(-10_000_i64..10_000_000),
        jitter in 0.0..1.0,
    ) {
        let progress = Progress { attempts, step, resume_at: resume_in.map(|ms| UnixMs(NOW.0 + ms)) };
        let answer = attempt(status, &[("retry-after", &retry_after)]);
        if let Transition::Retry { due_at, progress: next } =
            transition(dialect, &Schedule::of(dialect, None), progress, &answer, NOW, jitter)
        {
            prop_assert!(due_at >= NOW);
            prop_assert!(due_at.since(NOW) <= limits::RETRY_AFTER_MAX * 11 / 10);
            prop_assert!(next.step > step || progress.resume_at.is_some());
            prop_assert_eq!(next.attempts, attempts.saturating_add(1));
        }
    }
}
