//! What stands in `warehouse.db`, asked by an audit: on a connection and a thread of its own, that
//! only read. A daemon may be writing meanwhile; neither waits for the other.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use kappa_actors::dead_letter_table::{self, Stage};
use kappa_actors::port::{AuditError, Auditable, KeyCount, LetterMark};
use kappa_actors::replay::ReplayRange;
use kappa_actors::row::{Row, Value};
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

/// What the thread does next.
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
    /// Opens `warehouse.db` in the folder `dir` to be read. Where there is none, none is made, and
    /// nothing stands in it.
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
        published: ReplayRange,
        take: &mut (dyn FnMut(LetterMark) -> bool + Send),
    ) -> Result<(), AuditError> {
        let (show, mut shown) = mpsc::channel(LETTERS_AHEAD);
        let all = self.call(move |connection| Ok(letters(connection, published, &show)?));
        let taken = async {
            while let Some(mark) = shown.recv().await {
                if !take(mark) {
                    // Whoever shows more is told so by the channel.
                    shown.close();
                    break;
                }
            }
        };
        tokio::join!(all, taken).0.map(drop)
    }
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

/// Shows the letters of a time, until nobody takes them.
fn letters(
    connection: &Connection,
    published: ReplayRange,
    show: &mpsc::Sender<LetterMark>,
) -> rusqlite::Result<()> {
    // Asked of the file: what the connection remembers of it may be older than the table.
    let exists = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?";
    if !connection.prepare_cached(exists)?.exists([dead_letter_table::NAME])? {
        return Ok(());
    }
    let sql = "SELECT message_id, event_id, stage, processor FROM dead_letters \
               WHERE publish_time >= ? AND publish_time < ?";
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query(params![published.from.to_string(), published.to.to_string()])?;
    while let Some(row) = rows.next()? {
        // A letter that somebody else wrote accounts for nothing.
        let Some(stage) = Stage::from_name(row.get_ref(2)?.as_str().unwrap_or_default()) else {
            continue;
        };
        let mark = LetterMark {
            message_id: row.get::<_, Option<String>>(0)?.unwrap_or_default().into(),
            event_id: row.get::<_, Option<String>>(1)?.map(Into::into),
            stage,
            processor: row.get(3)?,
        };
        if show.blocking_send(mark).is_err() {
            break;
        }
    }
    Ok(())
}
