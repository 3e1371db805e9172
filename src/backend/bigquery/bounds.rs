//! Refusals that a single row explains: partitions that cannot be streamed into, and sizes.
//!
//! - The service takes rows of a partitioned table from 1825 days back to 366 days ahead, counted from
//!   today: <https://cloud.google.com/bigquery/docs/streaming-data-into-bigquery>. Its words name both
//!   numbers: <https://github.com/mozilla/gcp-ingestion/pull/2721>.
//! - A request has at most 20 MB: <https://cloud.google.com/bigquery/quotas#write-api-limits>. Services
//!   that take 10 MiB were observed: <https://github.com/hafenkran/duckdb-bigquery/issues/134>.
//!
//! Neither passes by itself, so nothing is waited for. The service's own numbers count, not those above:
//! a row that it would take is never refused here.

use kappa_actors::port::RefusalKind;
use kappa_actors::row::{Row, TableSpec, Value};
use kappa_actors::time::Timestamp;

/// What refusals of a partition and of a request's size say.
const OUTSIDE: &str = "outside the allowed bounds";
const TOO_LARGE: &str = "request too large";

const DAY_MICROS: i64 = 86_400_000_000;

/// The kind of a refusal that is about a row, not about the table's schema.
pub(super) fn explained(why: &str) -> Option<RefusalKind> {
    if why.contains(OUTSIDE) {
        return Some(RefusalKind::Partition);
    }
    why.contains(TOO_LARGE).then_some(RefusalKind::TooLarge)
}

/// The days back and ahead that a refusal names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    back: i64,
    ahead: i64,
}

impl Bounds {
    /// Reads them from the service's words.
    pub(super) fn read(why: &str) -> Option<Self> {
        let (_, words) = why.split_once(OUTSIDE)?;
        let days_before = |mark: &str| {
            let (before, _) = words.split_once(mark)?;
            before.rsplit(' ').next()?.parse::<i64>().ok()
        };
        Some(Self {
            back: days_before(" days in the past")?,
            ahead: days_before(" days in the future")?,
        })
    }

    /// Why the row is outside, if it is for certain: within a day of a bound the service decides.
    pub(super) fn refusal(self, table: &TableSpec, row: &Row) -> Option<String> {
        let at = table.partition_by?;
        let name = &table.columns.get(at)?.name;
        let today = Timestamp::now().micros().div_euclid(DAY_MICROS);
        let day = match row.0.get(at)? {
            Value::Timestamp(time) => time.micros().div_euclid(DAY_MICROS),
            Value::Date(days) => i64::from(*days),
            _ => return None,
        };
        let Self { back, ahead } = self;
        if (today - back - 1..=today + ahead + 1).contains(&day) {
            return None;
        }
        let day = Timestamp::from_micros(day.saturating_mul(DAY_MICROS)).to_utc().date_naive();
        Some(format!(
            "column {name} is of {day}, and BigQuery streams only into partitions from {back} days back \
             to {ahead} days ahead ({OUTSIDE}): load such rows by a job, or leave partition_by out"
        ))
    }
}

#[cfg(test)]
mod tests {
    use kappa_actors::row::{Column, ColumnType};

    use super::*;

    const WHY: &str = "Value 1578862938123456 for partition column at of the destination table p:d.t is \
                       outside the allowed bounds. You can only stream to partitions of date range within \
                       1825 days in the past and 366 days in the future relative to the current date.";

    fn table() -> TableSpec {
        TableSpec {
            name: "t".to_owned(),
            columns: vec![Column {
                name: "at".to_owned(),
                kind: ColumnType::Timestamp,
                description: None,
            }],
            key: vec![],
            version: None,
            order_by: None,
            partition_by: Some(0),
            cluster_by: vec![],
            keeps_events: false,
        }
    }

    #[test]
    fn the_service_s_own_numbers_are_taken() {
        assert_eq!(Bounds::read(WHY), Some(Bounds { back: 1825, ahead: 366 }));
        let other = WHY.replace("1825", "3650").replace("366", "30");
        assert_eq!(Bounds::read(&other), Some(Bounds { back: 3650, ahead: 30 }));
        assert_eq!(Bounds::read("outside the allowed bounds, somehow"), None);
        assert_eq!(Bounds::read("1825 days in the past and 366 days in the future"), None);
    }

    #[test]
    fn a_row_is_outside_where_it_is_for_certain() {
        let bounds = Bounds { back: 1825, ahead: 366 };
        let now = Timestamp::now().micros();
        let told = |days: i64| {
            let time = Timestamp::from_micros(now + days * DAY_MICROS);
            bounds.refusal(&table(), &Row(Box::new([Value::Timestamp(time)])))
        };
        for days in [-1827, 368, -20_000, 5_000] {
            assert!(told(days).is_some_and(|why| explained(&why).is_some()), "{days}");
        }
        for days in [-1826, -1825, 0, 366, 367] {
            assert_eq!(told(days), None, "{days}");
        }
        let null = Row(Box::new([Value::Null]));
        assert_eq!(bounds.refusal(&table(), &null), None);
        let whole = TableSpec { partition_by: None, ..table() };
        let old = Row(Box::new([Value::Timestamp(Timestamp::from_micros(0))]));
        assert_eq!(bounds.refusal(&whole, &old), None);
    }
}
