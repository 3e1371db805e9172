//! Staging tables: in the dataset of the live ones, compared and merged by BigQuery itself.
//!
//! - A staging table is always appended to, so that its rows can be read at once, at any staleness
//!   of the live table; a repeated row is stored twice, and readers take the newest row of each key.
//! - Its description names its replay, and is written with the table in one request: of two replays
//!   one creates it, and the other finds it taken.
//! - Live tables that are appended to are merged into by one MERGE statement. Where upserts go
//!   BigQuery refuses MERGE: the staged rows are written as upserts with their versions, and rows
//!   are removed by upserts that delete. If staging has an older row of a removed row's key, it is
//!   written under the number of the removal, also by a later merge: removals are noted in a table.
//!   After a kill, a second merge completes the first.

mod diff;
mod merge;
mod note;
mod removals;
mod sides;
mod written;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kappa_actors::port::{
    Comparison, Diff, EnsureError, Manner, MergeOptions, Merged, ReprocessError, Reprocessing,
    Staged, StagingTables, Warehouse, replayed_events, staging_name,
};
use kappa_actors::row::TableSpec;
use kappa_actors::time::Timestamp;
use serde_json::{Value, json};

use self::note::{Note, noted};
use self::sides::Sides;
use self::written::{StagedWarehouse, keyless};
use super::rest::RestError;
use super::{BigQueryWarehouse, WriteMode, schema, tables};

/// Attempts to read and change a table that other processes change at the same time.
const ATTEMPTS: usize = 5;

/// The staging tables of a dataset, to be compared with its live ones.
pub struct BigQueryStaging {
    live: Arc<BigQueryWarehouse>,
    staged: Arc<StagedWarehouse>,
}

impl fmt::Debug for BigQueryStaging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BigQueryStaging").field("live", &self.live).finish_non_exhaustive()
    }
}

impl BigQueryStaging {
    /// Staging beside the tables of a warehouse.
    #[must_use]
    pub fn beside(live: BigQueryWarehouse) -> Self {
        let live = Arc::new(live);
        Self { staged: Arc::new(StagedWarehouse::new(Arc::clone(&live))), live }
    }

    /// The staging table of `table` as REST knows it, with the note on it.
    async fn find(&self, table: &str) -> Result<Option<(Value, Note)>, ReprocessError> {
        let name = staging_name(table);
        match self.live.rest.table(&name).await {
            Ok(found) => {
                let note = noted(&found).ok_or_else(|| {
                    ReprocessError::Mismatch(format!(
                        "{} exists, and no replay has made it: drop it, or rename it",
                        self.live.rest.full_name(&name)
                    ))
                })?;
                Ok(Some((found, note)))
            }
            Err(RestError::NotFound(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// As [`BigQueryStaging::find`]; it is an error if there is none.
    async fn standing(&self, table: &str) -> Result<(Value, Note), ReprocessError> {
        self.find(table).await?.ok_or_else(|| absent(table))
    }

    /// Makes the staging table with its note; `false` where another was faster.
    async fn create(
        &self,
        table: &TableSpec,
        replay: &str,
        revision: u16,
    ) -> Result<bool, ReprocessError> {
        let options = self.live.table_options(&table.name);
        let spec = keyless(&StagingTables::of(table, replay).rows);
        let body = schema::resource(&spec, WriteMode::Append, &options);
        let mut body = body.map_err(ReprocessError::Mismatch)?;
        body["description"] = json!(Note::begun(replay, revision).to_string());
        match self.live.rest.create_table(&spec.name, body).await {
            Ok(_) => Ok(true),
            Err(RestError::Conflict(_)) => Ok(false),
            Err(RestError::NotFound(_)) => match self.live.rest.create_dataset().await {
                Ok(_) | Err(RestError::Conflict(_)) => Ok(false),
                Err(error) => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Whether no other staging table is of this replay.
    async fn is_last(&self, replay: &str, table: &str) -> Result<bool, ReprocessError> {
        let (suffix, own) = (staging_name(""), staging_name(table));
        for name in self.live.rest.table_names().await? {
            if name == own || !name.ends_with(&suffix) {
                continue;
            }
            match self.live.rest.table(&name).await {
                Ok(found) if noted(&found).is_some_and(|note| note.replay == replay) => {
                    return Ok(false);
                }
                Ok(_) | Err(RestError::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

#[async_trait]
impl Reprocessing for BigQueryStaging {
    fn warehouse(&self) -> Arc<dyn Warehouse> {
        Arc::clone(&self.staged) as Arc<dyn Warehouse>
    }

    async fn stage(
        &self,
        table: &TableSpec,
        replay: &str,
        revision: u16,
    ) -> Result<StagingTables, ReprocessError> {
        sides::check_keyed(table)?;
        let staging = StagingTables::of(table, replay);
        for _ in 0..ATTEMPTS {
            let Some((found, note)) = self.find(&table.name).await? else {
                self.create(table, replay, revision).await?;
                // Read again: the note names its owner.
                continue;
            };
            note.check_open(&staging.rows.name, replay)?;
            sides::check_staging(&staging.rows, &found)?;
            let events = keyless(&staging.events);
            let options = self.live.table_options(&table.name);
            tables::ensure(&self.live.rest, &events, WriteMode::Append, &options)
                .await
                .map_err(unready)?;
            return Ok(staging);
        }
        Err(ReprocessError::Unavailable(format!("{} is being changed by others", table.name)))
    }

    async fn complete(&self, table: &str, replay: &str) -> Result<(), ReprocessError> {
        for _ in 0..ATTEMPTS {
            let (found, note) = self.standing(table).await?;
            if note.replay != replay {
                return Err(absent(table));
            }
            if note.completed.is_some() {
                return Ok(());
            }
            let note = Note { completed: Some(Timestamp::now()), ..note };
            let body = json!({ "description": note.to_string() });
            let etag = found["etag"].as_str();
            match self.live.rest.patch_table(&staging_name(table), &body, etag).await {
                Ok(_) => return Ok(()),
                Err(RestError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ReprocessError::Unavailable(format!("{table} is being changed by others")))
    }

    async fn staged(&self, table: &str) -> Result<Option<Staged>, ReprocessError> {
        let Some((_, note)) = self.find(table).await? else { return Ok(None) };
        let sql = format!("SELECT COUNT(*) FROM {}", self.live.rest.sql_name(&staging_name(table)));
        let rows = self.live.rest.query(&sql, &[]).await?;
        Ok(Some(note.staged(diff::number(rows.first().and_then(|row| row.first()))?)))
    }

    async fn manner(&self, table: &TableSpec) -> Result<Manner, ReprocessError> {
        if self.live.mode(table) == WriteMode::Append {
            return Ok(Manner::default());
        }
        let staleness = match self.live.rest.table(&table.name).await {
            Ok(found) => found["maxStaleness"].as_str().and_then(schema::parse_interval),
            Err(RestError::NotFound(_)) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Manner { in_steps: true, staleness: staleness.unwrap_or(Duration::ZERO) })
    }

    async fn diff(&self, table: &TableSpec, how: &Comparison) -> Result<Diff, ReprocessError> {
        Sides::look(self, table, how).await?.diff(&self.live.rest, false).await
    }

    async fn merge(
        &self,
        table: &TableSpec,
        how: &Comparison,
        options: MergeOptions,
    ) -> Result<Merged, ReprocessError> {
        merge::merge(self, table, how, options).await
    }

    async fn drop_staging(&self, table: &str) -> Result<bool, ReprocessError> {
        let Some((_, note)) = self.find(table).await? else { return Ok(false) };
        self.staged.close().await;
        // The note goes last: until then it can be seen that there is something to drop.
        if self.is_last(&note.replay, table).await? {
            self.live.rest.delete_table(&replayed_events(&note.replay).name).await?;
        }
        Ok(self.live.rest.delete_table(&staging_name(table)).await?)
    }
}

fn absent(table: &str) -> ReprocessError {
    let says = format!("{table} has no staging table: nothing was replayed into it");
    ReprocessError::NotStaged(says)
}

impl From<RestError> for ReprocessError {
    fn from(error: RestError) -> Self {
        match error {
            // Two statements that change one table at the same time; the service has tried again.
            RestError::Invalid(message) if !message.contains("Could not serialize access") => {
                Self::Mismatch(format!("BigQuery refuses: {message}"))
            }
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// Translates the error of a table that is not ready.
fn unready(error: EnsureError) -> ReprocessError {
    match error {
        EnsureError::Unavailable(message) => ReprocessError::Unavailable(message),
        EnsureError::Mismatch(message) => ReprocessError::Mismatch(message),
    }
}
