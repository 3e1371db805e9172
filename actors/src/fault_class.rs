//! Classes of faults, which dead letters are grouped by.
//!
//! A class names a place in the configuration and a kind of fault, such as
//! `orders.amount: not a NUMERIC`. No constructor takes a text of an event: a kind is a constant of
//! this program, and a name is one of a configured processor or column. So the configuration bounds
//! the number of classes, and a class may be the label of a metric.

use std::borrow::Cow;
use std::fmt;

use crate::port::{Refusal, RefusalKind};
use crate::processor::{BadRow, Processor};
use crate::row::{ColumnType, TableSpec};

/// The class of a letter from before classes existed.
pub const UNCLASSIFIED: &str = "unclassified";

/// Class of the fault that made an event a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FaultClass {
    /// Built from constants and configured names.
    place: Cow<'static, str>,
    kind: &'static str,
}

/// How an event ended the work on it, other than by an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashKind {
    /// It panicked an actor.
    Panic,
    /// It killed the process.
    Kill,
}

impl FaultClass {
    /// The payload is no event; `place` is `envelope` or one of its keys.
    pub(crate) const fn envelope(place: &'static str, kind: &'static str) -> Self {
        Self { place: Cow::Borrowed(place), kind }
    }

    /// `processor` cannot make the rows of the event.
    #[must_use]
    pub fn bad_row(processor: &dyn Processor, bad: &BadRow) -> Self {
        let kind = match bad {
            BadRow::Value { expected, .. } => misfit(*expected),
            BadRow::Missing { .. } => "missing",
            BadRow::NotAnArray { .. } => "explode finds no array",
            BadRow::TooManyRows { .. } => "more rows than max_rows_per_event",
            BadRow::TooManyBytes { .. } => "more bytes than max_bytes_per_event",
            BadRow::RepeatedKey { .. } => "two rows with one key",
            BadRow::Future { .. } => "later than max_future allows",
            BadRow::Other(_) => "rejected by the processor",
        };
        let column = bad.column().and_then(|name| processor.table().column(name));
        Self::of_rows(processor.name(), processor.table(), column, kind)
    }

    /// The warehouse refuses a row of this processor.
    #[must_use]
    pub fn refused(processor: &str, table: &TableSpec, refusal: &Refusal) -> Self {
        let kind = match refusal.kind {
            RefusalKind::TooLarge => "refused, too large for the warehouse",
            RefusalKind::Constraint => "refused by a constraint of the table",
            RefusalKind::Value => "refused for a value",
            RefusalKind::Partition => "refused, outside the range of partitions",
            RefusalKind::Unexplained => "refused without a reason",
        };
        Self::of_rows(processor, table, None, kind)
    }

    /// The work on a duty crashed: of this processor, or of none.
    pub(crate) fn crash(processor: Option<&str>, duty: &'static str, kind: CrashKind) -> Self {
        let place = processor.map_or(Cow::Borrowed(duty), |name| Cow::Owned(name.to_owned()));
        let kind = match kind {
            CrashKind::Panic => "panics its actor",
            CrashKind::Kill => "kills the process",
        };
        Self { place, kind }
    }

    /// `column` is an index of `table`, so its name is a configured one.
    fn of_rows(
        processor: &str,
        table: &TableSpec,
        column: Option<usize>,
        kind: &'static str,
    ) -> Self {
        let column = column.and_then(|at| table.columns.get(at));
        let place = match column {
            Some(column) => format!("{processor}.{}", column.name),
            None => processor.to_owned(),
        };
        Self { place: Cow::Owned(place), kind }
    }
}

impl fmt::Display for FaultClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.kind)
    }
}

const fn misfit(expected: ColumnType) -> &'static str {
    match expected {
        ColumnType::String => "not a STRING",
        ColumnType::Integer => "not an INTEGER",
        ColumnType::Float => "not a FLOAT",
        ColumnType::Numeric => "not a NUMERIC",
        ColumnType::Boolean => "not a BOOLEAN",
        ColumnType::Timestamp => "not a TIMESTAMP",
        ColumnType::Date => "not a DATE",
        ColumnType::Json => "not JSON",
        ColumnType::Bytes => "not BYTES",
    }
}

#[cfg(test)]
mod tests;
