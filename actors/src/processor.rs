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
mod new_rows;
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
pub use new_rows::{NewRow, NewRows};
pub use plan::{EventLimits, ProcessorPlan};
pub use plan_error::PlanError;

/// The column with the row's [`Version`](crate::version::Version).
pub const VERSION_COLUMN: &str = "_version";

/// The highest revision.
pub const MAX_REVISION: u16 = u16::MAX;

/// A valid event, as a processor sees it.
#[derive(Clone, Copy, Debug)]
pub struct EventView<'a> {
    /// The message that carries it; its payload is the event.
    pub message: &'a Message,
    /// The event's id, type and time.
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

    /// Returns the event types that it takes: prefixes, or `*` for types that no other processor takes.
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

    /// Returns the keys of the event's rows, if they are known although a row cannot be made.
    fn keys(&self, _event: &EventView<'_>) -> Option<Vec<Row>> {
        None
    }

    /// Bytes that the rows of one event may take in memory, at most.
    fn max_bytes_per_event(&self) -> u64;

    /// Appends the event's rows, which may be none, to `rows`. `now` is the time of processing.
    /// Callers use [`make_rows`], which also checks that the rows have different keys, and removes
    /// the rows of an event that fails.
    ///
    /// # Errors
    /// [`BadRow`] when the event can never become its rows.
    fn rows(
        &self,
        event: &EventView<'_>,
        now: Timestamp,
        rows: &mut NewRows<'_>,
    ) -> Result<(), BadRow>;
}

/// Appends the event's rows, all or none. Returns how many there are.
///
/// # Errors
/// [`BadRow`] of the processor, [`BadRow::TooManyBytes`] or [`BadRow::RepeatedKey`]: of two rows of
/// one event with the same key one would silently replace the other.
pub fn make_rows(
    processor: &dyn Processor,
    event: &EventView<'_>,
    now: Timestamp,
    rows: &mut Vec<Row>,
) -> Result<usize, BadRow> {
    make_rows_within(processor, processor.max_bytes_per_event(), event, now, rows)
}

/// Like [`make_rows`], with another limit than the processor's.
pub(crate) fn make_rows_within(
    processor: &dyn Processor,
    max_bytes: u64,
    event: &EventView<'_>,
    now: Timestamp,
    rows: &mut Vec<Row>,
) -> Result<usize, BadRow> {
    let mut new = NewRows::new(rows, max_bytes);
    let made = processor
        .rows(event, now, &mut new)
        .and_then(|()| check_keys_differ(processor.table(), new.made()));
    match made {
        Ok(()) => Ok(new.made().len()),
        Err(bad) => {
            new.clear();
            Err(bad)
        }
    }
}

fn check_keys_differ(table: &TableSpec, rows: &[Row]) -> Result<(), BadRow> {
    if rows.len() < 2 || table.key.is_empty() {
        return Ok(());
    }
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_unstable_by(|a, b| a.cmp_by(&table.key, b));
    let repeated = sorted.windows(2).find(|pair| pair[0].cmp_by(&table.key, pair[1]).is_eq());
    match repeated {
        None => Ok(()),
        Some(pair) => {
            let columns = table.key.iter();
            let key = columns.map(|&at| (table.columns[at].name.as_str(), &pair[0].0[at]));
            Err(BadRow::repeated_key(key))
        }
    }
}

#[cfg(test)]
mod tests;
