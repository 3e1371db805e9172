//! A warehouse that is asked what stands in it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use compact_str::CompactString;

use crate::dead_letter_table::Stage;
use crate::replay::ReplayRange;
use crate::row::{Row, TableSpec, Value};

/// Keys whose rows are to be counted.
#[derive(Clone, Debug)]
pub struct KeyCount {
    /// The table.
    pub table: Arc<TableSpec>,
    /// Indexes of the columns that a key's values are of: the table's key, or any others.
    pub columns: Vec<usize>,
    /// The keys; each is a value for each of `columns`, none of them NULL. The same one may stand
    /// there again.
    pub keys: Arc<Vec<Row>>,
    /// Between which values of the table's partition column most of the rows are likely to be. The
    /// answer is the same without it, perhaps later and dearer.
    pub near: Option<(Value, Value)>,
}

/// What tells a dead letter from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterMark {
    /// The log's name for its message.
    pub message_id: CompactString,
    /// Its event's id, where it could be read.
    pub event_id: Option<CompactString>,
    /// Where its event's way ended.
    pub stage: Stage,
    /// The processor concerned, if one was.
    pub processor: Option<String>,
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

/// What an audit asks of a warehouse. Nothing is written, and nobody who writes is waited for.
///
/// What was committed before the call counts, but for what [`Auditable::staleness`] says.
#[async_trait]
pub trait Auditable: Send + Sync + 'static {
    /// How long ago a row of this table may have been written and still be hidden from a question.
    fn staleness(&self, _table: &TableSpec) -> Duration {
        Duration::ZERO
    }

    /// Keys that are best counted in one call.
    fn batch(&self) -> usize;

    /// How many rows stand for each key, in the order of the keys, as a reader of the table sees
    /// them. A table that is not there has none.
    ///
    /// # Errors
    /// [`AuditError`]: nothing was counted.
    async fn count(&self, asked: &KeyCount) -> Result<Vec<u64>, AuditError>;

    /// Shows `take` every dead letter whose message was published in `published`, in any order,
    /// until it answers that it has seen enough.
    ///
    /// # Errors
    /// [`AuditError`]: some may have been shown.
    async fn letters(
        &self,
        published: ReplayRange,
        take: &mut (dyn FnMut(LetterMark) -> bool + Send),
    ) -> Result<(), AuditError>;
}
