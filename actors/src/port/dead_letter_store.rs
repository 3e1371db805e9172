//! The dead letters, read back by those who mend what caused them.

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;

use super::ArchiveStore;
use crate::dead_letter_table::{DeadLetter, Mark, Stage};
use crate::time::Timestamp;

/// Which dead letters are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Only those whose id begins with this text.
    pub id_prefix: Option<String>,
    /// Only those whose reason contains this text; case counts.
    pub reason: Option<String>,
    /// Only those of this class; [`UNCLASSIFIED`](crate::fault_class::UNCLASSIFIED) means those
    /// without one.
    pub class: Option<String>,
    /// Only those that are requeued (`true`), or only those that are not.
    pub requeued: Option<bool>,
    /// Purged letters are included.
    pub purged_too: bool,
    /// Only those that failed before this time.
    pub failed_before: Option<Timestamp>,
    /// Not those that a staging replay left.
    pub live_only: bool,
    /// At most this many.
    pub limit: usize,
}

impl DeadLetterFilter {
    /// All letters that were not purged.
    pub const ALL: Self = Self {
        id_prefix: None,
        reason: None,
        class: None,
        requeued: None,
        purged_too: false,
        failed_before: None,
        live_only: false,
        limit: usize::MAX,
    };
}

/// The letters of one stage, duty and class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterGroup {
    /// Where their events' ways ended.
    pub stage: Stage,
    /// The duty that failed.
    pub duty: String,
    /// The class of the fault; `None`: they are from before classes.
    pub class: Option<String>,
    /// Letters that wait to be requeued.
    pub open: u64,
    /// Letters that are requeued.
    pub requeued: u64,
    /// Letters whose content was removed.
    pub purged: u64,
    /// The first failure.
    pub first: Timestamp,
    /// The last failure.
    pub last: Timestamp,
    /// The id of one of them.
    pub example: String,
}

impl LetterGroup {
    /// How many letters there are.
    #[must_use]
    pub const fn letters(&self) -> u64 {
        self.open + self.requeued + self.purged
    }
}

/// The dead letters cannot be reached: ask later.
#[derive(Debug, thiserror::Error)]
#[error("the dead letters are unavailable: {0}")]
pub struct DeadLettersUnavailable(pub String);

/// Reads the payload of a letter that is an object of the archive. A purged letter has none.
///
/// # Errors
/// [`DeadLettersUnavailable`]: ask later.
pub async fn read_payload(
    letter: &mut DeadLetter,
    archive: Option<&dyn ArchiveStore>,
) -> Result<(), DeadLettersUnavailable> {
    let (Some(object), None) = (&letter.payload_object, letter.purged_at) else { return Ok(()) };
    let unavailable = |error: &dyn std::fmt::Display| {
        DeadLettersUnavailable(format!("payload of {}: {error}", letter.id))
    };
    let Some(archive) = archive else {
        return Err(unavailable(&format_args!("it is {object} of an archive that is not given")));
    };
    let chunks = archive.read(object).await.map_err(|error| unavailable(&error))?;
    let chunks: Vec<Bytes> = chunks.try_collect().await.map_err(|error| unavailable(&error))?;
    letter.payload = chunks.concat().into();
    Ok(())
}

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

    /// Groups the letters that pass `filter`, whose limit does not count here; the group with most
    /// letters first. The configuration bounds the number of groups.
    ///
    /// # Errors
    /// [`DeadLettersUnavailable`]: ask later.
    async fn groups(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<LetterGroup>, DeadLettersUnavailable>;

    /// Removes the content of the letters that pass `filter`, whose limit does not count here, by
    /// [`DeadLetter::purged`](crate::dead_letter_table::DeadLetter::purged). Returns the number of
    /// letters. A letter that fails again meanwhile stays open. A payload that is an object
    /// of the archive stays.
    ///
    /// # Errors
    /// [`DeadLettersUnavailable`]: any of them may or may not be purged; purge again.
    async fn purge(
        &self,
        filter: &DeadLetterFilter,
        at: Timestamp,
    ) -> Result<u64, DeadLettersUnavailable>;
}
