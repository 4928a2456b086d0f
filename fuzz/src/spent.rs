//! Work grows with the input, not with its square.

use std::time::Duration;

use postrider_core::inbound::{event_data, event_id, event_type, handshake, verify};
use postrider_core::limits::{INBOUND_BODY_BYTES_MAX, INBOUND_HEADER_BYTES_MAX};
use rustix::time::{ClockId, clock_gettime};

use crate::input::Input;

/// How much longer the longer of two inputs is, and how many times that its work may grow: a square gives 8.
const LONGER: usize = 8;
const SLACK: u32 = 4;
/// What is not worth measuring.
const NOTHING: Duration = Duration::from_millis(20);

/// The last part of the body, up to 64 bytes, is repeated until it is as long as any body that is received, and once more
/// an eighth of that; the same for every header. The processor time (of this thread, the least of several tries) of the
/// longer one must not be out of all proportion to that of the shorter.
///
/// # Panics
/// If it is.
pub fn linear(data: &[u8]) {
    let spent = |share: usize| {
        let input = stretched(data, share);
        (0..3).map(|_| time(&input)).min().unwrap_or_default()
    };
    let long = time(&stretched(data, 1));
    if long <= NOTHING {
        return;
    }
    let (short, long) = (spent(LONGER), spent(1));
    let most = short * SLACK * u32::try_from(LONGER).unwrap_or(u32::MAX) + NOTHING;
    assert!(long <= most, "{long:?} for {LONGER} times as much as took {short:?}");
}

fn stretched(data: &[u8], share: usize) -> Input {
    let mut input = Input::parse(data);
    for (_, value) in &mut input.headers {
        let tail: String = value.chars().rev().take(16).collect::<Vec<_>>().into_iter().rev().collect();
        let times = (INBOUND_HEADER_BYTES_MAX / share).saturating_sub(value.len()) / tail.len().max(1);
        value.push_str(&tail.repeat(times));
    }
    let mut body = std::mem::take(&mut input.body);
    let tail = body[body.len().saturating_sub(64)..].to_vec();
    let times = (INBOUND_BODY_BYTES_MAX / share).saturating_sub(body.len()) / tail.len().max(1);
    body.extend(tail.repeat(times));
    input.with_body(body)
}

fn time(input: &Input) -> Duration {
    let row = input.row();
    let before = clock_gettime(ClockId::ThreadCPUTime);
    input.ask(&input.secrets, |setup, request| {
        handshake(row, setup, request, input.now);
        verify(row, setup, request, input.now);
        event_type(row, &input.source, request);
        event_id(row, request);
        event_data(Some("application/x-www-form-urlencoded"), request.body);
    });
    let after = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(after - before).unwrap_or_default()
}
