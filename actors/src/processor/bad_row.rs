//! Why an event cannot become its rows.

use std::time::Duration;

use crate::row::{ColumnType, Value};

/// Characters of a value that are shown.
const MAX_SHOWN_CHARS: usize = 100;

/// The reason why an event can never become its rows, for a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRow {
    /// A value does not fit its column.
    #[error("column {column}: {value} is no {}", expected.name())]
    Value {
        /// The column.
        column: String,
        /// The value's JSON text, shortened.
        value: String,
        /// The type of the column.
        expected: ColumnType,
    },
    /// A required column, or one of the key, has no value.
    #[error("column {column}: missing")]
    Missing {
        /// The column.
        column: String,
    },
    /// The value to explode is no array.
    #[error("{pointer}: not an array")]
    NotAnArray {
        /// The pointer of `explode`.
        pointer: String,
    },
    /// The event explodes into more rows than it may.
    #[error("{pointer}: more rows than max_rows_per_event ({rows} > {max})")]
    TooManyRows {
        /// The pointer of `explode`.
        pointer: String,
        /// How many there would be.
        rows: usize,
        /// How many there may be.
        max: usize,
    },
    /// The event's rows would take more memory than they may.
    #[error("its rows take more than max_bytes_per_event ({max} bytes)")]
    TooManyBytes {
        /// How many bytes they may take.
        max: u64,
    },
    /// Two rows of the event have the same key.
    #[error("two rows have the key {key}")]
    RepeatedKey {
        /// The columns of the key with their values, shortened.
        key: String,
    },
    /// The `order_by` value is further behind the publish time than `max_future` allows.
    #[error(
        "column {column}: {value} is more than max_future ({}) after the publish time",
        humantime::format_duration(*max)
    )]
    Future {
        /// The column of `order_by`.
        column: String,
        /// Its value.
        value: String,
        /// The setting.
        max: Duration,
    },
    /// The reason that a processor written in code gives.
    #[error("{0}")]
    Other(String),
}

impl BadRow {
    /// For a value that does not fit; `value` is its JSON text.
    #[must_use]
    pub fn value(column: &str, value: &str, expected: ColumnType) -> Self {
        Self::Value { column: column.to_owned(), value: shorten(value), expected }
    }

    /// The column that is at fault, if one is.
    #[must_use]
    pub fn column(&self) -> Option<&str> {
        match self {
            Self::Value { column, .. } | Self::Missing { column } | Self::Future { column, .. } => {
                Some(column)
            }
            Self::NotAnArray { .. }
            | Self::TooManyRows { .. }
            | Self::TooManyBytes { .. }
            | Self::RepeatedKey { .. }
            | Self::Other(_) => None,
        }
    }

    /// For two rows with this key, given as column names and values.
    pub(super) fn repeated_key<'a>(key: impl Iterator<Item = (&'a str, &'a Value)>) -> Self {
        let columns: Vec<_> = key.map(|(column, value)| format!("{column} = {value}")).collect();
        Self::RepeatedKey { key: shorten(&columns.join(", ")) }
    }
}

fn shorten(value: &str) -> String {
    match value.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_value_is_named_with_its_column_and_type_and_cut_at_a_character() {
        let short = BadRow::value("total_amount", "\"abc\"", ColumnType::Float);
        assert_eq!(short.to_string(), "column total_amount: \"abc\" is no FLOAT");
        let long = BadRow::value("day", &"é".repeat(101), ColumnType::Date);
        assert_eq!(long.to_string(), format!("column day: {}… is no DATE", "é".repeat(100)));
    }
}
