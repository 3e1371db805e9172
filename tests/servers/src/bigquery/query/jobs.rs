//! The jobs of a project: <https://cloud.google.com/bigquery/docs/information-schema-jobs>.
//!
//! Of its columns only `job_id`, `creation_time` and `total_bytes_processed` are here. Each table that takes
//! upserts has one job in the background, which read all of it:
//! <https://cloud.google.com/bigquery/docs/change-data-capture>.

use rusqlite::{Connection, params};

use super::super::state::State;
use super::{Refused, invalid};

const VIEW: &str = ".INFORMATION_SCHEMA.JOBS";
const TABLE: &str = "`INFORMATION_SCHEMA.JOBS`";

/// Makes the view where the text asks for it, and names it as SQLite can.
pub(super) fn offer(state: &State, db: &Connection, text: &str) -> Result<String, Refused> {
    let Some(at) = text.find(VIEW) else { return Ok(text.to_owned()) };
    let before = &text[..at];
    // `P.region-R`, with its marks.
    let start = before.trim_end_matches('`').rfind('`').unwrap_or_default();
    let project = before[start..].trim_matches('`').split('.').next().unwrap_or_default();
    state.require("bigquery.jobs.listAll", &format!("projects/{project}"))?;
    let columns = "job_id TEXT, creation_time INTEGER, total_bytes_processed INTEGER";
    db.execute_batch(&format!("CREATE TABLE {TABLE} ({columns})")).map_err(invalid)?;
    let now = chrono::Utc::now().timestamp_micros();
    let add = |job: &str, bytes: usize| {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let insert = format!("INSERT INTO {TABLE} VALUES (?, ?, ?)");
        db.execute(&insert, params![job, now, bytes]).map(drop).map_err(invalid)
    };
    for (job, _) in &state.jobs {
        add(job, 0)?;
    }
    let upserted = state.tables.iter().filter(|(_, table)| table.upserted);
    for (number, (_, table)) in upserted.enumerate() {
        let rows = table.visible();
        let bytes = rows.iter().map(|row| serde_json::to_vec(row).unwrap_or_default().len());
        add(&format!("cdc_background_{number}"), bytes.sum())?;
    }
    Ok(format!("{}{TABLE}{}", &text[..start], &text[at + VIEW.len()..]))
}
