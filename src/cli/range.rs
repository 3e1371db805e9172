//! A range of publish time, as commands take it.

use kappa_actors::replay::ReplayRange;
use kappa_actors::time::Timestamp;

/// Microseconds of 0001-01-01T00:00:00Z and 9999-12-31T00:00:00Z: the years that a time may have.
const EVER: (i64, i64) = (-62_135_596_800_000_000, 253_402_214_400_000_000);

/// Which events are meant, by the time they were published.
#[derive(Clone, Debug, clap::Args)]
pub struct RangeArgs {
    /// Only what was published at this time or later: 2026-02-17 or 2026-02-17T14:30:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Option<Timestamp>,
    /// Only what was published before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Option<Timestamp>,
}

impl RangeArgs {
    /// The range; what is not said bounds nothing.
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
    fn what_is_not_said_bounds_nothing() {
        let all = RangeArgs { from: None, to: None }.range();
        for text in ["0001-01-01", "9999-12-30T23:59:59Z"] {
            assert!(all.holds(time(text).unwrap()), "{text}");
        }
    }
}
