//! Processors: events into rows.
//!
//! A processor takes events by the prefix of their type and fills one table. The configured ones
//! ([`ProcessorConfig`], compiled to a [`ProcessorPlan`]) need no code; [`Processor`] is for those
//! that do. All of it is pure: the same event, time and configuration make the same rows.

mod bad_row;
mod compile;
mod config;
mod convert;
mod decimal;
mod matcher;
mod names;
mod plan;
mod plan_error;

use std::sync::Arc;

use crate::envelope::Envelope;
use crate::message::Message;
use crate::row::{Row, TableSpec};
use crate::time::Timestamp;

pub use bad_row::BadRow;
pub use config::{ColumnConfig, MessageField, ProcessorConfig};
pub use matcher::Matcher;
pub use plan::ProcessorPlan;
pub use plan_error::PlanError;

/// The column that tells which row of a key stands.
pub const VERSION_COLUMN: &str = "_version";

/// The highest revision: 11 bits, so that a version stays a positive 64-bit integer.
pub const MAX_REVISION: u16 = 2047;

/// Bits of a version that hold microseconds; enough until the year 2112.
const MICROS_BITS: u32 = 52;

/// A valid event, as a processor sees it.
#[derive(Clone, Copy, Debug)]
pub struct EventView<'a> {
    /// The message that carries it; its payload is the event.
    pub message: &'a Message,
    /// What the event says about itself.
    pub envelope: &'a Envelope,
}

/// How the rows of an event are found again in their table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// Each by its key.
    Key,
    /// All together by the column with this index, which holds the event's or the message's id.
    Event(usize),
    /// Not at all, for this reason.
    Lost(&'static str),
}

/// Makes rows of events.
pub trait Processor: Send + Sync + 'static {
    /// The processor's name, as in its actor's path and in dead letters.
    fn name(&self) -> &str;

    /// Which event types it takes: prefixes, or `*` for what no other processor took.
    fn patterns(&self) -> &[String];

    /// The table it fills.
    fn table(&self) -> &Arc<TableSpec>;

    /// How the rows of an event are found again.
    fn trace(&self) -> Trace {
        if self.table().key.is_empty() {
            Trace::Lost("it has no key, and no event's id")
        } else {
            Trace::Key
        }
    }

    /// The keys of the rows that the event would have, where they can be told though a row cannot
    /// be made.
    fn keys(&self, _event: &EventView<'_>) -> Option<Vec<Row>> {
        None
    }

    /// Appends the event's rows, which may be none, to `rows`. `now` is the time of processing.
    ///
    /// # Errors
    /// [`BadRow`] when the event can never become its rows; `rows` is then as it was.
    fn rows(
        &self,
        event: &EventView<'_>,
        now: Timestamp,
        rows: &mut Vec<Row>,
    ) -> Result<(), BadRow>;
}

/// A row's version: a higher revision wins against any time, within a revision the later time
/// wins. Times outside 1970 to 2112 count as the nearer end.
#[must_use]
pub fn version(revision: u16, time: Timestamp) -> i64 {
    let micros = time.micros().clamp(0, (1 << MICROS_BITS) - 1);
    (i64::from(revision.min(MAX_REVISION)) << MICROS_BITS) | micros
}

#[cfg(test)]
mod tests;
