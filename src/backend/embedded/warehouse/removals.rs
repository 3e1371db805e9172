//! The rows that a merge has removed, so that a late copy of one does not bring it back.
//!
//! Beside a table `t` from which rows were removed there is a table `kappa_removed_t`, with the
//! columns of the key and the version of each removal. It keeps out rows of the same message under
//! a revision that is not higher. Rows of other messages pass.

use kappa_actors::row::TableSpec;
use kappa_actors::version::Version;
use rusqlite::{Connection, OptionalExtension as _};

use super::table::{declaration, list, quoted};

/// Digits of SQL's `substr` for the position in a version, counted from its end.
pub(super) const POSITION: &str = "-24, 20";

/// The name of the table of the removals from `table`.
fn name(table: &str) -> String {
    format!("kappa_removed_{table}")
}

/// Whether rows were ever removed from the table in this file.
pub(super) fn exist(
    connection: &Connection,
    schema: &str,
    table: &TableSpec,
) -> rusqlite::Result<bool> {
    let sql = format!("SELECT 1 FROM {schema}.sqlite_schema WHERE type = 'table' AND name = ?");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_row([name(&table.name)], |_| Ok(())).optional()?.is_some())
}

/// Forgets the removals from a table of this name that was dropped.
pub(super) fn forget(connection: &Connection, table: &TableSpec) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("DROP TABLE IF EXISTS main.{}", quoted(&name(&table.name))))
}

/// Records the removal of the rows `l` of the table for which `condition` is true.
pub(super) fn record(
    connection: &Connection,
    schema: &str,
    table: &TableSpec,
    condition: &str,
) -> rusqlite::Result<()> {
    let Some(version) = table.version else { return Ok(()) };
    let (to, from) = (quoted(&name(&table.name)), quoted(&table.name));
    let columns = || table.key.iter().chain([&version]).map(|&at| &table.columns[at]);
    let declared = columns().map(|column| format!("{} NOT NULL", declaration(column)));
    let names = list(columns().map(|column| quoted(&column.name)));
    let key = list(table.key.iter().map(|&at| format!("l.{}", quoted(&table.columns[at].name))));
    let version = format!("l.{}", quoted(&table.columns[version].name));
    // As `Version::removed` does. SQLite concatenates to text, which holds the same bytes.
    let removed = format!("CAST(substr({version}, 1, length({version}) - 1) || X'01' AS BLOB)");
    connection.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {schema}.{to}({}, PRIMARY KEY({names})) WITHOUT ROWID; \
         INSERT OR IGNORE INTO {schema}.{to}({names}) \
         SELECT {key}, {removed} FROM {schema}.{from} AS l \
         WHERE length({version}) IN ({}, {}) AND {condition}",
        list(declared),
        Version::BYTES,
        Version::ORDERED_BYTES,
    ))
}

/// A condition: whether the row whose values `value` names was removed.
pub(super) fn holds(schema: &str, table: &TableSpec, value: impl Fn(usize) -> String) -> String {
    let Some(version) = table.version else { return "FALSE".to_owned() };
    let own = |at: usize| format!("r.{}", quoted(&table.columns[at].name));
    let key: Vec<_> = table.key.iter().map(|&at| format!("{} = {}", own(at), value(at))).collect();
    let (removed, made) = (own(version), value(version));
    format!(
        "EXISTS (SELECT 1 FROM {schema}.{} AS r WHERE {} AND {removed} > {made} \
         AND substr({removed}, {POSITION}) = substr({made}, {POSITION}))",
        quoted(&name(&table.name)),
        key.join(" AND "),
    )
}
