//! Rows into a table, one outcome for each.

use std::cmp::Ordering;
use std::fmt::Write as _;

use chrono::NaiveDate;
use kappa_actors::port::Refusal;
use kappa_actors::row::{Row, TableSpec, Value};
use rusqlite::{CachedStatement, Connection, ffi};

use super::table::{idle_columns, list, quoted, rejects_the_statement, words};
use crate::backend::embedded::sqlite;

/// Writes `rows` by the port's rule, within the caller's transaction, and names the rows that
/// SQLite refuses.
///
/// # Errors
/// SQLite's, when it is not a row that is at fault.
pub(super) fn insert(
    connection: &Connection,
    table: &TableSpec,
    rows: &[Row],
) -> rusqlite::Result<Vec<Refusal>> {
    let idle = idle_columns(connection, table)?;
    let sql = upsert(table, &idle);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut text = String::new();
    let mut refused = Vec::new();
    for row in in_key_order(table, rows) {
        let outcome = match misfit(table, &rows[row]) {
            None => match put(&mut statement, &rows[row], &mut text) {
                Err(error) if is_of_the_row(connection, &sql, &error) => Some(words(&error)),
                put => put?,
            },
            misfit => misfit,
        };
        if let Some(reason) = outcome {
            // A trigger of the user's can end the transaction, and with it the rows before.
            if connection.is_autocommit() {
                let aborted = ffi::Error::new(ffi::SQLITE_ABORT_ROLLBACK);
                return Err(rusqlite::Error::SqliteFailure(aborted, Some(reason)));
            }
            refused.push(Refusal { row, reason });
        }
    }
    refused.sort_unstable_by_key(|refusal| refusal.row);
    Ok(refused)
}

/// Whether an expression of the table's failed on the values of this row: of a trigger, a CHECK or an
/// index, such as "malformed JSON" and "integer overflow". SQLite has the same code for a statement
/// that it cannot prepare, as one from the cache may be after a change of the schema.
fn is_of_the_row(connection: &Connection, sql: &str, error: &rusqlite::Error) -> bool {
    rejects_the_statement(error) && connection.prepare(sql).is_ok()
}

/// The statement for one row. A row that replaces another leaves nothing of it in idle columns.
fn upsert(table: &TableSpec, idle: &[String]) -> String {
    let name = quoted(&table.name);
    let all = list(table.columns.iter().map(|column| quoted(&column.name)));
    let marks = list(table.columns.iter().map(|_| "?"));
    let mut sql = format!("INSERT INTO {name}({all}) VALUES({marks})");
    if table.key.is_empty() {
        return sql;
    }
    let key = list(table.key.iter().map(|&column| quoted(&table.columns[column].name)));
    sql += &format!(" ON CONFLICT({key}) DO ");
    let Some(version) = table.version.map(|column| quoted(&table.columns[column].name)) else {
        return sql + "NOTHING";
    };
    let others = (0..table.columns.len()).filter(|column| !table.key.contains(column));
    let replaced = others
        .map(|column| quoted(&table.columns[column].name))
        .map(|column| format!("{column}=excluded.{column}"))
        .chain(idle.iter().map(|column| format!("{}=NULL", quoted(column))));
    // A standing row from before the version column has none, and is not newer.
    sql + &format!(
        "UPDATE SET {} WHERE ({name}.{version} > excluded.{version}) IS NOT TRUE",
        list(replaced)
    )
}

/// The rows' indexes in the order of their keys, which SQLite's index is filled fastest in; rows of
/// one key stay in their order.
fn in_key_order(table: &TableSpec, rows: &[Row]) -> Vec<usize> {
    let mut order: Vec<_> = (0..rows.len()).collect();
    let key = |row: usize| table.key.iter().map(move |&column| rows[row].0.get(column));
    order.sort_by(|&a, &b| {
        key(a)
            .zip(key(b))
            .map(|(a, b)| by_value(a, b))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    });
    order
}

/// SQLite's order within one type; a total order of all values, as sorting needs one.
pub(super) fn by_value(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (Some(Value::Text(a)), Some(Value::Text(b))) => a.cmp(b),
        (Some(Value::Integer(a)), Some(Value::Integer(b))) => a.cmp(b),
        // Adding zero makes the two zeros one, as they are one key.
        (Some(Value::Float(a)), Some(Value::Float(b))) => (a + 0.0).total_cmp(&(b + 0.0)),
        (Some(Value::Boolean(a)), Some(Value::Boolean(b))) => a.cmp(b),
        (Some(Value::Timestamp(a)), Some(Value::Timestamp(b))) => a.cmp(b),
        (Some(Value::Date(a)), Some(Value::Date(b))) => a.cmp(b),
        (Some(Value::Bytes(a)), Some(Value::Bytes(b))) => a.cmp(b),
        (a, b) => a.map(rank).cmp(&b.map(rank)),
    }
}

/// The place of a value's type among the types.
const fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Text(_) => 1,
        Value::Integer(_) => 2,
        Value::Float(_) => 3,
        Value::Boolean(_) => 4,
        Value::Timestamp(_) => 5,
        Value::Date(_) => 6,
        Value::Bytes(_) => 7,
    }
}

/// Why the row cannot belong to the table, if it cannot. SQLite would give a NULL in an INTEGER key
/// a number of its own.
fn misfit(table: &TableSpec, row: &Row) -> Option<String> {
    if row.0.len() != table.columns.len() {
        return Some(format!("{} values for {} columns", row.0.len(), table.columns.len()));
    }
    let missing = table.key.iter().find(|&&column| row.0[column] == Value::Null)?;
    Some(format!("{} is NULL, and it is part of the key", table.columns[*missing].name))
}

/// Writes one row; the text says why SQLite will never take it.
fn put(
    statement: &mut CachedStatement<'_>,
    row: &Row,
    text: &mut String,
) -> rusqlite::Result<Option<String>> {
    let bound = (1..).zip(&row.0).try_for_each(|(at, value)| bind(statement, at, value, text));
    match bound.and_then(|()| statement.raw_execute()) {
        Ok(_) => Ok(None),
        Err(error) if sqlite::refuses_the_row(&error) => Ok(Some(words(&error))),
        Err(error) => Err(error),
    }
}

/// Binds one value in the form that the table's columns hold; `text` is room to write in.
pub(super) fn bind(
    statement: &mut CachedStatement<'_>,
    at: usize,
    value: &Value,
    text: &mut String,
) -> rusqlite::Result<()> {
    text.clear();
    match value {
        Value::Null => return statement.raw_bind_parameter(at, rusqlite::types::Null),
        Value::Text(value) => return statement.raw_bind_parameter(at, value.as_str()),
        Value::Integer(value) => return statement.raw_bind_parameter(at, value),
        Value::Float(value) => return statement.raw_bind_parameter(at, value),
        Value::Boolean(value) => return statement.raw_bind_parameter(at, value),
        Value::Bytes(value) => return statement.raw_bind_parameter(at, &value[..]),
        // Writing into a string cannot fail.
        Value::Timestamp(time) => drop(write!(text, "{time}")),
        Value::Date(days) => drop(write!(text, "{}", date(*days))),
    }
    statement.raw_bind_parameter(at, text.as_str())
}

/// The day, `2026-02-17`; a day that no calendar holds is the calendar's nearest.
pub(super) fn date(days: i32) -> NaiveDate {
    let nearest = if days < 0 { NaiveDate::MIN } else { NaiveDate::MAX };
    NaiveDate::from_epoch_days(days).unwrap_or(nearest)
}
