//! The results of an audit.

use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;

use crate::archive::Window;
use crate::row::{Row, TableSpec, Value};
use crate::time::Timestamp;
use crate::version::Version;

/// Told while an audit goes on, in the order of the windows.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Windows or tables that are not audited, and the reason; reported first.
    LeftOut(LeftOut),
    /// A table differs from the archive's events.
    Found(Finding),
    /// A window is done.
    Window(Tally),
}

/// Windows that are not audited, or not for one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The start of the first.
    pub from: Timestamp,
    /// The end of the last.
    pub to: Timestamp,
    /// How many of them hold something.
    pub windows: u64,
    /// The table that is left out; `None`: all.
    pub table: Option<String>,
    /// Why.
    pub reason: Reason,
}

/// Why something is not audited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Parts of it wait to be composed.
    Unsealed,
    /// It may hold events that are not acknowledged; all before this time is.
    Unacknowledged(Timestamp),
    /// Rows written in this time may still be hidden.
    Stale(Duration),
    /// The rows of an event cannot be found again.
    Untraceable(&'static str),
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The window.
    pub window: Window,
    /// The archive's file.
    pub file: Arc<str>,
    /// The line in it, from 1.
    pub line: u64,
    /// The kind of difference.
    pub what: What,
}

/// The kind of a difference between tables and archive.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The row is missing, or there are too few, without a dead letter.
    Missing(Standing),
    /// The table has the row more than once.
    Twice(Standing),
    /// The current row of the key was made by an older message, and no dead letter explains it.
    Stale {
        /// The row.
        row: Standing,
        /// Its version by the present rules.
        expected: Version,
        /// The version that it has, if one can be read.
        found: Option<Version>,
    },
    /// The current row was made by the same message under a lower revision. No fault.
    OlderRule {
        /// The row.
        row: Standing,
        /// The rule's revision.
        expected: u16,
        /// The revision that made the row.
        found: u16,
    },
    /// The row has the expected version, but not the expected values.
    Differs {
        /// The row.
        row: Standing,
        /// The columns that differ.
        columns: Vec<Difference>,
    },
    /// No row can be made of the event, and there is neither one nor a dead letter.
    Unaccounted {
        /// The event's id, where it can be read.
        event: Option<CompactString>,
        /// The processor; `None` where the event is not valid by the present rules.
        processor: Option<String>,
        /// Why no row can be made.
        reason: String,
    },
    /// The file cannot be read here.
    Damaged(String),
}

impl What {
    /// The kind of a finding that is about one row, and the row.
    pub(super) fn row(&self) -> Option<(&'static str, &Standing)> {
        Some(match self {
            Self::Missing(row) => ("missing", row),
            Self::Twice(row) => ("twice", row),
            Self::Stale { row, .. } => ("stale", row),
            Self::OlderRule { row, .. } => ("older rule", row),
            Self::Differs { row, .. } => ("differs", row),
            Self::Unaccounted { .. } | Self::Damaged(_) => return None,
        })
    }
}

/// A column that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Its index in the table.
    pub column: usize,
    /// The value by the present rules.
    pub expected: Value,
    /// The value in the table.
    pub found: Value,
}

/// The expected and found numbers of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// The table.
    pub table: Arc<TableSpec>,
    /// Which of the table's columns `key` is of.
    pub columns: Arc<[usize]>,
    /// The values that identify the row, or the rows of an event.
    pub key: Row,
    /// The event that makes it.
    pub event: CompactString,
    /// How many rows there should be.
    pub expected: u64,
    /// How many there are.
    pub found: u64,
}

/// One window, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The window.
    pub window: Window,
    /// Events: lines that are no repetition.
    pub events: u64,
    /// Lines that repeat another: the archive is at-least-once.
    pub repeated: u64,
    /// Rows that the events make.
    pub rows: u64,
    /// Rows, and events without any, that a dead letter accounts for.
    pub dead_letters: u64,
    /// Rows, and events without any, whose dead letter was purged: they are missing, and the purge is
    /// why nothing waits to be requeued.
    pub purged: u64,
    /// Rows that are missing.
    pub missing: u64,
    /// Doubled rows.
    pub twice: u64,
    /// Rows that an older message made.
    pub stale: u64,
    /// Rows with the expected version and other values.
    pub differing: u64,
    /// Rows that the same message made under a lower revision. No fault.
    pub older_rule: u64,
    /// Events of which there is neither row nor dead letter.
    pub unaccounted: u64,
    /// Places where a file cannot be read.
    pub damaged: u64,
}

impl Tally {
    /// Nothing was counted yet.
    pub(super) const fn new(window: Window) -> Self {
        Self {
            window,
            events: 0,
            repeated: 0,
            rows: 0,
            dead_letters: 0,
            purged: 0,
            missing: 0,
            twice: 0,
            stale: 0,
            differing: 0,
            older_rule: 0,
            unaccounted: 0,
            damaged: 0,
        }
    }

    /// Whether everything is as it should be.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.missing + self.purged + self.twice + self.stale == 0
            && self.differing + self.unaccounted + self.damaged == 0
    }

    /// Adds what `other` counted.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.repeated += other.repeated;
        self.rows += other.rows;
        self.dead_letters += other.dead_letters;
        self.purged += other.purged;
        self.missing += other.missing;
        self.twice += other.twice;
        self.stale += other.stale;
        self.differing += other.differing;
        self.older_rule += other.older_rule;
        self.unaccounted += other.unaccounted;
        self.damaged += other.damaged;
    }
}

/// One table over all windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableTally {
    /// The table.
    pub table: String,
    /// Its processor.
    pub processor: String,
    /// Rows that the events make.
    pub rows: u64,
    /// Missing rows.
    pub missing: u64,
    /// Rows that an older message made.
    pub stale: u64,
    /// Rows that the same message made under a lower revision.
    pub older_rule: u64,
    /// How long a row may be written and still be hidden.
    pub staleness: Duration,
}

/// An audit that came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Windows audited.
    pub windows: u64,
    /// All of them, counted; its window means nothing.
    pub total: Tally,
    /// The tables, in the order of their processors.
    pub tables: Vec<TableTally>,
    /// The first and the last of the own times of the events in the windows that were read,
    /// selected or not.
    pub event_times: Option<(Timestamp, Timestamp)>,
    /// The start of the archive's first window and the end of its last, looked up where the range
    /// has none.
    pub archived: Option<(Timestamp, Timestamp)>,
}
