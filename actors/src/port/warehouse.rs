//! The warehouse that rows are written to.

use std::sync::Arc;

use async_trait::async_trait;

use crate::row::{Row, TableSpec};

/// What ensuring a table did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ensured {
    /// The table did not exist and was created.
    pub created: bool,
    /// Columns added to an existing table.
    pub added: Vec<String>,
    /// Columns of the table that the configuration no longer has: they stay, NULL in new rows.
    pub idle: Vec<String>,
}

/// Why a table is not ready.
#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    /// Wait and ensure again; at start, end with this message.
    #[error("the warehouse is unavailable: {0}")]
    Unavailable(String),
    /// The existing table contradicts the configuration; only a person can decide.
    #[error("{0}")]
    Mismatch(String),
}

/// One row that the warehouse will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Index of the row in the call's `rows`.
    pub row: usize,
    /// The kind of the refusal, for the class of the dead letter.
    pub kind: RefusalKind,
    /// Why, in the warehouse's words.
    pub reason: String,
}

/// The kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The row is larger than the warehouse takes.
    TooLarge,
    /// A constraint or a trigger of the table forbids it.
    Constraint,
    /// The table cannot hold one of its values.
    Value,
    /// Its partition is outside the range that the warehouse takes.
    Partition,
    /// The warehouse refuses the row alone and names no fault of it.
    Unexplained,
}

/// The result of a write: its refused rows and its superseded ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The rows that are not durable, in ascending order of their index; all others are.
    pub refusals: Vec<Refusal>,
    /// Rows that changed nothing because their key has a row of a newer version. 0 where the
    /// warehouse resolves versions later.
    pub superseded: u64,
}

impl From<Vec<Refusal>> for Written {
    fn from(refusals: Vec<Refusal>) -> Self {
        Self { refusals, superseded: 0 }
    }
}

/// Why a write settled no row.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Wait and write the same rows again, for as long as it lasts.
    #[error("the warehouse is unavailable: {0}")]
    Unavailable(String),
    /// The table is missing or lacks columns: ensure it, then write again.
    #[error("the table is not ready: {0}")]
    Gone(String),
}

/// Tables with keys, written row by row.
#[async_trait]
pub trait Warehouse: Send + Sync + 'static {
    /// Creates the table if it is missing and adds the columns it lacks.
    ///
    /// # Errors
    /// [`EnsureError::Mismatch`] when a column exists with another type, or the table has another
    /// key or another definition of `order_by`.
    async fn ensure_table(&self, table: &TableSpec) -> Result<Ensured, EnsureError>;

    /// Whether the table has no row, or is missing.
    ///
    /// # Errors
    /// [`EnsureError::Unavailable`]: ask again later.
    async fn is_empty(&self, table: &TableSpec) -> Result<bool, EnsureError>;

    /// Writes `rows` to `table`. On `Ok` every row is durable except the refused ones.
    ///
    /// In a table with a key, a row replaces the row of the same key only if its version is
    /// greater; without a version column the first row of a key stays. This holds among the rows of one call too, in
    /// their order.
    ///
    /// # Errors
    /// [`WriteError`] settles no row: any of them may or may not be written, and the key makes
    /// writing them again harmless. A cancelled call has the same effect.
    async fn write(
        &self,
        table: &Arc<TableSpec>,
        rows: Arc<Vec<Row>>,
    ) -> Result<Written, WriteError>;

    /// Describes why the warehouse answers nothing any more until the process starts again, such as
    /// the panic of the thread that owns its file. Answers at once.
    fn ended(&self) -> Option<String> {
        None
    }

    /// Closes the connections for writing. Called once, after the last write.
    async fn close(&self) {}
}
