//! Rows into a table, one outcome for each.

use std::fmt::Write as _;

use chrono::NaiveDate;
use kappa_actors::port::{Refusal, RefusalKind, Written};
use kappa_actors::row::{Row, TableSpec, Value};
use rusqlite::{CachedStatement, Connection, ffi};

use super::removals;
use super::table::{idle_columns, list, quoted, rejects_the_statement, words};
use crate::backend::embedded::sqlite;

/// Writes `rows` by the port's rule, within the caller's transaction; names the rows that SQLite
/// refuses and counts those that a newer version kept out.
///
/// # Errors
/// SQLite's, when it is not a row that is at fault.
pub(super) fn insert(
    connection: &Connection,
    table: &TableSpec,
    rows: &[Row],
) -> rusqlite::Result<Written> {
    let idle = idle_columns(connection, table)?;
    let removals = table.version.is_some() && removals::exist(connection, "main", table)?;
    let sql = upsert(table, &idle, removals);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut text = String::new();
    let mut written = Written::default();
    let mut newer =
        newer_row(table, removals).map(|sql| connection.prepare_cached(&sql)).transpose()?;
    for row in in_key_order(table, rows) {
        let outcome = match misfit(table, &rows[row]) {
            None => match put(&mut statement, &rows[row], &mut text) {
                Err(error) if is_of_the_row(connection, &sql, &error) => {
                    Put::Refused(RefusalKind::Value, words(&error))
                }
                put => put?,
            },
            Some(reason) => Put::Refused(RefusalKind::Value, reason),
        };
        if let (Put::Unchanged, Some(newer)) = (&outcome, &mut newer) {
            written.superseded += u64::from(is_there(newer, table, &rows[row], &mut text)?);
        }
        if let Put::Refused(kind, reason) = outcome {
            // A trigger of the user's can end the transaction, and with it the rows before.
            if connection.is_autocommit() {
                let aborted = ffi::Error::new(ffi::SQLITE_ABORT_ROLLBACK);
                return Err(rusqlite::Error::SqliteFailure(aborted, Some(reason)));
            }
            written.refusals.push(Refusal { row, kind, reason });
        }
    }
    written.refusals.sort_unstable_by_key(|refusal| refusal.row);
    Ok(written)
}

/// Whether an expression of the table's failed on the values of this row: of a trigger, a CHECK or an
/// index, such as "malformed JSON" and "integer overflow". SQLite has the same code for a statement
/// that it cannot prepare, as one from the cache may be after a change of the schema.
fn is_of_the_row(connection: &Connection, sql: &str, error: &rusqlite::Error) -> bool {
    rejects_the_statement(error) && connection.prepare(sql).is_ok()
}

/// The statement for one row. A row that replaces another leaves nothing of it in idle columns.
/// With `removals`, a row that was removed is kept out.
fn upsert(table: &TableSpec, idle: &[String], removals: bool) -> String {
    let name = quoted(&table.name);
    let all = list(table.columns.iter().map(|column| quoted(&column.name)));
    let marks = list((1..=table.columns.len()).map(|nth| format!("?{nth}")));
    if table.key.is_empty() {
        return format!("INSERT INTO {name}({all}) VALUES({marks})");
    }
    let values = match removals {
        true => {
            let removed = removals::holds("main", table, |at| format!("?{}", at + 1));
            format!("SELECT {marks} WHERE NOT {removed}")
        }
        false => format!("VALUES({marks})"),
    };
    let mut sql = format!("INSERT INTO {name}({all}) {values}");
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
    // A row from before the version column has no version, and is not newer.
    sql + &format!(
        "UPDATE SET {} WHERE ({name}.{version} >= excluded.{version}) IS NOT TRUE",
        list(replaced)
    )
}

/// The rows' indexes in the order of their keys, which SQLite's index is filled fastest in; rows of
/// one key stay in their order.
fn in_key_order(table: &TableSpec, rows: &[Row]) -> Vec<usize> {
    let mut order: Vec<_> = (0..rows.len()).collect();
    order.sort_by(|&a, &b| rows[a].cmp_by(&table.key, &rows[b]));
    order
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

/// Selects whether a row of the key has a newer version, or, with `removals`, was removed: takes the
/// key's values, then the version.
fn newer_row(table: &TableSpec, removals: bool) -> Option<String> {
    let version = table.version.filter(|_| !table.key.is_empty())?;
    let own = |at: usize| quoted(&table.columns[at].name);
    let mark = |at| match table.key.iter().position(|&column| column == at) {
        Some(nth) => format!("?{}", nth + 1),
        None => format!("?{}", table.key.len() + 1),
    };
    let key: Vec<_> = table.key.iter().map(|&at| format!("{}={}", own(at), mark(at))).collect();
    let mut sql = format!(
        "SELECT 1 FROM {} WHERE {} AND {} > {}",
        quoted(&table.name),
        key.join(" AND "),
        own(version),
        mark(version)
    );
    if removals {
        sql += &format!(" UNION ALL SELECT 1 WHERE {}", removals::holds("main", table, mark));
    }
    Some(sql)
}

/// Whether `newer`, the statement of [`newer_row`], finds a row for `row`.
fn is_there(
    newer: &mut CachedStatement<'_>,
    table: &TableSpec,
    row: &Row,
    text: &mut String,
) -> rusqlite::Result<bool> {
    for (at, column) in (1..).zip(table.key.iter().copied().chain(table.version)) {
        bind(newer, at, &row.0[column], text)?;
    }
    let found = newer.raw_query().next()?.is_some();
    Ok(found)
}

/// What became of one row.
enum Put {
    /// It is written.
    Written,
    /// The table has a row of its key that is as new or newer.
    Unchanged,
    /// SQLite will never take it, for this reason.
    Refused(RefusalKind, String),
}

/// Writes one row.
fn put(statement: &mut CachedStatement<'_>, row: &Row, text: &mut String) -> rusqlite::Result<Put> {
    let bound = (1..).zip(&row.0).try_for_each(|(at, value)| bind(statement, at, value, text));
    match bound.and_then(|()| statement.raw_execute()) {
        Ok(0) => Ok(Put::Unchanged),
        Ok(_) => Ok(Put::Written),
        Err(error) => match sqlite::refusal_of_the_row(&error) {
            Some(kind) => Ok(Put::Refused(kind, words(&error))),
            None => Err(error),
        },
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
        Value::Version(version) => {
            return statement.raw_bind_parameter(at, version.to_bytes().as_ref());
        }
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
