//! Rows and the tables they go to.

use bytes::Bytes;
use compact_str::CompactString;
use serde::Deserialize;

use crate::time::Timestamp;

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
    /// What it holds, for people.
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
    /// Index of the INTEGER column that tells which row of a key stands; without it the first does.
    pub version: Option<usize>,
    /// The definition of the column that comes first in a version, if there is one. It belongs to
    /// the table as the key does: versions made under another definition cannot be compared.
    pub order_by: Option<String>,
    /// Index of the TIMESTAMP or DATE column to partition by, where the warehouse can.
    pub partition_by: Option<usize>,
    /// Indexes of the columns to cluster by, where the warehouse can.
    pub cluster_by: Vec<usize>,
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
}

impl Value {
    /// Bytes on the heap behind this value.
    fn heap_bytes(&self) -> u64 {
        match self {
            Self::Text(text) if text.is_heap_allocated() => text.len() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            _ => 0,
        }
    }
}

/// One row: a value for each column of its table, in the table's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Row(pub Box<[Value]>);

impl Row {
    /// What the row costs in memory, in bytes.
    #[must_use]
    pub fn cost_bytes(&self) -> u64 {
        let values = size_of_val(&*self.0) as u64;
        size_of::<Self>() as u64 + values + self.0.iter().map(Value::heap_bytes).sum::<u64>()
    }
}
