//! Declares tables in SQLite, and adapts them to the configuration.
//!
//! Scripts rely on the declaration: STRING, DATE, JSON and NUMERIC are held as TEXT, FLOAT as REAL, INTEGER and
//! BOOLEAN as INTEGER, BYTES as BLOB, TIMESTAMP as UTC text with six decimals. The declared type has two readers:
//! SQLite takes the affinity from the words that it knows, kappa the configured type.

use kappa_actors::port::Ensured;
use kappa_actors::row::{Column, ColumnType, TableSpec};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, ffi};

use super::removals;

/// Each type, and how a column of it is declared.
const DECLARED: [(ColumnType, &str); 9] = [
    (ColumnType::String, "TEXT"),
    (ColumnType::Integer, "INTEGER"),
    (ColumnType::Float, "REAL"),
    (ColumnType::Numeric, "NUMERIC TEXT"),
    (ColumnType::Boolean, "BOOLEAN INTEGER"),
    (ColumnType::Timestamp, "TIMESTAMP TEXT"),
    (ColumnType::Date, "DATE TEXT"),
    (ColumnType::Json, "JSON TEXT"),
    (ColumnType::Bytes, "BLOB"),
];

/// Why a table is not as configured.
pub(super) enum Error {
    /// Only a person can decide; in words for that person.
    Mismatch(String),
    /// SQLite's own answer.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// A column of the file.
struct Standing {
    name: String,
    declared: String,
    /// Place in the key, from 1; 0 for none.
    in_key: u32,
}

/// Creates the table or adds the columns it lacks, all or nothing.
pub(super) fn ensure(connection: &mut Connection, table: &TableSpec) -> Result<Ensured, Error> {
    // Immediate: of two processes that make the table, one waits and then finds it made.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let standing = standing(&transaction, "main", &table.name)?;
    let ensured = if standing.is_empty() {
        transaction.execute_batch(&create(table))?;
        note_order_by(&transaction, table)?;
        removals::forget(&transaction, table)?;
        Ensured { created: true, ..Ensured::default() }
    } else {
        check_is_table(&transaction, &table.name)?;
        check_key(table, &standing)?;
        check_version(table, &standing)?;
        check_order_by(&transaction, "main", table)?;
        Ensured {
            created: false,
            added: add_columns(&transaction, table, &standing)?,
            idle: idle(table, &standing),
        }
    };
    transaction.commit()?;
    Ok(ensured)
}

/// The comparison of a table with its configuration.
pub(super) struct Fit {
    /// Columns that the configuration has, and the table lacks.
    pub(super) lacking: Vec<String>,
    /// Columns that the table has, and the configuration lacks.
    pub(super) idle: Vec<String>,
}

/// Compares the table in this file with its configuration, which it must not contradict; `None` if there is no
/// table. Changes nothing.
pub(super) fn fit(
    connection: &Connection,
    schema: &str,
    table: &TableSpec,
) -> Result<Option<Fit>, Error> {
    let standing = standing(connection, schema, &table.name)?;
    if standing.is_empty() {
        return Ok(None);
    }
    check_key(table, &standing)?;
    check_version(table, &standing)?;
    check_order_by(connection, schema, table)?;
    let mut lacking = Vec::new();
    for column in &table.columns {
        match standing.iter().find(|standing| standing.name.eq_ignore_ascii_case(&column.name)) {
            Some(standing) => check_type(table, column, &standing.declared)?,
            None => lacking.push(column.name.clone()),
        }
    }
    Ok(Some(Fit { lacking, idle: idle(table, &standing) }))
}

/// Columns of the table that the configuration does not have; none where there is no table.
pub(super) fn idle_columns(
    connection: &Connection,
    table: &TableSpec,
) -> rusqlite::Result<Vec<String>> {
    Ok(idle(table, &standing(connection, "main", &table.name)?))
}

/// The columns of the table, in its order; none where there is no table.
fn standing(connection: &Connection, schema: &str, table: &str) -> rusqlite::Result<Vec<Standing>> {
    connection
        .prepare_cached("SELECT name, type, pk FROM pragma_table_info(?, ?) ORDER BY cid")?
        .query_map([table, schema], |row| {
            Ok(Standing { name: row.get(0)?, declared: row.get(1)?, in_key: row.get(2)? })
        })?
        .collect()
}

fn create(table: &TableSpec) -> String {
    let mut parts: Vec<_> = (0..table.columns.len())
        .map(|at| {
            let not_null = if table.key.contains(&at) { " NOT NULL" } else { "" };
            format!("{}{not_null}", declaration(&table.columns[at]))
        })
        .collect();
    if !table.key.is_empty() {
        let key = table.key.iter().map(|&column| quoted(&table.columns[column].name));
        // Rows are stored in the order of their arrival, and the key in an index of its own: with random keys
        // more than twice as fast as rows in the order of the key.
        parts.push(format!("PRIMARY KEY({})", list(key)));
    }
    format!("CREATE TABLE {}({})", quoted(&table.name), list(parts))
}

pub(super) fn declaration(column: &Column) -> String {
    let declared = DECLARED.iter().find(|(kind, _)| *kind == column.kind);
    format!("{} {}", quoted(&column.name), declared.map_or("", |(_, declared)| declared))
}

fn check_is_table(connection: &Connection, name: &str) -> Result<(), Error> {
    let sql = "SELECT type FROM pragma_table_list(?) WHERE schema = 'main'";
    let kind: String = connection.query_row(sql, [name], |row| row.get(0))?;
    if kind == "table" {
        return Ok(());
    }
    Err(Error::Mismatch(format!("{name} is a {kind}, not a table: fill a table of another name")))
}

fn check_key(table: &TableSpec, standing: &[Standing]) -> Result<(), Error> {
    let mut is: Vec<_> = standing.iter().filter(|column| column.in_key > 0).collect();
    is.sort_by_key(|column| column.in_key);
    let is: Vec<_> = is.into_iter().map(|column| column.name.as_str()).collect();
    let wanted: Vec<_> =
        table.key.iter().map(|&column| table.columns[column].name.as_str()).collect();
    if is.len() == wanted.len() && is.iter().zip(&wanted).all(|(a, b)| a.eq_ignore_ascii_case(b)) {
        return Ok(());
    }
    let named = |key: &[&str]| {
        if key.is_empty() { "no key".to_owned() } else { format!("the key {}", key.join(", ")) }
    };
    Err(Error::Mismatch(format!(
        "table {} has {}, but the configuration has {}: set the key back, or fill another table",
        table.name,
        named(&is),
        named(&wanted)
    )))
}

/// Versions were INTEGER numbers once, which cannot be compared with those of today.
fn check_version(table: &TableSpec, standing: &[Standing]) -> Result<(), Error> {
    let Some(Column { name: version, kind, .. }) = table.version.map(|at| &table.columns[at])
    else {
        return Ok(());
    };
    let old = |column: &Standing| column.name == *version && column.declared == "INTEGER";
    if *kind != ColumnType::Bytes || !standing.iter().any(old) {
        return Ok(());
    }
    Err(Error::Mismatch(format!(
        "table {} was made by an earlier kappa: its column {version} is INTEGER; drop the table and \
         replay the archive into it, or fill another table",
        table.name
    )))
}

/// The table that holds the definition of `order_by` of each table that has one.
const ORDERS: &str = "kappa_order_by";

fn note_order_by(connection: &Connection, table: &TableSpec) -> rusqlite::Result<()> {
    if table.order_by.is_some() {
        connection.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS {ORDERS}(name TEXT PRIMARY KEY, definition TEXT) STRICT"
        ))?;
        let sql = format!("INSERT OR REPLACE INTO {ORDERS} VALUES (?, ?)");
        connection.execute(&sql, (&table.name, &table.order_by))?;
    } else if connection.table_exists(Some("main"), ORDERS)? {
        // A dropped table of this name may have left its definition.
        connection.execute(&format!("DELETE FROM {ORDERS} WHERE name = ?"), [&table.name])?;
    }
    Ok(())
}

fn check_order_by(connection: &Connection, schema: &str, table: &TableSpec) -> Result<(), Error> {
    let is: Option<String> = if connection.table_exists(Some(schema), ORDERS)? {
        let sql = format!("SELECT definition FROM {schema}.{ORDERS} WHERE name = ?");
        connection.query_row(&sql, [&table.name], |row| row.get(0)).optional()?
    } else {
        None
    };
    if is == table.order_by || table.version.is_none() {
        return Ok(());
    }
    let named = |order_by: &Option<String>| match order_by {
        Some(definition) => format!("order_by {definition}"),
        None => "no order_by".to_owned(),
    };
    Err(Error::Mismatch(format!(
        "table {} has {}, but the configuration has {}: set order_by back, or fill another table",
        table.name,
        named(&is),
        named(&table.order_by)
    )))
}

/// Whether the table has no row, or is missing.
pub(super) fn is_empty(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    if !connection.table_exists(Some("main"), table)? {
        return Ok(true);
    }
    let sql = format!("SELECT 1 FROM {} LIMIT 1", quoted(table));
    Ok(connection.query_row(&sql, (), |_| Ok(())).optional()?.is_none())
}

/// Adds the missing columns; a column of another type is a mismatch.
fn add_columns(
    connection: &Connection,
    table: &TableSpec,
    standing: &[Standing],
) -> Result<Vec<String>, Error> {
    let mut added = Vec::new();
    for column in &table.columns {
        let same = |standing: &&Standing| standing.name.eq_ignore_ascii_case(&column.name);
        if let Some(standing) = standing.iter().find(same) {
            check_type(table, column, &standing.declared)?;
        } else {
            let (name, column_sql) = (quoted(&table.name), declaration(column));
            connection.execute_batch(&format!("ALTER TABLE {name} ADD COLUMN {column_sql}"))?;
            added.push(column.name.clone());
        }
    }
    Ok(added)
}

fn check_type(table: &TableSpec, column: &Column, declared: &str) -> Result<(), Error> {
    let kind = DECLARED.iter().find(|(_, known)| known.eq_ignore_ascii_case(declared));
    if kind.is_some_and(|(kind, _)| *kind == column.kind) {
        return Ok(());
    }
    Err(Error::Mismatch(format!(
        "column {} of table {} is {}, but the configuration has {}: set the type back, give the \
         column another name, or fill another table",
        column.name,
        table.name,
        kind.map_or(declared, |(kind, _)| kind.name()),
        column.kind.name()
    )))
}

fn idle(table: &TableSpec, standing: &[Standing]) -> Vec<String> {
    let configured =
        |name: &str| table.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    standing.iter().map(|column| column.name.clone()).filter(|name| !configured(name)).collect()
}

/// Whether SQLite rejects the statement itself: the table, or a column of it, is missing or no
/// name for one.
pub(super) fn rejects_the_statement(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code & 0xff == ffi::SQLITE_ERROR)
}

/// Returns SQLite's message, without the statement.
pub(super) fn words(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        error => error.to_string(),
    }
}

/// Any text as the name of a table or column.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Parts with commas between them.
pub(super) fn list(parts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    parts.into_iter().fold(String::new(), |mut list, part| {
        list.push_str(if list.is_empty() { "" } else { ", " });
        list + part.as_ref()
    })
}
