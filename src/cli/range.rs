//! A range of publish time, as commands take it.

use kappa_actors::replay::ReplayRange;
use kappa_actors::time::Timestamp;

/// Microseconds of 0001-01-01T00:00:00Z and 9999-12-31T00:00:00Z: the years that a time may have.
const EVER: (i64, i64) = (-62_135_596_800_000_000, 253_402_214_400_000_000);

/// Which events are meant, by the time they were published.
#[derive(Clone, Debug, clap::Args)]
pub struct RangeArgs {
    /// Only events published at this time or later: 2026-02-17 or 2026-02-17T14:30:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Option<Timestamp>,
    /// Only events published before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Option<Timestamp>,
}

impl RangeArgs {
    /// Returns the range; a bound that is not given has no effect.
    pub(super) fn range(&self) -> ReplayRange {
        ReplayRange {
            from: self.from.unwrap_or(Timestamp::from_micros(EVER.0)),
            to: self.to.unwrap_or(Timestamp::from_micros(EVER.1)),
        }
    }
}

/// Reads a time; a day means its first moment in UTC.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    let whole = if text.len() == "2026-02-17".len() {
        format!("{text}T00:00:00Z")
    } else {
        text.to_owned()
    };
    Timestamp::parse_rfc3339(&whole)
        .map_err(|error| format!("{error}: use 2026-02-17 or 2026-02-17T14:30:00Z"))
}

/// Reads a range of event time: two times with `..` between; a missing one bounds nothing.
pub(super) fn event_time(text: &str) -> Result<ReplayRange, String> {
    let Some((from, to)) = text.split_once("..") else {
        return Err("use FROM..TO, as in 2026-01-01..2026-02-01".to_owned());
    };
    let end = |text: &str| if text.is_empty() { Ok(None) } else { time(text).map(Some) };
    let range = RangeArgs { from: end(from)?, to: end(to)? }.range();
    if range.to < range.from {
        return Err("the range ends before it begins".to_owned());
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_its_first_moment() {
        assert_eq!(time("2026-02-17"), time("2026-02-17T00:00:00Z"));
        assert_eq!(time("2026-02-17T01:30:00+01:30"), time("2026-02-17"));
        for wrong in ["", "yesterday", "2026-02-30", "2026-02-17T14:30:00", "14:30"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_event_time_has_two_ends_of_which_either_may_be_open() {
        let range = event_time("2026-01-01..2026-02-01").unwrap();
        assert_eq!((Ok(range.from), Ok(range.to)), (time("2026-01-01"), time("2026-02-01")));
        assert!(event_time("..2026-02-01").unwrap().holds(time("0001-01-01").unwrap()));
        assert!(event_time("2026-02-01..").unwrap().holds(time("9999-01-01").unwrap()));
        for wrong in ["2026-01-01", "2026-02-01..2026-01-01", "a..b"] {
            assert!(event_time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_missing_bound_has_no_effect() {
        let all = RangeArgs { from: None, to: None }.range();
        for text in ["0001-01-01", "9999-12-30T23:59:59Z"] {
            assert!(all.holds(time(text).unwrap()), "{text}");
        }
    }
}
