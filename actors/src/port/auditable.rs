//! A warehouse that is asked for its current rows.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use compact_str::CompactString;

use crate::dead_letter_table::Stage;
use crate::replay::ReplayRange;
use crate::row::{Row, TableSpec, Value};
use crate::time::Timestamp;
use crate::version::Version;

/// Keys whose current rows are compared with the versions that an audit expects.
#[derive(Clone, Debug)]
pub struct CurrentRows {
    /// The table; it has a key and a version.
    pub table: Arc<TableSpec>,
    /// A value other than NULL for each column of the table's key. Keys may repeat.
    pub keys: Arc<Vec<Row>>,
    /// The version that is expected of each key's current row.
    pub expected: Arc<Vec<Version>>,
    /// Indexes of the columns to return of rows with exactly the expected version.
    pub columns: Vec<usize>,
    /// Between which values of the table's partition column most of the rows are likely to be. The
    /// answer is the same without it, perhaps later and dearer.
    pub near: Option<(Value, Value)>,
}

/// The current row of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Current {
    /// How many rows of the key a reader of the table sees.
    pub rows: u64,
    /// How the version of the newest of them compares with the expected one.
    pub age: Age,
}

/// How the version of a row compares with the expected version.
#[derive(Clone, Debug, PartialEq)]
pub enum Age {
    /// It is greater. Also the age of no row.
    Newer,
    /// It is equal: the values of the asked columns.
    Same(Box<[Value]>),
    /// It is lower; `None`: the row has no version that can be read.
    Older(Option<Version>),
}

impl Current {
    /// No row has the key.
    pub const MISSING: Self = Self { rows: 0, age: Age::Newer };

    /// One row has the key, with this version. `values` are asked for where the version is the
    /// expected one.
    pub fn of(
        version: Option<Version>,
        expected: &Version,
        values: impl FnOnce() -> Box<[Value]>,
    ) -> Self {
        let age = match version {
            Some(version) if version > *expected => Age::Newer,
            Some(version) if version == *expected => Age::Same(values()),
            older => Age::Older(older),
        };
        Self { rows: 1, age }
    }
}

/// Keys whose rows are to be counted.
#[derive(Clone, Debug)]
pub struct KeyCount {
    /// The table.
    pub table: Arc<TableSpec>,
    /// Indexes of the columns that a key's values are of: the table's key, or any others.
    pub columns: Vec<usize>,
    /// The keys; each has a value for each of `columns`, never NULL. A key may be repeated.
    pub keys: Arc<Vec<Row>>,
    /// Between which values of the table's partition column most of the rows are likely to be. The
    /// answer is the same without it, perhaps later and dearer.
    pub near: Option<(Value, Value)>,
}

/// Identifies the message and the processor of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterMark {
    /// The log's name for its message.
    pub message_id: CompactString,
    /// When the log took the message in.
    pub publish_time: Timestamp,
    /// Where its event's way ended.
    pub stage: Stage,
    /// The processor concerned, if one was.
    pub processor: Option<String>,
    /// The message's payload, if it was asked for and is in the letter's row.
    pub payload: Option<Bytes>,
    /// The letter was purged: it shows why there is no row, and nothing can be requeued.
    pub purged: bool,
}

/// Which dead letters are shown: open and purged ones that no staging replay left and that were not
/// requeued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetterQuery {
    /// When their messages were published.
    pub published: ReplayRange,
    /// Whether their payloads are read too: they are large.
    pub payloads: bool,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Ask again later.
    #[error("the warehouse is unavailable: {0}")]
    Unavailable(String),
    /// The table contradicts the configuration, or the question cannot be answered; only a person
    /// can decide.
    #[error("{0}")]
    Mismatch(String),
}

/// The queries of an audit to a warehouse. They write no row and wait for no writer.
///
/// Every row counts that was committed before the call, except those hidden by [`Auditable::staleness`].
#[async_trait]
pub trait Auditable: Send + Sync + 'static {
    /// How long ago a row of this table may have been written and still be hidden from a question.
    fn staleness(&self, _table: &TableSpec) -> Duration {
        Duration::ZERO
    }

    /// Keys that are best counted in one call.
    fn batch(&self) -> usize;

    /// Returns the current row of each key, in the order of the keys, as a reader of the table sees
    /// them. A table that does not exist has none. A key that seems to have no row, or an older one,
    /// near `near` is looked up in the whole table.
    ///
    /// # Errors
    /// [`AuditError`]: nothing was compared.
    async fn current(&self, asked: &CurrentRows) -> Result<Vec<Current>, AuditError>;

    /// Counts the rows of each key, in the order of the keys, as a reader of the table sees them. A missing table has
    /// none.
    ///
    /// # Errors
    /// [`AuditError`]: nothing was counted.
    async fn count(&self, asked: &KeyCount) -> Result<Vec<u64>, AuditError>;

    /// Shows `take` the dead letters, in any order, until it answers that it has seen enough. A
    /// letter that is requeued, or that a staging replay left, is not shown: it accounts for no row.
    ///
    /// # Errors
    /// [`AuditError`]: some may have been shown.
    async fn letters(
        &self,
        asked: LetterQuery,
        take: &mut (dyn FnMut(LetterMark) -> bool + Send),
    ) -> Result<(), AuditError>;
}
