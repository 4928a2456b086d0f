//! Days: history is kept by the UTC day of a row's own number, so that retention drops tables and not rows.

use postrider_core::ids::Sequence;
use postrider_core::time::UnixMs;

pub(crate) const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// First deliveries of an event have numbers up to this far above it; every later one (replay) is further away.
pub(crate) const FIRST_SPAN: i64 = 1000;

/// A UTC day, counted from the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Day(pub(crate) i64);

impl Day {
    pub(crate) fn of(at: UnixMs) -> Day {
        Day(at.0.div_euclid(DAY_MS))
    }

    pub(crate) fn of_number(n: i64) -> Day {
        Day::of(Sequence::time(n))
    }

    pub(crate) fn start(self) -> UnixMs {
        UnixMs(self.0 * DAY_MS)
    }

    /// The least number that belongs to this day.
    pub(crate) fn first_number(self) -> i64 {
        Sequence::floor(self.start())
    }

    /// The least number that belongs to the next day.
    pub(crate) fn end_number(self) -> i64 {
        Day(self.0 + 1).first_number()
    }

    pub(crate) fn minus(self, days: u32) -> Day {
        Day(self.0 - i64::from(days))
    }

    pub(crate) fn next(self) -> Day {
        Day(self.0 + 1)
    }

    /// Such as `20261121`: the suffix of its tables.
    pub(crate) fn suffix(self) -> String {
        let start = jiff::Timestamp::from_millisecond(self.start().0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let date = start.to_zoned(jiff::tz::TimeZone::UTC).date();
        format!("{:04}{:02}{:02}", date.year(), date.month(), date.day())
    }
}
