//! Times as forms have them: of UTC, since without a script nobody knows the reader's zone.

use postrider_core::time::UnixMs;

use super::errors::Errors;

/// `2026-12-31T23:59:59` or less of it, or a time with its zone.
pub(super) fn moment(text: &str) -> Option<UnixMs> {
    if let Ok(stamp) = text.parse::<jiff::Timestamp>() {
        return Some(UnixMs(stamp.as_millisecond()));
    }
    let local: jiff::civil::DateTime = text.parse().ok()?;
    let zoned = local.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(UnixMs(zoned.timestamp().as_millisecond()))
}

/// What a field of that kind is filled with.
pub(super) fn filled(at: UnixMs) -> String {
    let stamp = jiff::Timestamp::from_millisecond(at.0);
    let form = if at.0 % 60_000 == 0 { "%Y-%m-%dT%H:%M" } else { "%Y-%m-%dT%H:%M:%S" };
    stamp.map(|stamp| stamp.strftime(form).to_string()).unwrap_or_default()
}

/// The text of a field: what is understood in its own form, anything else as it came.
pub(super) fn kept(text: &str) -> String {
    moment(text).map_or_else(|| text.to_owned(), filled)
}

/// What two fields say together; `None`: open.
pub(super) fn span(from: &str, to: &str) -> Result<(Option<UnixMs>, Option<UnixMs>), Errors> {
    let read = |name: &str, text: &str| match text.trim() {
        "" => Ok(None),
        text => moment(text).map(Some).ok_or_else(|| Errors::one(name, "Give a time such as 2026-12-31 23:59.")),
    };
    match (read("from", from)?, read("to", to)?) {
        (Some(from), Some(to)) if from >= to => Err(Errors::one("to", "This must be later than the start.")),
        both => Ok(both),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_in_every_form_that_a_field_sends() {
        let at = UnixMs(1_772_618_400_000);
        for text in ["2026-03-04T10:00", "2026-03-04T10:00:00", "2026-03-04 10:00", "2026-03-04T11:00:00+01:00"] {
            assert_eq!(moment(text), Some(at), "{text}");
        }
        assert_eq!(moment("2026-03-04"), Some(UnixMs(at.0 - 36_000_000)));
        assert_eq!(["2026-03-04 10:00", "soon"].map(kept), ["2026-03-04T10:00", "soon"]);
        assert_eq!(filled(at + std::time::Duration::from_secs(7)), "2026-03-04T10:00:07");
    }

    #[test]
    fn a_span_says_which_of_its_ends_is_wrong() {
        assert_eq!(span("", " ").unwrap(), (None, None));
        assert_eq!(span("2026-01-01", "").unwrap().1, None);
        for (from, to, wrong) in [("soon", "", "from"), ("", "later", "to"), ("2026-01-02", "2026-01-02", "to")] {
            assert!(span(from, to).unwrap_err().at(wrong).is_some(), "{from} {to}");
        }
    }
}
