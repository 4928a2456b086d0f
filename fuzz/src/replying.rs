//! What receivers answer: it decides when a delivery is tried again, and must decide nothing else.

use std::time::Duration;

use postrider_core::delivery::{Attempt, Progress, Response, Transition, transition};
use postrider_core::dialect::Dialect;
use postrider_core::limits::RETRY_AFTER_MAX;
use postrider_core::retry::Schedule;
use postrider_core::time::UnixMs;

const NOW: UnixMs = UnixMs(1_800_000_000_000);
const WAIT: Duration = Duration::from_secs(60);

/// Lines: a status, then headers.
///
/// - 2xx ends it, and nothing in a header makes it not so; anything else never counts as delivered.
/// - What an endpoint says never brings the next try forward, nor puts it off by more than a day and a tenth.
/// - A `Retry-After` in seconds that fits is kept; on any status but 429 and 503 it is not asked for.
/// - Under the fixed waits of a webhook as under each dialect's own.
///
/// # Panics
/// If one of these does not hold.
pub fn replies(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let status = lines.next().unwrap_or_default().trim().parse().unwrap_or(503);
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let response = Response { status, headers, body: String::new() };
    for dialect in Dialect::ALL {
        let schedule = Schedule { waits: vec![WAIT; 3], within: None };
        let after = following(dialect, &schedule, response.clone());
        bounds(status, &after, WAIT);
        asked(&response, &after);
        let own = Schedule::of(dialect, None);
        let first = own.waits.first().copied().unwrap_or_default();
        bounds(status, &following(dialect, &own, response.clone()), first);
    }
}

fn following(dialect: Dialect, schedule: &Schedule, response: Response) -> Transition {
    let attempt =
        Attempt { number: 1, at: NOW, duration_ms: 1, response: Some(response), error: None, remote_address: None };
    // In the middle of the jitter: the wait itself.
    transition(dialect, schedule, Progress::default(), &attempt, NOW, 0.5)
}

fn bounds(status: u16, after: &Transition, wait: Duration) {
    assert_eq!(*after == Transition::Succeeded, (200..300).contains(&status), "{status}: {after:?}");
    assert_ne!(*after, Transition::Release, "an answer was counted");
    if let Transition::Retry { due_at, progress } = after {
        let waits = due_at.since(NOW);
        // A millisecond for rounding.
        assert!(waits + Duration::from_millis(1) >= wait.mul_f64(0.9), "{waits:?}");
        assert!(waits <= (RETRY_AFTER_MAX.max(wait)).mul_f64(1.1) + Duration::from_millis(1), "{waits:?}");
        assert_eq!((progress.attempts, progress.resume_at), (1, None));
    }
}

/// The first `Retry-After` counts; what it asks for in seconds is given, to the tenth of the jitter.
fn asked(response: &Response, after: &Transition) {
    let Transition::Retry { due_at, .. } = after else { return };
    let waits = due_at.since(NOW);
    let value = response.headers.iter().find(|(name, _)| name == "retry-after").map(|(_, value)| value.as_str());
    let seconds =
        value.filter(|value| value.bytes().all(|byte| byte.is_ascii_digit())).and_then(|value| value.parse().ok());
    match seconds.map(Duration::from_secs) {
        Some(asked) if matches!(response.status, 429 | 503) => {
            assert!(waits >= asked.min(RETRY_AFTER_MAX), "{waits:?} of {asked:?}");
        }
        _ if matches!(response.status, 429 | 503) => {}
        _ => assert!(waits <= WAIT.mul_f64(1.1) + Duration::from_millis(1), "nobody asked, and it waits {waits:?}"),
    }
}

pub(crate) const SEEDS: [&str; 9] = [
    "200\nretry-after: 7\nwebhook-delivery: abort",
    "503\nretry-after: 120",
    "429\nRetry-After: Sun, 06 Nov 2033 08:49:37 GMT",
    "429\nretry-after: Fri, 15 Jan 2027 08:10:00 GMT\nretry-after: 1",
    "503\nretry-after: 99999999999999999999999999",
    "503\nretry-after: -1\nretry-after: 5",
    "410\nwebhook-delivery: abort",
    "302\nlocation: http://169.254.169.254/\nretry-after: 3600",
    "599\nretry-after: Sat, 31 Feb 9999 24:60:60 GMT\nwebhook-delivery: ABORT ",
];
