//! The partitions that rows can be streamed into.
//!
//! How far back and ahead: <https://cloud.google.com/bigquery/docs/streaming-data-into-bigquery>, of a
//! table partitioned by a column. The words are observed:
//! <https://github.com/mozilla/gcp-ingestion/pull/2721>. Whether the Storage Write API names the rows is
//! not documented; here it does unless it is to name none.

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;

use super::cell::Cell;
use super::table::Column;

/// The common text of refusals for a partition.
pub(super) const WORDS: &str = "outside the allowed bounds";

const DAYS_BACK: i64 = 1825;
const DAYS_AHEAD: i64 = 366;

/// Why a row cannot be streamed into the partition of its column, if it cannot.
pub(super) fn fault(
    table: &str,
    resource: &Value,
    columns: &[Column],
    cells: &[Cell<'_>],
) -> Option<String> {
    let field = resource["timePartitioning"]["field"].as_str()?;
    let at = columns.iter().position(|column| column.name.eq_ignore_ascii_case(field))?;
    let (date, shown) = partition(&columns[at].kind, *cells.get(at)?)?;
    let days = date.map(|date| (date - Utc::now().date_naive()).num_days());
    if days.is_some_and(|days| (-DAYS_BACK..=DAYS_AHEAD).contains(&days)) {
        return None;
    }
    let table = table.replacen('.', ":", 1);
    Some(format!(
        "Value {shown} for partition column {field} of the destination table {table} is {WORDS}. You \
         can only stream to partitions of date range within {DAYS_BACK} days in the past and {DAYS_AHEAD} days in the future relative to the current date."
    ))
}

/// The date of a value, as far as it is one of the calendar, and the value as it is shown. NULL has a
/// partition of its own.
fn partition(kind: &str, cell: Cell<'_>) -> Option<(Option<NaiveDate>, String)> {
    match (kind, cell) {
        (_, Cell::Null) => None,
        ("TIMESTAMP", Cell::Int(micros)) => {
            let date = DateTime::from_timestamp_micros(micros).map(|time| time.date_naive());
            Some((date, micros.to_string()))
        }
        ("DATE", Cell::Int(days)) => {
            let date = i32::try_from(days).ok().and_then(NaiveDate::from_epoch_days);
            Some((date, date.map_or_else(|| days.to_string(), |date| date.to_string())))
        }
        // Texts that the API takes for times are not looked into.
        _ => None,
    }
}
