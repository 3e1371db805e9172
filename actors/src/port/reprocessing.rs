//! Staging tables: a replay writes into them, to be compared with the live table and merged into it.
//!
//! A staging table belongs to one replay, which marks it as complete. Only a complete one is merged: in an incomplete
//! one, later rows look like removed rows.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Warehouse;
use crate::row::{Column, ColumnType, TableSpec};
use crate::time::Timestamp;

/// The name of the staging table of `table`.
#[must_use]
pub fn staging_name(table: &str) -> String {
    format!("{table}_reprocessed")
}

/// The staging tables of a replay for one live table.
#[derive(Clone, Debug)]
pub struct StagingTables {
    /// The rows: as the live table, under the name of the staging table.
    pub rows: Arc<TableSpec>,
    /// The positions of all valid events that the replay went through: one column, which is the
    /// key. All staging tables of a replay share it, for an event that went to one table may go to
    /// another by the present rules.
    pub events: Arc<TableSpec>,
}

impl StagingTables {
    /// Returns the staging tables of the live table `table` and the replay of this id.
    #[must_use]
    pub fn of(table: &TableSpec, replay: &str) -> Self {
        let name = staging_name(&table.name);
        let rows = Arc::new(TableSpec { name, ..table.clone() });
        Self { rows, events: Arc::new(replayed_events(replay)) }
    }
}

/// The table of the positions of the events that a replay went through; no live table has such a
/// name.
#[must_use]
pub fn replayed_events(replay: &str) -> TableSpec {
    let position =
        Column { name: "position".to_owned(), kind: ColumnType::Bytes, description: None };
    TableSpec {
        name: format!("replayed_events_{}", replay.replace('-', "_")),
        columns: vec![position],
        key: vec![0],
        version: None,
        order_by: None,
        partition_by: None,
        cluster_by: vec![],
        keeps_events: true,
    }
}

/// An existing staging table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The id of the replay that fills it.
    pub replay: String,
    /// The revision of the rule that the replay runs.
    pub revision: u16,
    /// When the replay began.
    pub began: Timestamp,
    /// When the replay had written everything; `None`: it has not.
    pub completed: Option<Timestamp>,
    /// Rows in it; where rows are only added, those that came twice count twice.
    pub rows: u64,
}

/// How staging and live are compared.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Columns that are not compared, since they describe the processing; key and version never are.
    pub passed_over: Vec<String>,
    /// The positions of the replayed events; `None` if they are unknown, and then no row is missing.
    pub scope: Option<Scope>,
    /// Examples of each kind of difference, at most.
    pub examples: usize,
}

/// Which live rows a replay answers for: those whose event it went through, by the positions in
/// [`StagingTables::events`], and which no higher revision made. Such a row is missing if staging
/// has no row of its key that is as new: the replay would have made one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The revision of the rule that the replay ran, [`Staged::revision`].
    pub revision: u16,
}

/// A value as the warehouse shows it; `None` is NULL.
pub type Shown = Option<String>;

/// One row that differs in one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The values of the key's columns.
    pub key: Vec<Shown>,
    /// The live row.
    pub live: Shown,
    /// The staged row.
    pub staged: Shown,
}

/// A column in which rows differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDiff {
    /// The column.
    pub name: String,
    /// Rows in which it differs.
    pub rows: u64,
    /// Some of them.
    pub examples: Vec<Example>,
}

/// Staging against live, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Rows that only staging has.
    pub added: u64,
    /// Keys of some of them.
    pub added_examples: Vec<Vec<Shown>>,
    /// Live rows that are missing from staging, as [`Scope`] defines it; `None` without a scope.
    pub missing: Option<u64>,
    /// Keys of some of them.
    pub missing_examples: Vec<Vec<Shown>>,
    /// Missing rows that may have replaced an older row of their key which staging does not have
    /// either: without them the key has no row. 0 where the warehouse keeps replaced rows.
    pub may_hide: u64,
    /// Rows that differ in a compared column.
    pub changed: u64,
    /// Changed rows whose live row a higher revision made of the same message, so that a merge
    /// keeps it.
    pub live_newer: u64,
    /// Staged rows that a live row of another message outranks, so that a merge keeps the live row, and
    /// late copies of rows that a merge removed.
    pub older: u64,
    /// Rows that differ in no compared column, and rows of equal versions.
    pub same: u64,
    /// The columns in which rows differ, in the table's order.
    pub columns: Vec<ColumnDiff>,
}

impl Diff {
    /// Whether there is any difference.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added == 0 && self.changed == 0 && self.missing.unwrap_or(0) == 0
    }
}

/// Options of a merge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeOptions {
    /// Removes the live rows that a [`Diff`] counts as missing.
    pub remove_missing: bool,
    /// Counts all of it and changes nothing.
    pub dry_run: bool,
}

/// The result of a merge. Every staged row counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Rows that were not there, or only as a newer row that is removed.
    pub inserted: u64,
    /// Rows that differed in a compared column.
    pub replaced: u64,
    /// Rows that differed in none; they have the staged row's version now, if it is the higher one.
    pub unchanged: u64,
    /// Rows whose live row has a higher version and stays, and late copies of removed rows.
    pub kept: u64,
    /// Live rows that were removed.
    pub removed: u64,
    /// Removed rows that [`Diff::may_hide`] counts.
    pub may_hide: u64,
}

/// The manner in which a table is compared and merged, for reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// A merge is not atomic: readers see the rows that are merged so far.
    pub in_steps: bool,
    /// How old the live rows may be that a comparison sees.
    pub staleness: Duration,
}

/// Why staging is not as asked.
#[derive(Debug, thiserror::Error)]
pub enum ReprocessError {
    /// Ask again later: nothing is changed, or all of it is and asking again is harmless.
    #[error("the warehouse is unavailable: {0}")]
    Unavailable(String),
    /// There is no staging table: replay first.
    #[error("{0}")]
    NotStaged(String),
    /// Another replay has filled it, or its own replay has not ended: merge it, drop it, or resume.
    #[error("{0}")]
    Taken(String),
    /// Staging, live table and configuration contradict each other; only a person can decide.
    #[error("{0}")]
    Mismatch(String),
}

/// Staging tables beside the live ones.
#[async_trait]
pub trait Reprocessing: Send + Sync + 'static {
    /// The warehouse that staging tables are written in.
    fn warehouse(&self) -> Arc<dyn Warehouse>;

    /// Makes the staging tables of `table` for this replay, which runs the rule of this revision. Tables that it made
    /// before are kept with their rows.
    ///
    /// # Errors
    /// [`ReprocessError::Taken`] if they belong to another replay, or to this one and are complete;
    /// [`ReprocessError::Mismatch`] if `table` has no key and version, or changed since the replay began.
    async fn stage(
        &self,
        table: &TableSpec,
        replay: &str,
        revision: u16,
    ) -> Result<StagingTables, ReprocessError>;

    /// Records durably that the replay has written all its rows; call it after all writes were answered. A second call
    /// changes nothing.
    ///
    /// # Errors
    /// [`ReprocessError::NotStaged`] if this replay has no staging table of `table`.
    async fn complete(&self, table: &str, replay: &str) -> Result<(), ReprocessError>;

    /// The staging table of `table`, if there is one.
    ///
    /// # Errors
    /// [`ReprocessError::Unavailable`].
    async fn staged(&self, table: &str) -> Result<Option<Staged>, ReprocessError>;

    /// How `table` is compared and merged.
    ///
    /// # Errors
    /// [`ReprocessError::Unavailable`].
    async fn manner(&self, table: &TableSpec) -> Result<Manner, ReprocessError> {
        let _ = table;
        Ok(Manner::default())
    }

    /// Compares the staging table of `table` with the live one; a missing live table counts as empty. Neither waits
    /// for writers nor delays them. An incomplete staging table shows no missing rows.
    ///
    /// # Errors
    /// [`ReprocessError`].
    async fn diff(&self, table: &TableSpec, how: &Comparison) -> Result<Diff, ReprocessError>;

    /// Puts the newest staged row of each key into the live table under its own version, except
    /// where the live version is as high. A removed row does not come back through a late copy of
    /// it, except in a table that rows are only appended to. Readers
    /// see the whole merge or nothing, unless [`Manner::in_steps`] is set. The staging table stays.
    ///
    /// # Errors
    /// [`ReprocessError::Taken`] when the staging table is not complete. A cancelled call may
    /// have merged; merging again changes nothing more.
    async fn merge(
        &self,
        table: &TableSpec,
        how: &Comparison,
        options: MergeOptions,
    ) -> Result<Merged, ReprocessError>;

    /// Drops the staging table of `table`, and with the last one of its replay the ids of the
    /// events; whether there was any.
    ///
    /// # Errors
    /// [`ReprocessError::Unavailable`].
    async fn drop_staging(&self, table: &str) -> Result<bool, ReprocessError>;
}
