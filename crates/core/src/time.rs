//! Points in time as the whole system keeps them: milliseconds since the Unix epoch, UTC.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point in time, in milliseconds since the Unix epoch. Written as RFC 3339 UTC with milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMs(pub i64);

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

impl UnixMs {
    /// Whole seconds since the epoch, as signatures carry them.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: UnixMs) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).max(0).unsigned_abs())
    }

    /// `2023-11-14T22:13:20.007Z`; `None` outside the years 0 to 9999, which have another form.
    ///
    /// By hand because every rendered body carries one: a tenth of the time of the general formatter.
    pub(crate) fn rfc3339(self) -> Option<[u8; 24]> {
        let (year, month, day) = civil_date(self.0.div_euclid(DAY_MS));
        let ms = self.0.rem_euclid(DAY_MS);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        if !(0..=9999).contains(&year) {
            return None;
        }
        put_digits(&mut text[0..4], year);
        put_digits(&mut text[5..7], month);
        put_digits(&mut text[8..10], day);
        put_digits(&mut text[11..13], ms / 3_600_000);
        put_digits(&mut text[14..16], ms / 60_000 % 60);
        put_digits(&mut text[17..19], ms / 1000 % 60);
        put_digits(&mut text[20..23], ms % 1000);
        Some(text)
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
///
/// Counts years from March, so that the leap day is the last of its year, in cycles of 400 years (146,097 days).
fn civil_date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (cycle, day_of_cycle) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (cycle * 400 + year_of_cycle + i64::from(month <= 2), month, day)
}

fn put_digits(place: &mut [u8], mut number: i64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("a remainder of ten is a digit");
        number /= 10;
    }
}

impl Add<Duration> for UnixMs {
    type Output = UnixMs;
    fn add(self, wait: Duration) -> UnixMs {
        UnixMs(self.0.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for UnixMs {
    type Output = UnixMs;
    fn sub(self, wait: Duration) -> UnixMs {
        UnixMs(self.0.saturating_sub(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = self.rfc3339() {
            return f.write_str(std::str::from_utf8(&text).expect("digits and punctuation"));
        }
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => write!(f, "{at:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

impl FromStr for UnixMs {
    type Err = jiff::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(UnixMs(text.parse::<jiff::Timestamp>()?.as_millisecond()))
    }
}

impl Serialize for UnixMs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UnixMs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|_| de::Error::custom("not an RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_written_in_utc_with_milliseconds_and_read_back() {
        let at = UnixMs(1_700_000_000_007);
        assert_eq!(at.to_string(), "2023-11-14T22:13:20.007Z");
        assert_eq!("2023-11-14T23:13:20.007+01:00".parse::<UnixMs>().unwrap(), at);
    }

    #[test]
    fn times_no_calendar_knows_are_still_written() {
        assert_eq!(UnixMs(i64::MAX).to_string(), format!("{}ms", i64::MAX));
        assert_eq!(UnixMs(i64::MIN).to_string(), format!("{}ms", i64::MIN));
        assert_eq!(UnixMs(-62_167_219_200_001).to_string(), "-000001-12-31T23:59:59.999Z");
        assert_eq!(UnixMs(-62_167_219_200_000).to_string(), "0000-01-01T00:00:00.000Z");
    }

    #[test]
    fn spans_never_run_backwards_nor_overflow() {
        assert_eq!(UnixMs(5).since(UnixMs(9)), Duration::ZERO);
        assert_eq!(UnixMs(9).since(UnixMs(5)), Duration::from_millis(4));
        assert_eq!(UnixMs(i64::MAX) + Duration::MAX, UnixMs(i64::MAX));
        assert_eq!(UnixMs(i64::MIN) - Duration::MAX, UnixMs(i64::MIN));
    }

    #[test]
    fn every_day_of_a_full_cycle_of_leap_years_is_the_calendars() {
        for day in 0..146_097 {
            let at = UnixMs(day * DAY_MS);
            let slow = format!("{:.3}", jiff::Timestamp::from_millisecond(at.0).unwrap());
            assert_eq!(at.to_string(), slow);
        }
    }

    proptest! {
        #[test]
        fn the_fast_form_is_the_calendars(ms in -62_167_219_200_000_i64..253_402_207_200_000) {
            let slow = format!("{:.3}", jiff::Timestamp::from_millisecond(ms).unwrap());
            prop_assert_eq!(UnixMs(ms).to_string(), slow);
        }

        #[test]
        fn every_time_of_our_century_reads_back(ms in 0_i64..4_102_444_800_000) {
            prop_assert_eq!(UnixMs(ms).to_string().parse::<UnixMs>().unwrap(), UnixMs(ms));
        }
    }
}
