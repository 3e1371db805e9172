//! Rows and the tables they go to.

use std::cmp::Ordering;
use std::fmt;

use bytes::Bytes;
use chrono::NaiveDate;
use compact_str::CompactString;
use serde::Deserialize;

use crate::time::Timestamp;
use crate::version::Version;

/// The type of a column, named as BigQuery names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ColumnType {
    /// Text.
    String,
    /// A signed 64-bit integer.
    Integer,
    /// A double.
    Float,
    /// An exact decimal, held as text: 29 digits before the point, 9 behind it.
    Numeric,
    /// True or false.
    Boolean,
    /// A point in time, in microseconds.
    Timestamp,
    /// A calendar day.
    Date,
    /// A JSON document, held as its text.
    Json,
    /// Bytes; base64 in JSON.
    Bytes,
}

impl ColumnType {
    /// The name used in the configuration and in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "STRING",
            Self::Integer => "INTEGER",
            Self::Float => "FLOAT",
            Self::Numeric => "NUMERIC",
            Self::Boolean => "BOOLEAN",
            Self::Timestamp => "TIMESTAMP",
            Self::Date => "DATE",
            Self::Json => "JSON",
            Self::Bytes => "BYTES",
        }
    }
}

/// One column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The column's name.
    pub name: String,
    /// Its type.
    pub kind: ColumnType,
    /// A description for people.
    pub description: Option<String>,
}

/// A table as the configuration wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSpec {
    /// The table's name.
    pub name: String,
    /// Its columns, in the order of a row's values.
    pub columns: Vec<Column>,
    /// Indexes of the key's columns; never NULL in a row. Empty: rows are only added.
    pub key: Vec<usize>,
    /// Index of the BYTES column with the row's [`Version`]: the greatest of a key is current.
    /// Without it the first row of a key stays.
    pub version: Option<usize>,
    /// The definition of the column that comes first in a version, if there is one. It belongs to
    /// the table as the key does: versions made under another definition cannot be compared.
    pub order_by: Option<String>,
    /// Index of the TIMESTAMP or DATE column to partition by, where the warehouse can.
    pub partition_by: Option<usize>,
    /// Indexes of the columns to cluster by, where the warehouse can.
    pub cluster_by: Vec<usize>,
    /// Whether the key holds the event's id, so that each event has its own rows. Otherwise the table
    /// keeps the latest state of each key.
    pub keeps_events: bool,
}

impl TableSpec {
    /// The index of the column with this name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

/// One value of a row. NUMERIC and JSON values are [`Value::Text`].
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// STRING, NUMERIC and JSON.
    Text(CompactString),
    /// INTEGER.
    Integer(i64),
    /// FLOAT; never NaN or infinite.
    Float(f64),
    /// BOOLEAN.
    Boolean(bool),
    /// TIMESTAMP.
    Timestamp(Timestamp),
    /// DATE, in days since 1970-01-01.
    Date(i32),
    /// BYTES. Boxed, since it is rare: it would make every other value half as large again.
    Bytes(Box<Bytes>),
    /// BYTES: the version of the row.
    Version(Box<Version>),
}

/// As people read it in an error.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Integer(integer) => integer.fmt(f),
            Self::Float(float) => float.fmt(f),
            Self::Boolean(boolean) => boolean.fmt(f),
            Self::Timestamp(time) => time.fmt(f),
            Self::Date(days) => match NaiveDate::from_epoch_days(*days) {
                Some(date) => date.fmt(f),
                None => write!(f, "day {days}"),
            },
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Version(version) => version.fmt(f),
        }
    }
}

impl Value {
    /// Bytes on the heap behind this value.
    pub(crate) fn heap_bytes(&self) -> u64 {
        match self {
            Self::Text(text) if text.is_heap_allocated() => text.capacity() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Version(version) => size_of_val(&**version) as u64,
            _ => 0,
        }
    }

    /// Compares two values of one type as warehouses do; a total order of all values.
    #[must_use]
    pub fn total_cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            // Adding zero makes the two zeros one, as they are one key.
            (Self::Float(a), Self::Float(b)) => (a + 0.0).total_cmp(&(b + 0.0)),
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::Timestamp(a), Self::Timestamp(b)) => a.cmp(b),
            (Self::Date(a), Self::Date(b)) => a.cmp(b),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            (Self::Version(a), Self::Version(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }

    /// The place of the value's type among the types.
    const fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Text(_) => 1,
            Self::Integer(_) => 2,
            Self::Float(_) => 3,
            Self::Boolean(_) => 4,
            Self::Timestamp(_) => 5,
            Self::Date(_) => 6,
            Self::Bytes(_) => 7,
            Self::Version(_) => 8,
        }
    }
}

/// One row: a value for each column of its table, in the table's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Row(pub Box<[Value]>);

impl Row {
    /// Compares two rows by the columns with these indexes.
    #[must_use]
    pub fn cmp_by(&self, columns: &[usize], other: &Self) -> Ordering {
        columns
            .iter()
            .filter_map(|&column| Some(self.0.get(column)?.total_cmp(other.0.get(column)?)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }

    /// Returns the memory that the row needs, in bytes.
    #[must_use]
    pub fn cost_bytes(&self) -> u64 {
        Self::fixed_bytes(self.0.len()) + self.0.iter().map(Value::heap_bytes).sum::<u64>()
    }

    /// The cost of a row of so many columns, without the bytes behind its values.
    pub(crate) const fn fixed_bytes(columns: usize) -> u64 {
        (size_of::<Self>() + columns * size_of::<Value>()) as u64
    }
}
