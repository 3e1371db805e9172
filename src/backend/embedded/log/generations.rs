//! The generations of a log: which of its events belong to which.
//!
//! A generation is part of a message's id and the highest part of its position. An event keeps the
//! generation in which it was published; a new generation holds the events after that point.

use rusqlite::Connection;

/// One generation: from its first offset up to the one before the next generation's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generation {
    pub(super) first_offset: i64,
    /// From 1, ascending with the offset.
    pub(super) number: u32,
    /// The clock when it began, in microseconds. Every earlier event was published by then,
    /// whatever its publish time is.
    pub(super) began: i64,
}

/// All generations of a log, the oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Generations(Vec<Generation>);

impl Generations {
    /// Reads them all, as the present transaction or statement of the connection sees them.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        const SELECT: &str =
            "SELECT first_offset, generation, began FROM generations ORDER BY first_offset";
        let mut select = connection.prepare_cached(SELECT)?;
        let rows = select.query_map((), |row| {
            Ok(Generation { first_offset: row.get(0)?, number: row.get(1)?, began: row.get(2)? })
        })?;
        rows.collect::<rusqlite::Result<_>>().map(Self)
    }

    /// The generation of the event at `offset`; 0 if the file has none for it.
    pub(super) fn number_of(&self, offset: i64) -> u32 {
        let later = self.0.partition_point(|generation| generation.first_offset <= offset);
        later.checked_sub(1).map_or(0, |at| self.0[at].number)
    }
}
