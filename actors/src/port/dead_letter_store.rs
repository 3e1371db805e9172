//! The dead letters, read back by those who mend what caused them.

use async_trait::async_trait;

use crate::dead_letter_table::{DeadLetter, Mark};

/// Which dead letters are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Only those whose id begins with this text.
    pub id_prefix: Option<String>,
    /// Only those whose reason contains this text; case counts.
    pub reason: Option<String>,
    /// Only those that are requeued (`true`), or only those that are open.
    pub requeued: Option<bool>,
    /// Not those that a staging replay left.
    pub live_only: bool,
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

    /// Notes durably that these letters were requeued. Ids that are not there are passed over, and so
    /// are letters with a version above the mark's: they have failed again and stay open.
    ///
    /// # Errors
    /// [`DeadLettersUnavailable`]: any of them may or may not be marked; mark them again.
    async fn mark_requeued(&self, marks: &[Mark]) -> Result<(), DeadLettersUnavailable>;
}
