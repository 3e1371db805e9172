//! How fresh each table is, in one line.

use std::fmt;

use kappa_actors::vitals::Freshness;

use crate::visible::one_line;

/// The line about a table: `orders: rows are 0.4 s behind (p99 1.2 s)`.
pub(super) struct Sentence<'a>(pub(super) &'a Freshness);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Freshness {
            table,
            behind_seconds,
            p99_seconds,
            objective_seconds,
            missed_for_seconds,
            ..
        } = self.0;
        write!(f, "{}: ", one_line(table))?;
        match behind_seconds {
            Some(behind) => write!(f, "rows are {} behind", Span(*behind))?,
            None => f.write_str("the log has not answered yet")?,
        }
        match p99_seconds {
            Some(p99) => write!(f, " (p99 {}", Span(*p99))?,
            None => f.write_str(" (no rows in the last 5 min")?,
        }
        if let Some(objective) = objective_seconds {
            write!(f, "; objective {} ", Span(*objective))?;
            match missed_for_seconds {
                Some(missed) => write!(f, "missed for {}", Span(*missed))?,
                None => f.write_str("met")?,
            }
        }
        f.write_str(")")
    }
}

/// Seconds as people say them: `0.4 s`, `75 s`, `12 min`, `3.5 h`, `2.0 d`.
pub(super) struct Span(pub(super) f64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0;
        let (value, unit) = match seconds {
            ..120.0 => (seconds, "s"),
            ..7_200.0 => (seconds / 60.0, "min"),
            ..172_800.0 => (seconds / 3_600.0, "h"),
            _ => (seconds / 86_400.0, "d"),
        };
        let decimals = match value {
            0.005..0.1 => 2,
            ..10.0 if value.fract() >= 0.05 => 1,
            _ => 0,
        };
        write!(f, "{value:.decimals$} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_described_in_one_line() {
        let fresh = Freshness {
            table: "orders".into(),
            behind_seconds: Some(0.4),
            p99_seconds: Some(1.2),
            objective_seconds: None,
            missed_for_seconds: None,
            missed_seconds_total: 0.0,
        };
        let say = |one: &Freshness| Sentence(one).to_string();
        assert_eq!(say(&fresh), "orders: rows are 0.4 s behind (p99 1.2 s)");
        let met = Freshness { objective_seconds: Some(60.0), ..fresh.clone() };
        assert_eq!(say(&met), "orders: rows are 0.4 s behind (p99 1.2 s; objective 60 s met)");
        let missed =
            Freshness { behind_seconds: Some(300.0), missed_for_seconds: Some(240.0), ..met };
        assert_eq!(
            say(&missed),
            "orders: rows are 5 min behind (p99 1.2 s; objective 60 s missed for 4 min)"
        );
        let unknown = Freshness { behind_seconds: None, p99_seconds: None, ..fresh };
        assert_eq!(
            say(&unknown),
            "orders: the log has not answered yet (no rows in the last 5 min)"
        );
    }

    #[test]
    fn spans_have_one_unit() {
        for (seconds, text) in [
            (0.0, "0 s"),
            (0.012, "0.01 s"),
            (0.06, "0.06 s"),
            (1.25, "1.2 s"),
            (0.004, "0 s"),
            (9.5, "9.5 s"),
            (75.4, "75 s"),
            (720.0, "12 min"),
            (12_600.0, "3.5 h"),
            (172_800.0, "2 d"),
        ] {
            assert_eq!(Span(seconds).to_string(), text);
        }
    }
}
