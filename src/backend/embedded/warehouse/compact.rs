//! Gives the free pages of the warehouse's file back.
//!
//! A row replaces the older one of its key in place, so no table has superseded rows. Rows that were
//! removed or dropped with their tables leave free pages, which the file keeps.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _};

use super::{FILE, VERSION};
use crate::backend::embedded::sqlite;

/// A table and the size of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Rows of the table.
    pub rows: i64,
    /// Bytes of the file before.
    pub before: i64,
    /// Bytes of the file afterwards.
    pub after: i64,
}

/// Compacts the warehouse of this folder, unless this is a `dry_run`; `None` if it has no such table.
/// A daemon's commits wait meanwhile.
///
/// # Errors
/// SQLite's error, or the fault of the file.
pub fn compact(dir: &Path, table: &str, dry_run: bool) -> anyhow::Result<Option<Compacted>> {
    let path = dir.join(FILE);
    if !path.try_exists()? {
        return Ok(None);
    }
    let connection = sqlite::open(&path, VERSION, "")?;
    let named = "SELECT name FROM sqlite_master WHERE type = 'table' AND name = ?";
    let named: Option<String> =
        connection.query_row(named, [table], |row| row.get(0)).optional()?;
    if named.is_none() {
        return Ok(None);
    }
    let count = format!("SELECT count(*) FROM \"{}\"", table.replace('"', "\"\""));
    let rows = connection.query_row(&count, (), |row| row.get(0))?;
    let page = pragma(&connection, "page_size")?;
    let before = page * pragma(&connection, "page_count")?;
    if dry_run {
        let after = before - page * pragma(&connection, "freelist_count")?;
        return Ok(Some(Compacted { rows, before, after }));
    }
    connection.execute_batch("VACUUM")?;
    // The file becomes smaller when the log of its pages is written back.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
    let after = page * pragma(&connection, "page_count")?;
    Ok(Some(Compacted { rows, before, after }))
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}
