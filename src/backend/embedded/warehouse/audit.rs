//! Answers an audit's questions about `warehouse.db`, on a connection and a thread of its own, which
//! only read. A daemon may be writing meanwhile; neither waits for the other.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::NaiveDate;
use kappa_actors::dead_letter_table::{self, Stage};
use kappa_actors::port::{
    AuditError, Auditable, Current, CurrentRows, KeyCount, LetterMark, LetterQuery,
};
use kappa_actors::row::{ColumnType, Row, Value};
use kappa_actors::time::Timestamp;
use kappa_actors::version::Version;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};
use tokio::sync::{mpsc, oneshot};

use super::insert::{bind, date};
use super::table::{self, list, quoted, words};
use super::{CACHE_KIB, FILE, VERSION};
use crate::backend::embedded::sqlite::{self, OpenError, thread::ConnectionThread};

/// Keys that are counted in one snapshot: it should not hold up the checkpoints of who writes.
const BATCH: usize = 20_000;

/// Letters on their way to who asked.
const LETTERS_AHEAD: usize = 1_000;

/// A job of the thread.
type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The warehouse of a folder, to be audited.
pub struct EmbeddedAudit {
    path: PathBuf,
    /// `None` where there is no file.
    thread: Option<ConnectionThread<Job>>,
}

impl fmt::Debug for EmbeddedAudit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedAudit").field("path", &self.path).finish_non_exhaustive()
    }
}

impl EmbeddedAudit {
    /// Opens `warehouse.db` in the folder `dir` to be read. A missing file is not created and counts as empty.
    ///
    /// # Errors
    /// [`OpenError`], naming the file.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Ok(Self { path, thread: None });
        }
        let at = |reason| OpenError::Sqlite { path: path.clone(), reason };
        let mut connection = sqlite::open_to_read(&path, VERSION)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(at)?;
        let run = move |jobs: std::sync::mpsc::Receiver<Job>| {
            jobs.into_iter().for_each(|job| job(&mut connection));
        };
        let thread = ConnectionThread::start("audit", run).map_err(|error| {
            let no_room = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOMEM);
            at(rusqlite::Error::SqliteFailure(no_room, Some(error.to_string())))
        })?;
        Ok(Self { path, thread: Some(thread) })
    }

    /// Runs `work` on the thread; `None` where there is no file.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, table::Error> + Send + 'static,
    ) -> Result<Option<T>, AuditError> {
        let Some(thread) = &self.thread else { return Ok(None) };
        let named = |says: &dyn fmt::Display| format!("{}: {says}", self.path.display());
        let job = |answer: oneshot::Sender<_>| -> Job {
            Box::new(move |connection| {
                // A caller that no longer waits needs no answer.
                let _ = answer.send(work(connection));
            })
        };
        match thread.ask(job).await {
            Err(ended) => Err(AuditError::Unavailable(named(&ended))),
            Ok(Err(table::Error::Mismatch(says))) => Err(AuditError::Mismatch(named(&says))),
            Ok(Err(table::Error::Sqlite(error))) => {
                Err(AuditError::Unavailable(named(&words(&error))))
            }
            Ok(Ok(done)) => Ok(Some(done)),
        }
    }
}

#[async_trait]
impl Auditable for EmbeddedAudit {
    fn batch(&self) -> usize {
        BATCH
    }

    async fn current(&self, asked: &CurrentRows) -> Result<Vec<Current>, AuditError> {
        let (asked, keys) = (asked.clone(), asked.keys.len());
        let found = self.call(move |connection| {
            let snapshot = connection.transaction()?;
            match table::fit(&snapshot, "main", &asked.table)? {
                None => Ok(vec![Current::MISSING; asked.keys.len()]),
                Some(fit) => Ok(current(&snapshot, &asked, &fit)?),
            }
        });
        Ok(found.await?.unwrap_or_else(|| vec![Current::MISSING; keys]))
    }

    async fn count(&self, asked: &KeyCount) -> Result<Vec<u64>, AuditError> {
        let (asked, keys) = (asked.clone(), asked.keys.len());
        let counted = self.call(move |connection| {
            let snapshot = connection.transaction()?;
            match table::fit(&snapshot, "main", &asked.table)? {
                None => Ok(vec![0; asked.keys.len()]),
                Some(_) if asked.columns == asked.table.key => Ok(look_up(&snapshot, &asked)?),
                Some(_) => Ok(scan(&snapshot, &asked)?),
            }
        });
        Ok(counted.await?.unwrap_or_else(|| vec![0; keys]))
    }

    async fn letters(
        &self,
        asked: LetterQuery,
        take: &mut (dyn FnMut(LetterMark) -> bool + Send),
    ) -> Result<(), AuditError> {
        let (show, mut shown) = mpsc::channel(LETTERS_AHEAD);
        let all = self.call(move |connection| Ok(letters(connection, asked, &show)?));
        let taken = async {
            while let Some(mark) = shown.recv().await {
                if !take(mark) {
                    // The channel reports this to the senders.
                    shown.close();
                    break;
                }
            }
        };
        tokio::join!(all, taken).0.map(drop)
    }
}

/// Looks keys up through the index of the primary key, in its order.
fn current(
    connection: &Connection,
    asked: &CurrentRows,
    fit: &table::Fit,
) -> rusqlite::Result<Vec<Current>> {
    let CurrentRows { table, keys, expected, columns, .. } = asked;
    // A column that the table lacks is NULL in every row.
    let value = |at: usize| match &table.columns[at].name {
        name if fit.lacking.contains(name) => "NULL".to_owned(),
        name => quoted(name),
    };
    let version = table.version.map_or_else(|| "NULL".to_owned(), value);
    let selected = [version].into_iter().chain(columns.iter().map(|&at| value(at)));
    let wanted = table.key.iter().map(|&at| format!("{}=?", quoted(&table.columns[at].name)));
    let sql = format!(
        "SELECT {} FROM {} WHERE {}",
        list(selected),
        quoted(&table.name),
        wanted.collect::<Vec<_>>().join(" AND ")
    );
    let mut select = connection.prepare_cached(&sql)?;
    let all: Vec<usize> = (0..table.key.len()).collect();
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by(|&a, &b| keys[a].cmp_by(&all, &keys[b]));
    let (mut found, mut text) = (vec![Current::MISSING; keys.len()], String::new());
    for at in order {
        for (place, value) in (1..).zip(&keys[at].0) {
            bind(&mut select, place, value, &mut text)?;
        }
        let mut rows = select.raw_query();
        let Some(row) = rows.next()? else { continue };
        let version = row.get_ref(0)?.as_blob().ok().and_then(Version::from_bytes);
        // A value that cannot be read differs from any that is expected: it is shown as it is.
        let values = (1..)
            .zip(columns)
            .map(|(place, &column)| Ok(held(table.columns[column].kind, row.get_ref(place)?)));
        let values = values.collect::<rusqlite::Result<_>>()?;
        found[at] = Current::of(version, &expected[at], || values);
    }
    Ok(found)
}

/// A value in the form that [`bind`] gives it; a value of another form is its text.
fn held(kind: ColumnType, value: ValueRef<'_>) -> Value {
    let read = match (kind, value) {
        (_, ValueRef::Null) => Some(Value::Null),
        (ColumnType::Boolean, ValueRef::Integer(truth @ (0 | 1))) => {
            Some(Value::Boolean(truth == 1))
        }
        (ColumnType::Integer, ValueRef::Integer(integer)) => Some(Value::Integer(integer)),
        (ColumnType::Float, ValueRef::Real(real)) => Some(Value::Float(real)),
        (ColumnType::Bytes, ValueRef::Blob(bytes)) => {
            Some(Value::Bytes(Box::new(Bytes::copy_from_slice(bytes))))
        }
        (ColumnType::Timestamp, ValueRef::Text(text)) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| Timestamp::parse_rfc3339(text).ok())
            .map(Value::Timestamp),
        (ColumnType::Date, ValueRef::Text(text)) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse::<NaiveDate>().ok())
            .map(|day| Value::Date(day.to_epoch_days())),
        _ => None,
    };
    read.unwrap_or_else(|| match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Text(integer.to_string().into()),
        ValueRef::Real(real) => Value::Text(real.to_string().into()),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into()),
        ValueRef::Blob(bytes) => Value::Bytes(Box::new(Bytes::copy_from_slice(bytes))),
    })
}

/// Counts through the index of the primary key, in its order.
fn look_up(connection: &Connection, asked: &KeyCount) -> rusqlite::Result<Vec<u64>> {
    let name = quoted(&asked.table.name);
    let columns = asked.columns.iter().map(|&column| &asked.table.columns[column].name);
    let wanted: Vec<_> = columns.map(|column| format!("{}=?", quoted(column))).collect();
    let sql = format!("SELECT count(*) FROM {name} WHERE {}", wanted.join(" AND "));
    let mut select = connection.prepare_cached(&sql)?;
    let mut order: Vec<usize> = (0..asked.keys.len()).collect();
    let all: Vec<usize> = (0..asked.columns.len()).collect();
    order.sort_by(|&a, &b| asked.keys[a].cmp_by(&all, &asked.keys[b]));
    let (mut counts, mut text) = (vec![0; asked.keys.len()], String::new());
    for at in order {
        for (place, value) in (1..).zip(&asked.keys[at].0) {
            bind(&mut select, place, value, &mut text)?;
        }
        let mut rows = select.raw_query();
        if let Some(row) = rows.next()? {
            counts[at] = row.get::<_, i64>(0)?.cast_unsigned();
        }
    }
    Ok(counts)
}

/// Counts in one pass over the table: there is no index on other columns than the key's.
fn scan(connection: &Connection, asked: &KeyCount) -> rusqlite::Result<Vec<u64>> {
    let columns = asked.columns.iter().map(|&column| &asked.table.columns[column].name);
    let sql = format!(
        "SELECT {} FROM {}",
        list(columns.map(|column| quoted(column))),
        quoted(&asked.table.name)
    );
    let mut found: HashMap<Vec<u8>, u64> = HashMap::with_capacity(asked.keys.len());
    let keys: Vec<_> = asked.keys.iter().map(stored).collect();
    found.extend(keys.iter().map(|key| (key.clone(), 0)));
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(())?;
    let mut key = Vec::new();
    while let Some(row) = rows.next()? {
        key.clear();
        for place in 0..asked.columns.len() {
            match row.get_ref(place)? {
                ValueRef::Text(text) => put(&mut key, b't', text),
                ValueRef::Integer(integer) => put(&mut key, b'i', &integer.to_le_bytes()),
                ValueRef::Real(real) => put(&mut key, b'r', &real.to_le_bytes()),
                ValueRef::Blob(blob) => put(&mut key, b'b', blob),
                ValueRef::Null => put(&mut key, b'n', b""),
            }
        }
        if let Some(count) = found.get_mut(&key) {
            *count += 1;
        }
    }
    Ok(keys.iter().map(|key| found.get(key).copied().unwrap_or(0)).collect())
}

/// A key as SQLite holds it.
fn stored(Row(values): &Row) -> Vec<u8> {
    let mut key = Vec::new();
    for value in values {
        match value {
            Value::Null => put(&mut key, b'n', b""),
            Value::Text(text) => put(&mut key, b't', text.as_bytes()),
            Value::Integer(integer) => put(&mut key, b'i', &integer.to_le_bytes()),
            Value::Float(real) => put(&mut key, b'r', &real.to_le_bytes()),
            Value::Boolean(truth) => put(&mut key, b'i', &i64::from(*truth).to_le_bytes()),
            Value::Timestamp(time) => put(&mut key, b't', time.to_string().as_bytes()),
            Value::Date(days) => put(&mut key, b't', date(*days).to_string().as_bytes()),
            Value::Bytes(bytes) => put(&mut key, b'b', bytes),
            Value::Version(version) => put(&mut key, b'b', version.to_bytes().as_ref()),
        }
    }
    key
}

/// Each value with its type and its length, so that no two keys look alike.
fn put(key: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    key.push(kind);
    key.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    key.extend_from_slice(bytes);
}

/// Shows the open and purged letters of a time that no staging replay left, as long as they are
/// taken.
fn letters(
    connection: &Connection,
    LetterQuery { published, payloads }: LetterQuery,
    show: &mpsc::Sender<LetterMark>,
) -> rusqlite::Result<()> {
    // Read from the file: the connection's cached schema may be older than the table.
    let exists = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?";
    if !connection.prepare_cached(exists)?.exists([dead_letter_table::NAME])? {
        return Ok(());
    }
    let payload = if payloads { "payload" } else { "NULL" };
    // A table from an earlier version has no purged letters.
    let purges = "SELECT 1 FROM pragma_table_info(?) WHERE name = ?";
    let has_purges = connection
        .prepare_cached(purges)?
        .exists([dead_letter_table::NAME, dead_letter_table::PURGED_AT])?;
    let purged = if has_purges { "purged_at IS NOT NULL" } else { "FALSE" };
    let sql = format!(
        "SELECT message_id, publish_time, stage, processor, {payload}, {purged} FROM dead_letters \
         WHERE publish_time >= ? AND publish_time < ? AND requeued_at IS NULL \
         AND replay_id IS NULL"
    );
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(params![published.from.to_string(), published.to.to_string()])?;
    while let Some(row) = rows.next()? {
        // A letter that kappa did not write accounts for nothing.
        let stage = Stage::from_name(row.get_ref(2)?.as_str().unwrap_or_default());
        let time = Timestamp::parse_rfc3339(row.get_ref(1)?.as_str().unwrap_or_default());
        let (Some(stage), Ok(publish_time)) = (stage, time) else { continue };
        let mark = LetterMark {
            message_id: row.get::<_, Option<String>>(0)?.unwrap_or_default().into(),
            publish_time,
            stage,
            processor: row.get(3)?,
            payload: row.get::<_, Option<Vec<u8>>>(4)?.map(Bytes::from),
            purged: row.get(5)?,
        };
        if show.blocking_send(mark).is_err() {
            break;
        }
    }
    Ok(())
}
