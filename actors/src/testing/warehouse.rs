//! Conformance: what every [`Warehouse`] does, checked through the port alone.
//!
//! A backend's test makes a fresh warehouse and awaits [`conforms`]. Each check uses a table of
//! its own name, so all may run on one warehouse, side by side or one by one.
#![expect(clippy::expect_used, reason = "a check that cannot go on has failed")]

mod tables;
mod writes;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::port::{Refusal, Warehouse, Written};
use crate::position::Position;
use crate::row::{Column, ColumnType, Row, TableSpec, Value};
use crate::time::Timestamp;
use crate::version::Version;

pub use tables::*;
pub use writes::*;

/// How a backend's tests look into its tables.
#[async_trait]
pub trait ReadBack: Warehouse {
    /// All rows of the table, in any order, with a value for each column of `table`.
    async fn read_back(&self, table: &TableSpec) -> Vec<Row>;
}

/// Runs every check against `warehouse`, which holds none of the checks' tables yet.
pub async fn conforms(warehouse: &impl ReadBack) {
    conforms_but_for_equal_versions(warehouse).await;
    an_equal_version_changes_nothing(warehouse).await;
    rows_that_a_newer_version_keeps_out_are_counted(warehouse).await;
    rows_of_one_call_count_in_their_order(warehouse).await;
}

/// Runs every check except those on several rows with one version: where all rows are kept and a view chooses, any of
/// them may be current.
pub async fn conforms_but_for_equal_versions(warehouse: &impl ReadBack) {
    a_table_is_created_once(warehouse).await;
    a_new_column_is_added_and_is_null_in_old_rows(warehouse).await;
    a_column_no_longer_configured_stays_and_is_null_in_new_rows(warehouse).await;
    a_changed_column_type_is_a_mismatch(warehouse).await;
    a_changed_key_is_a_mismatch(warehouse).await;
    a_changed_order_by_is_a_mismatch(warehouse).await;
    a_table_is_empty_until_a_row_is_written(warehouse).await;
    every_type_comes_back_as_it_went_in(warehouse).await;
    a_row_replaces_an_older_one(warehouse).await;
    without_a_version_the_first_row_stays(warehouse).await;
    without_a_key_every_row_is_added(warehouse).await;
    a_key_of_two_columns_needs_both_to_match(warehouse).await;
    keys_are_compared_byte_by_byte(warehouse).await;
    writing_nothing_is_no_error(warehouse).await;
    a_table_that_is_not_there_is_gone(warehouse).await;
    a_column_that_is_not_there_makes_the_table_gone(warehouse).await;
    writers_side_by_side_lose_nothing(warehouse).await;
}

/// A table with these columns; the key is made of the first `key` columns, the version is the
/// column named `_version`.
#[must_use]
pub fn table(name: &str, columns: &[(&str, ColumnType)], key: usize) -> Arc<TableSpec> {
    let columns: Vec<_> = columns
        .iter()
        .map(|&(name, kind)| Column { name: name.to_owned(), kind, description: None })
        .collect();
    Arc::new(TableSpec {
        name: name.to_owned(),
        key: (0..key).collect(),
        version: columns.iter().position(|column| column.name == "_version"),
        columns,
        order_by: None,
        partition_by: None,
        cluster_by: vec![],
        keeps_events: true,
    })
}

/// A row of these values.
#[must_use]
pub fn row(values: impl IntoIterator<Item = Value>) -> Row {
    Row(values.into_iter().collect())
}

/// A text value.
#[must_use]
pub fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// An id, a text, and a version: the columns of most checks.
const VERSIONED: [(&str, ColumnType); 3] =
    [("id", ColumnType::String), ("said", ColumnType::String), ("_version", ColumnType::Bytes)];

/// The version of a row that a message published at this time makes, in microseconds.
#[must_use]
pub fn version(micros: i64) -> Value {
    let position = Position::of("1", Timestamp::from_micros(micros), 0);
    Value::Version(Box::new(Version::new(None, position, 0)))
}

fn versioned(id: &str, said: &str, micros: i64) -> Row {
    row([text(id), text(said), version(micros)])
}

/// So that a test can say which rows were refused: `assert_eq!(written, [])`.
impl<const N: usize> PartialEq<[Refusal; N]> for Written {
    fn eq(&self, refusals: &[Refusal; N]) -> bool {
        self.refusals == refusals
    }
}

/// Ensures the table and writes rows that the warehouse has no reason to refuse.
async fn store(warehouse: &impl Warehouse, table: &Arc<TableSpec>, rows: Vec<Row>) {
    warehouse.ensure_table(table).await.expect("the table is ensured");
    let refused = warehouse.write(table, Arc::new(rows)).await.expect("the rows are written");
    assert_eq!(refused.refusals, [], "{}", table.name);
}

/// The row as a warehouse hands it back: a version is its bytes.
#[must_use]
pub fn read_row(row: &Row) -> Row {
    let bytes = |value: &Value| match value {
        Value::Version(version) => {
            Value::Bytes(Box::new(Bytes::copy_from_slice(version.to_bytes().as_ref())))
        }
        other => other.clone(),
    };
    Row(row.0.iter().map(bytes).collect())
}

/// Asserts that the table holds exactly these rows, in whatever order.
async fn assert_holds(warehouse: &impl ReadBack, table: &TableSpec, rows: &[Row]) {
    let sorted = |rows: &[Row]| {
        let mut rows: Vec<_> = rows.iter().map(|row| format!("{:?}", read_row(row))).collect();
        rows.sort();
        rows
    };
    assert_eq!(sorted(&warehouse.read_back(table).await), sorted(rows), "{}", table.name);
}
