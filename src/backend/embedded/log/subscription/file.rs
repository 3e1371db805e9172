//! The file itself: its schema, its subscriptions, and its checkpoints.

use std::path::Path;
use std::time::Duration;

use kappa_actors::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::state::read_ranges;
use crate::backend::embedded::log::events::Head;
use crate::backend::embedded::log::ranges::RangeSet;
use crate::backend::embedded::sqlite::{self, OpenError};

pub(in crate::backend::embedded::log) const VERSION: i64 = 5;
const SCHEMA: &str = "
CREATE TABLE subscriptions (
    name TEXT PRIMARY KEY,
    log INTEGER NOT NULL, -- the id of the log it reads
    epoch INTEGER NOT NULL, -- raised by each seek
    skip_until INTEGER, -- a seek into the future: events published before this are skipped
    used INTEGER NOT NULL, -- when it was last used, about, in microseconds
    life INTEGER -- how long it is kept unused, in microseconds; NULL: no bound
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
CREATE TABLE runs ( -- the last run of a daemon, and what it tries in small batches
    subscription TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL, -- that of the subscription: the offsets belong to it
    running INTEGER NOT NULL, -- 1: it has not stopped by itself
    max_in_flight INTEGER NOT NULL,
    until_0 INTEGER NOT NULL, -- up to which offset batches are large, small, single events
    until_1 INTEGER NOT NULL,
    until_2 INTEGER NOT NULL,
    first INTEGER, -- the batch that is being tried
    last INTEGER,
    alone INTEGER NOT NULL, -- the event that was alone in flight at so many kills
    deaths INTEGER NOT NULL
) STRICT;
CREATE TABLE seen_log ( -- the log beside this file, as far as it has been seen
    one INTEGER PRIMARY KEY CHECK (one = 1),
    log INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    last_offset INTEGER NOT NULL,
    last_time INTEGER NOT NULL
) STRICT;
";

/// Opens `subscriptions.db`.
pub(in crate::backend::embedded::log) fn open(path: &Path) -> Result<Connection, OpenError> {
    sqlite::open(path, VERSION, SCHEMA)
}

/// Changes whenever another connection has changed the file.
pub(super) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA data_version")?.query_row((), |row| row.get(0))
}

/// How far the log beside the file has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend::embedded::log) struct Seen {
    pub(in crate::backend::embedded::log) log: i64,
    pub(in crate::backend::embedded::log) generation: u32,
    pub(in crate::backend::embedded::log) last_offset: i64,
    pub(in crate::backend::embedded::log) last_time: i64,
}

/// Reads how far the log has been seen; `None` before the first note.
pub(in crate::backend::embedded::log) fn seen(
    connection: &Connection,
) -> rusqlite::Result<Option<Seen>> {
    const SELECT: &str = "SELECT log, generation, last_offset, last_time FROM seen_log";
    let seen = |row: &Row<'_>| {
        Ok(Seen {
            log: row.get(0)?,
            generation: row.get(1)?,
            last_offset: row.get(2)?,
            last_time: row.get(3)?,
        })
    };
    connection.prepare_cached(SELECT)?.query_row((), seen).optional()
}

/// Notes how far the log is seen, in the caller's transaction. The note of one log never goes back.
pub(super) fn note_seen(transaction: &Connection, log: i64, head: &Head) -> rusqlite::Result<()> {
    const UPSERT: &str = "INSERT INTO seen_log VALUES (1, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET \
         generation = excluded.generation, last_offset = excluded.last_offset, \
         last_time = excluded.last_time \
         WHERE log = excluded.log AND (generation, last_offset) \
             < (excluded.generation, excluded.last_offset)";
    let values = (log, head.generation, head.last_offset, head.last_time);
    transaction.prepare_cached(UPSERT)?.execute(values).map(drop)
}

/// Replaces the note, also by an earlier one.
pub(in crate::backend::embedded::log) fn set_seen(
    transaction: &Connection,
    seen: Seen,
) -> rusqlite::Result<()> {
    let values = (seen.log, seen.generation, seen.last_offset, seen.last_time);
    transaction.execute("INSERT OR REPLACE INTO seen_log VALUES (1, ?, ?, ?, ?)", values).map(drop)
}

/// The highest offset that a subscription of this log has acknowledged; 0 for none.
pub(in crate::backend::embedded::log) fn last_noted(
    connection: &Connection,
    log: i64,
) -> rusqlite::Result<i64> {
    const SELECT: &str = "SELECT ifnull(max(last), 0) FROM acknowledged \
                          JOIN subscriptions ON name = subscription WHERE log = ?";
    connection.prepare_cached(SELECT)?.query_row([log], |row| row.get(0))
}

/// Drops the notes on offsets above `last`. The epoch rises, so leases on them become void.
pub(in crate::backend::embedded::log) fn drop_beyond(
    transaction: &Connection,
    log: i64,
    last: i64,
) -> rusqlite::Result<()> {
    const OF_LOG: &str = "subscription IN (SELECT name FROM subscriptions WHERE log = ?1)";
    for table in ["acknowledged", "lines"] {
        let delete = format!("DELETE FROM {table} WHERE {OF_LOG} AND first > ?2");
        transaction.execute(&delete, (log, last))?;
        let shorten = format!("UPDATE {table} SET last = ?2 WHERE {OF_LOG} AND last > ?2");
        transaction.execute(&shorten, (log, last))?;
    }
    let raise = "UPDATE subscriptions SET epoch = epoch + 1 WHERE log = ?";
    transaction.execute(raise, [log]).map(drop)
}

/// A subscription, with the events that it keeps in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The subscription's name.
    pub name: String,
    /// Events that it has not acknowledged.
    pub events: i64,
    /// When it was last used: up to a minute before its last use.
    pub used: Timestamp,
}

/// What each subscription keeps in a log that ends at `last`, the one that keeps most first.
pub(in crate::backend::embedded::log) fn holdings(
    connection: &Connection,
    log: i64,
    last: i64,
) -> rusqlite::Result<Vec<Holding>> {
    // Offset 0 is always acknowledged, hence one more.
    const SELECT: &str = "SELECT name, ?2 + 1 - (SELECT ifnull(sum(last - first + 1), 0) \
         FROM acknowledged WHERE subscription = name) AS held, used \
         FROM subscriptions WHERE log = ?1 ORDER BY held DESC, name";
    let mut select = connection.prepare_cached(SELECT)?;
    let holding = |row: &Row<'_>| {
        let events = row.get::<_, i64>(1)?.max(0);
        Ok(Holding { name: row.get(0)?, events, used: Timestamp::from_micros(row.get(2)?) })
    };
    select.query_map((log, last), holding)?.collect()
}

/// The names of all subscriptions.
pub(in crate::backend::embedded::log) fn names(
    connection: &Connection,
) -> rusqlite::Result<Vec<String>> {
    select_names(connection, "SELECT name FROM subscriptions ORDER BY name", ())
}

/// What each subscription of the log has acknowledged.
pub(in crate::backend::embedded::log) fn all_acknowledged(
    connection: &Connection,
    log: i64,
) -> rusqlite::Result<Vec<RangeSet>> {
    let snapshot = connection.unchecked_transaction()?;
    let names = select_names(&snapshot, "SELECT name FROM subscriptions WHERE log = ?", [log])?;
    names.iter().map(|name| read_ranges(&snapshot, name)).collect()
}

/// Removes the notes on events that the log no longer holds. Writes only if there are any.
pub(in crate::backend::embedded::log) fn tidy(
    connection: &Connection,
    removed_offset: i64,
) -> rusqlite::Result<()> {
    const OLD: &str = "SELECT EXISTS (SELECT 1 FROM lines WHERE last <= ?)";
    if connection.prepare_cached(OLD)?.query_row([removed_offset], |row| row.get(0))? {
        let remove = "DELETE FROM lines WHERE last <= ?";
        connection.prepare_cached(remove)?.execute([removed_offset])?;
    }
    Ok(())
}

/// Forgets the subscriptions of jobs that have not used them for as long as they live.
pub(in crate::backend::embedded::log) fn forget_expired(
    connection: &Connection,
    now: Timestamp,
) -> rusqlite::Result<()> {
    const EXPIRED: &str = "SELECT name FROM subscriptions WHERE used + life <= ?";
    forget_all(connection, &select_names(connection, EXPIRED, [now.micros()])?)
}

/// Forgets the subscriptions of the log that were not used for `age`, but never the one that was
/// used last: another subscription then has stored the events that retention may remove. Their
/// names.
pub(in crate::backend::embedded::log) fn forget_unused(
    connection: &Connection,
    log: i64,
    age: Duration,
    now: Timestamp,
) -> rusqlite::Result<Vec<String>> {
    const UNUSED: &str = "SELECT name FROM subscriptions WHERE log = ?1 AND used <= ?2 \
         AND used < (SELECT max(used) FROM subscriptions WHERE log = ?1) ORDER BY name";
    let unused = select_names(connection, UNUSED, (log, now.before(age).micros()))?;
    forget_all(connection, &unused)?;
    Ok(unused)
}

fn select_names(
    connection: &Connection,
    select: &str,
    values: impl Params,
) -> rusqlite::Result<Vec<String>> {
    connection.prepare_cached(select)?.query_map(values, |row| row.get(0))?.collect()
}

fn forget_all(connection: &Connection, names: &[String]) -> rusqlite::Result<()> {
    names.iter().try_for_each(|name| forget(connection, name))
}

pub(in crate::backend::embedded::log) fn forget(
    connection: &Connection,
    name: &str,
) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    for (table, column) in [
        ("subscriptions", "name"),
        ("acknowledged", "subscription"),
        ("lines", "subscription"),
        ("runs", "subscription"),
    ] {
        transaction.execute(&format!("DELETE FROM {table} WHERE {column} = ?"), [name])?;
    }
    transaction.commit()
}
