#![doc = include_str!("replay/README.md")]

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
