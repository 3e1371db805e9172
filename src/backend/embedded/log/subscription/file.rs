//! The file itself: its schema, who is in it, and how it is kept small.

use std::path::Path;

use rusqlite::Connection;

use super::state::read_ranges;
use crate::backend::embedded::log::ranges::RangeSet;
use crate::backend::embedded::sqlite::{self, OpenError};

const VERSION: i64 = 2;
const SCHEMA: &str = "
CREATE TABLE subscriptions (
    name TEXT PRIMARY KEY,
    log INTEGER NOT NULL, -- the id of the log it reads
    epoch INTEGER NOT NULL, -- raised by each seek
    skip_until INTEGER, -- a seek into the future: events published before this are skipped
    expires INTEGER -- of a job's own: when it is forgotten, in microseconds, unless it is used
) STRICT;
CREATE TABLE acknowledged (
    subscription TEXT NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (subscription, first)
) STRICT, WITHOUT ROWID;
CREATE TABLE lines (
    subscription TEXT NOT NULL,
    archived INTEGER NOT NULL, -- 1: acknowledged before a seek, with a line in the archive
    first INTEGER NOT NULL,    -- 0: acknowledged or passed over, without one
    last INTEGER NOT NULL,
    PRIMARY KEY (subscription, archived, first)
) STRICT, WITHOUT ROWID;
";

/// Opens `subscriptions.db`.
pub(in crate::backend::embedded::log) fn open(path: &Path) -> Result<Connection, OpenError> {
    sqlite::open(path, VERSION, SCHEMA)
}

/// What each subscription of the log has acknowledged.
pub(in crate::backend::embedded::log) fn all_acknowledged(
    connection: &Connection,
    log: i64,
) -> rusqlite::Result<Vec<RangeSet>> {
    let snapshot = connection.unchecked_transaction()?;
    let mut select = snapshot.prepare_cached("SELECT name FROM subscriptions WHERE log = ?")?;
    let names = select.query_map([log], |row| row.get::<_, String>(0))?;
    names.map(|name| read_ranges(&snapshot, &name?)).collect()
}

/// Forgets the subscriptions of jobs that have not used them for as long as they live, and what is
/// noted of events that the log no longer holds. Writes only if there is any.
pub(in crate::backend::embedded::log) fn tidy(
    connection: &Connection,
    removed_offset: i64,
    now: i64,
) -> rusqlite::Result<()> {
    const EXPIRED: &str = "SELECT name FROM subscriptions WHERE expires <= ?";
    const OLD: &str = "SELECT EXISTS (SELECT 1 FROM lines WHERE last <= ?)";
    let mut select = connection.prepare_cached(EXPIRED)?;
    let expired = select.query_map([now], |row| row.get(0))?;
    for name in expired.collect::<rusqlite::Result<Vec<String>>>()? {
        forget(connection, &name)?;
    }
    if connection.prepare_cached(OLD)?.query_row([removed_offset], |row| row.get(0))? {
        let remove = "DELETE FROM lines WHERE last <= ?";
        connection.prepare_cached(remove)?.execute([removed_offset])?;
    }
    Ok(())
}

pub(super) fn forget(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    for (table, column) in
        [("subscriptions", "name"), ("acknowledged", "subscription"), ("lines", "subscription")]
    {
        transaction.execute(&format!("DELETE FROM {table} WHERE {column} = ?"), [name])?;
    }
    transaction.commit()
}
