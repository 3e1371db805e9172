//! The generations of a log: which of its events belong to which.
//!
//! A generation is part of a message's id and the highest part of its position. An event keeps the
//! generation in which it was published; a new generation holds the events after that point.

use std::time::Duration;

use kappa_actors::time::Timestamp;
use rusqlite::Connection;

use super::ranges::Range;

/// Why a generation began that no healing began.
pub(super) const MADE: &str = "the log was made";
pub(super) const BY_COMMAND: &str = "by command";

/// How long status reports a healing.
const REPORTED_FOR: Duration = Duration::from_secs(7 * 86_400);

/// One generation: from its first offset up to the one before the next generation's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Generation {
    pub(super) first_offset: i64,
    /// From 1, ascending with the offset.
    pub(super) number: u32,
    /// The clock when it began, in microseconds. Every earlier event was published by then,
    /// whatever its publish time is.
    pub(super) began: i64,
    /// Why it began.
    pub(super) reason: String,
}

/// All generations of a log, the oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Generations(Vec<Generation>);

impl Generations {
    /// Reads them all, as the present transaction or statement of the connection sees them.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        const SELECT: &str =
            "SELECT first_offset, generation, began, reason FROM generations ORDER BY first_offset";
        let mut select = connection.prepare_cached(SELECT)?;
        let rows = select.query_map((), |row| {
            Ok(Generation {
                first_offset: row.get(0)?,
                number: row.get(1)?,
                began: row.get(2)?,
                reason: row.get(3)?,
            })
        })?;
        rows.collect::<rusqlite::Result<_>>().map(Self)
    }

    /// The generation of the event at `offset`; 0 if the file has none for it.
    pub(super) fn number_of(&self, offset: i64) -> u32 {
        let later = self.0.partition_point(|generation| generation.first_offset <= offset);
        later.checked_sub(1).map_or(0, |at| self.0[at].number)
    }

    /// The first offset of the generation of the event at `offset`.
    pub(super) fn first_of(&self, offset: i64) -> i64 {
        let later = self.0.partition_point(|generation| generation.first_offset <= offset);
        later.checked_sub(1).map_or(0, |at| self.0[at].first_offset)
    }

    /// The parts of `range` that are of one generation each, in order. Within a part, publish
    /// times never decrease.
    pub(super) fn parts(&self, range: Range) -> impl Iterator<Item = Range> + '_ {
        self.0.iter().enumerate().filter_map(move |(at, generation)| {
            let next = self.0.get(at + 1).map_or(i64::MAX, |next| next.first_offset);
            let part = Range {
                first: generation.first_offset.max(range.first),
                last: (next - 1).min(range.last),
            };
            (part.first <= part.last).then_some(part)
        })
    }

    /// A time by which the event at `offset` was published, whatever its publish time is.
    pub(super) fn published_by(&self, offset: i64) -> i64 {
        let later = self.0.iter().filter(|generation| generation.first_offset > offset);
        later.map(|generation| generation.began).min().unwrap_or(i64::MAX)
    }

    /// The last offset of the generations up to `number`, in a log that ends at `head`.
    pub(super) fn end_of(&self, number: u32, head: i64) -> i64 {
        let next = self.0.iter().find(|generation| generation.number > number);
        next.map_or(head, |next| (next.first_offset - 1).min(head))
    }

    /// Describes the generations that a healing of the last days began.
    pub(super) fn healings(&self, now: Timestamp) -> Vec<String> {
        let since = now.before(REPORTED_FOR).micros();
        let healed = self
            .0
            .iter()
            .filter(|it| it.began >= since && ![MADE, BY_COMMAND].contains(&it.reason.as_str()));
        let text = |it: &Generation| {
            let began = Timestamp::from_micros(it.began);
            format!("generation {} of the log began {began}: {}", it.number, it.reason)
        };
        healed.map(text).collect()
    }

    /// All of them, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Generation> {
        self.0.iter()
    }
}
