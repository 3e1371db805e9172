//! History, read from the archive, or from the log itself, as a log with an end.
//!
//! Of an archive every line of every object in the range is handed out until it is acknowledged; an object is
//! done when all its lines are. What is done is told, so that a replay that was killed goes on
//! behind it; what was half done comes again, and the key makes that harmless.
//!
//! A line that cannot be read back is handed out as it stands: the parser refuses it, and the dead
//! letter's message id names object and line. An object that cannot be read to its end is a
//! [`Fault`]: the lines before the damage count, the rest is said to be missing.

mod archive_log;
mod feed;
mod file_feed;
mod journal;
mod letter_log;
mod loans;
mod log_range;
mod object;
mod paced;
mod requeued_lines;
mod witness;

pub use archive_log::{ArchiveLog, ReplayRange};
pub(crate) use feed::Decoder;
pub use file_feed::{FileSource, ImportFile};
pub use journal::{Journal, JournalError, Resumed, unfinished_replays};
pub use letter_log::{LetterLog, OpenLetters, Selection};
pub use loans::{Fault, Progress};
pub use log_range::{EndedBy, Ending, LogRange, RangeProgress};
pub use object::{ReadFault, read_lines};
pub use paced::Paced;
pub use witness::Witness;

#[cfg(test)]
mod tests;
