//! Points in time, in microseconds: the resolution of the warehouse and of the log.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Datelike, SecondsFormat, Utc};

/// A point in time: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Why a text is no usable time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// The text does not follow RFC 3339.
    #[error("not an RFC 3339 timestamp")]
    NotRfc3339,
    /// The warehouse holds the years 1 to 9999 only.
    #[error("a year outside 1 to 9999")]
    YearOutOfRange,
}

impl Timestamp {
    /// The wall clock's time. It may step back; order by it only where that does no harm.
    #[must_use]
    pub fn now() -> Self {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)),
            Err(before) => Self(-i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX)),
        }
    }

    /// From microseconds since the epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Reads an RFC 3339 timestamp; digits below the microsecond are cut.
    ///
    /// # Errors
    /// [`TimeError`] when the text has another form, or its year in UTC is not 1 to 9999.
    pub fn parse_rfc3339(text: &str) -> Result<Self, TimeError> {
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| TimeError::NotRfc3339)?;
        let time = time.with_timezone(&Utc);
        if !(1..=9999).contains(&time.year()) {
            return Err(TimeError::YearOutOfRange);
        }
        // A leap second's nanoseconds run past one second; chrono counts them on.
        Ok(Self(time.timestamp_micros()))
    }

    /// This time moved by `by` into the future.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This time moved by `by` into the past.
    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long this time lies behind `now`; zero if it does not.
    #[must_use]
    pub fn age_at(self, now: Self) -> Duration {
        Duration::from_micros(u64::try_from(now.0.saturating_sub(self.0)).unwrap_or(0))
    }

    /// Converts to a calendar time in UTC.
    #[must_use]
    pub fn to_utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or(DateTime::UNIX_EPOCH)
    }
}

/// UTC with six decimals: `2026-02-17T14:30:00.123000Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.digits() {
            Some(text) => f.write_str(str::from_utf8(&text).map_err(|_| fmt::Error)?),
            None => f.write_str(&self.to_utc().to_rfc3339_opts(SecondsFormat::Micros, true)),
        }
    }
}

/// Two of these are written for each row, so the digits are put down without a formatter.
impl Timestamp {
    /// The text of a time in the years 0 to 9999.
    fn digits(self) -> Option<[u8; 27]> {
        const DAY: i64 = 86_400_000_000;
        let (year, month, day) = civil(self.0.div_euclid(DAY));
        if !(0..=9999).contains(&year) {
            return None;
        }
        let micros = self.0.rem_euclid(DAY);
        let seconds = micros / 1_000_000;
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        put(&mut text[0..4], year);
        put(&mut text[5..7], month);
        put(&mut text[8..10], day);
        put(&mut text[11..13], seconds / 3600);
        put(&mut text[14..16], seconds / 60 % 60);
        put(&mut text[17..19], seconds % 60);
        put(&mut text[20..26], micros % 1_000_000);
        Some(text)
    }
}

/// Year, month and day, `days` after 1970-01-01, in the proleptic Gregorian calendar. Years are
/// counted from March, so that the leap day is a year's last; 400 of them are one era.
const fn civil(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    let days = days + 719_468;
    let day_of_era = days.rem_euclid(ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = year_of_era + 400 * days.div_euclid(ERA);
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

/// Writes `number` into `digits`, right-aligned.
fn put(digits: &mut [u8], mut number: i64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_below_the_microsecond_are_cut() {
        let time = Timestamp::parse_rfc3339("2026-02-17T14:30:00.1239999Z").unwrap();
        assert_eq!(time.to_string(), "2026-02-17T14:30:00.123999Z");
    }

    #[test]
    fn an_offset_is_turned_into_utc() {
        let time = Timestamp::parse_rfc3339("2026-02-17T15:30:00+01:00").unwrap();
        assert_eq!(time.to_string(), "2026-02-17T14:30:00.000000Z");
    }

    #[test]
    fn the_text_is_the_calendars_in_all_centuries() {
        let first = Timestamp::parse_rfc3339("0001-01-01T00:00:00Z").unwrap().micros();
        let last = Timestamp::parse_rfc3339("9999-12-31T23:59:59.999999Z").unwrap().micros();
        // A step of eleven days less some seconds, so that the time of day moves as well.
        for micros in (first..=last).step_by(950_390_358_027).chain([last, -1, 0, i64::MAX / 2]) {
            let time = Timestamp::from_micros(micros);
            let chrono = time.to_utc().to_rfc3339_opts(SecondsFormat::Micros, true);
            assert_eq!(time.to_string(), chrono, "{micros}");
        }
    }

    #[test]
    fn years_the_warehouse_cannot_hold_are_refused() {
        for text in ["0000-12-31T23:59:59Z", "9999-12-31T23:30:00-01:00"] {
            assert_eq!(Timestamp::parse_rfc3339(text), Err(TimeError::YearOutOfRange), "{text}");
        }
        assert_eq!(Timestamp::parse_rfc3339("2026-02-17"), Err(TimeError::NotRfc3339));
        assert!(Timestamp::parse_rfc3339("0001-01-01T00:00:00Z").is_ok());
    }
}
