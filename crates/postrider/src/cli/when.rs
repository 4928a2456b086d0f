//! Times as people give them on the command line.

use std::time::Duration;

use postrider_core::time::UnixMs;

/// `2026-01-31T12:00:00Z`, or how long ago: `15m`, `2h`, `3d`.
///
/// # Errors
/// Neither of the two.
pub(super) fn parse(text: &str, now: UnixMs) -> Result<UnixMs, String> {
    if let Some(ago) = ago(text) {
        return Ok(now - ago);
    }
    text.parse().map_err(|_| format!("`{text}` is neither a time such as 2026-01-31T12:00:00Z nor a span such as 2h"))
}

fn ago(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let count: u64 = text[..text.len() - unit.len_utf8()].parse().ok()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    count.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_time_is_a_point_or_a_span_before_now() {
        let now = UnixMs(1_790_000_000_000);
        assert_eq!(parse("2h", now).unwrap(), UnixMs(now.0 - 7_200_000));
        assert_eq!(parse("3d", now).unwrap(), UnixMs(now.0 - 3 * 86_400_000));
        assert_eq!(parse("2023-11-14T22:13:20Z", now).unwrap(), UnixMs(1_700_000_000_000));
        for bad in ["", "yesterday", "2x", "h", "5é"] {
            assert!(parse(bad, now).is_err(), "{bad}");
        }
    }
}
