//! The dead letters, read back by those who mend what caused them.

use async_trait::async_trait;

use crate::dead_letter_table::DeadLetter;
use crate::time::Timestamp;

/// Which dead letters are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Only those whose id begins with this text.
    pub id_prefix: Option<String>,
    /// Only those whose reason contains this text; case counts.
    pub reason: Option<String>,
    /// Only those that were published again (`true`), or only those that were not.
    pub requeued: Option<bool>,
    /// At most this many.
    pub limit: usize,
}

/// The dead letters cannot be reached: ask later.
#[derive(Debug, thiserror::Error)]
#[error("the dead letters are unavailable: {0}")]
pub struct DeadLettersUnavailable(pub String);

/// The dead letters that a warehouse holds. They are written as rows of
/// [`dead_letter_table`](crate::dead_letter_table); a daemon may be writing them at the same time.
///
/// Where no dead letter was ever written there is none to find, which is no error.
#[async_trait]
pub trait DeadLetterStore: Send + Sync + 'static {
    /// The ids of the letters that pass `filter`, the newest failure first. Ids alone: payloads are
    /// large, and a caller with little memory gets one letter after the other.
    ///
    /// # Errors
    /// [`DeadLettersUnavailable`]: ask later.
    async fn find(&self, filter: &DeadLetterFilter) -> Result<Vec<String>, DeadLettersUnavailable>;

    /// The letter with this id.
    ///
    /// # Errors
    /// [`DeadLettersUnavailable`]: ask later.
    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, DeadLettersUnavailable>;

    /// Notes durably that these letters were published again at `at`. Ids that are not there are
    /// passed over.
    ///
    /// # Errors
    /// [`DeadLettersUnavailable`]: any of them may or may not be marked; mark them again.
    async fn mark_requeued(
        &self,
        ids: &[String],
        at: Timestamp,
    ) -> Result<(), DeadLettersUnavailable>;
}
