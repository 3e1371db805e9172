//! `log.db`: the events themselves.
//!
//! Offsets begin at 1, leave out none and never come again, whatever retention removes. Within a
//! generation, publish times never decrease from one offset to the next. Above
//! [`Head::removed_offset`] every event up to [`Head::last_offset`] is there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use compact_str::CompactString;
use kappa_actors::message::{Attributes, Lease, Message, NewMessage};
use kappa_actors::port::Room;
use kappa_actors::position::embedded_id;
use kappa_actors::time::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension, Row, Transaction, TransactionBehavior};

use super::generations::Generations;
use super::ranges::Range;
use crate::backend::embedded::sqlite::identity::OpenFiles;
use crate::backend::embedded::sqlite::{self, OpenError};

pub(super) const VERSION: i64 = 2;
const SCHEMA: &str = "
CREATE TABLE events (
    offset INTEGER PRIMARY KEY,
    publish_time INTEGER NOT NULL, -- microseconds since 1970
    payload BLOB NOT NULL,
    attributes TEXT, -- a JSON object, or NULL
    ordering_key TEXT NOT NULL
) STRICT;
CREATE TABLE log (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id INTEGER NOT NULL, -- tells this log from another that once had its name
    last_offset INTEGER NOT NULL,
    last_time INTEGER NOT NULL,
    bytes INTEGER NOT NULL, -- of the events held, as EVENT_BYTES counts them
    removed_offset INTEGER NOT NULL, -- the highest that retention has removed
    removed_time INTEGER NOT NULL -- and its publish time
) STRICT;
CREATE TABLE generations (
    first_offset INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL, -- of the events from there up to the next row's
    began INTEGER NOT NULL, -- the clock then, in microseconds
    reason TEXT NOT NULL
) STRICT;
INSERT INTO log VALUES (1, random(), 0, 0, 0, 0, 0);
INSERT INTO generations VALUES (1, 1, 0, 'the log was made');
";

/// Events only ever follow each other, so large pages fit them: with 4 KiB, publishing costs half
/// as much CPU again.
const PAGE_BYTES: u32 = 16_384;

/// Pages in the write-ahead log that start a checkpoint: 64 MiB, so that a page is not copied
/// after every few commits.
const CHECKPOINT_PAGES: u32 = 4_096;

/// The size of an event in the file: its content, and some bytes for its header and its entry in the tree.
const EVENT_BYTES: &str = "length(payload) + ifnull(octet_length(attributes), 0) \
                           + octet_length(ordering_key) + 24";
const ROW_BYTES: u64 = 24;

/// Generations with a rank of their own in a position.
const RANKED_GENERATIONS: u32 = 15;

/// The log's running figures, written with every change of the events.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// The generation of the next event.
    pub(super) generation: u32,
    pub(super) last_offset: i64,
    pub(super) last_time: i64,
    /// Bytes of all events held.
    pub(super) bytes: u64,
    /// The highest offset that retention has removed; 0 for none.
    pub(super) removed_offset: i64,
    /// That event's publish time in microseconds, or when a later generation began, whichever is
    /// earlier.
    pub(super) removed_time: i64,
}

/// A connection to `log.db`.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) connection: Connection,
    files: OpenFiles,
    /// Which log this is.
    pub(super) id: i64,
}

impl Events {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let at = |reason| OpenError::Sqlite { path: path.to_path_buf(), reason };
        let connection = sqlite::open_with_pages(path, PAGE_BYTES, VERSION, SCHEMA)?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(at)?;
        let id = connection.query_row("SELECT id FROM log", (), |row| row.get(0)).map_err(at)?;
        Ok(Self { connection, files: OpenFiles::of(path), id })
    }

    /// Checks that the log is still where it was opened.
    pub(super) fn check_place(&self) -> rusqlite::Result<()> {
        self.files.check()
    }

    /// Opens the file of an existing log, to be read and not to be written.
    pub(super) fn open_to_read(path: &Path) -> Result<Self, OpenError> {
        let at = |reason| OpenError::Sqlite { path: path.to_path_buf(), reason };
        let connection = sqlite::open_to_read(path, VERSION)?;
        let id = connection.query_row("SELECT id FROM log", (), |row| row.get(0)).map_err(at)?;
        Ok(Self { connection, files: OpenFiles::of(path), id })
    }

    /// Reads from one moment's state until the answer is dropped.
    pub(super) fn snapshot(&self) -> rusqlite::Result<Transaction<'_>> {
        self.connection.unchecked_transaction()
    }

    /// The log's id as in the ids of its messages.
    pub(super) fn name(&self) -> String {
        let id = self.message_id(1, 0);
        id.split('.').next().unwrap_or_default().to_owned()
    }

    /// Keeps every other writer of the log out until the transaction ends.
    pub(super) fn lock(&self) -> rusqlite::Result<Transaction<'_>> {
        Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
    }

    pub(super) fn head(&self) -> rusqlite::Result<Head> {
        const SELECT: &str = "SELECT last_offset, last_time, bytes, removed_offset, removed_time, \
             (SELECT generation FROM generations ORDER BY first_offset DESC LIMIT 1) FROM log";
        self.connection.prepare_cached(SELECT)?.query_row((), |row| {
            Ok(Head {
                last_offset: row.get(0)?,
                last_time: row.get(1)?,
                bytes: row.get::<_, i64>(2)?.cast_unsigned(),
                removed_offset: row.get(3)?,
                removed_time: row.get(4)?,
                generation: row.get(5)?,
            })
        })
    }

    /// Both as of the same moment.
    pub(super) fn head_and_generations(&self) -> rusqlite::Result<(Head, Generations)> {
        let snapshot =
            self.connection.is_autocommit().then(|| self.connection.unchecked_transaction());
        let _snapshot = snapshot.transpose()?;
        Ok((self.head()?, self.generations()?))
    }

    /// Stores the figures after a change; in the transaction of that change.
    pub(super) fn set_head(&self, head: &Head) -> rusqlite::Result<()> {
        const UPDATE: &str = "UPDATE log SET last_offset = ?, last_time = ?, bytes = ?, \
                              removed_offset = ?, removed_time = ?";
        self.connection.prepare_cached(UPDATE)?.execute((
            head.last_offset,
            head.last_time,
            head.bytes.cast_signed(),
            head.removed_offset,
            head.removed_time,
        ))?;
        Ok(())
    }

    /// The id of the message at `offset`.
    pub(super) fn message_id(&self, generation: u32, offset: i64) -> CompactString {
        embedded_id(self.id.cast_unsigned(), generation, offset)
    }

    /// Appends one message, published at `now` or when its predecessor was, whichever is later.
    pub(super) fn append(
        &self,
        head: &mut Head,
        now: Timestamp,
        message: &NewMessage,
    ) -> rusqlite::Result<()> {
        const INSERT: &str = "INSERT INTO events VALUES (?, ?, ?, ?, ?)";
        let attributes = attributes_text(&message.attributes)?;
        let attributes_len = attributes.as_ref().map_or(0, String::len);
        head.last_offset += 1;
        head.last_time = head.last_time.max(now.micros());
        head.bytes += (message.payload.len() + attributes_len + message.ordering_key.len()) as u64
            + ROW_BYTES;
        self.connection.prepare_cached(INSERT)?.execute((
            head.last_offset,
            head.last_time,
            message.payload.as_ref(),
            attributes,
            &message.ordering_key,
        ))?;
        Ok(())
    }

    /// Adds the events in `range` to `into`, as many as `room` has left. Whether all that are
    /// there now found room.
    pub(super) fn read(
        &self,
        range: Range,
        room: &mut Room,
        lease: impl Fn(i64) -> Lease,
        into: &mut Vec<Message>,
    ) -> rusqlite::Result<bool> {
        const SELECT: &str = "SELECT offset, publish_time, payload, attributes, ordering_key \
                              FROM events WHERE offset BETWEEN ? AND ? ORDER BY offset";
        let mut select = self.connection.prepare_cached(SELECT)?;
        let mut rows = select.query((range.first, range.last))?;
        let mut generations = None;
        while room.messages > 0 {
            let Some(row) = rows.next()? else { return Ok(true) };
            let bytes = row.get_ref(2)?.as_blob()?.len() as u64;
            if bytes > room.bytes && !into.is_empty() {
                return Ok(false);
            }
            room.messages -= 1;
            room.bytes = room.bytes.saturating_sub(bytes);
            // The open statement holds the snapshot, so the generations are those of its events.
            let generations = match &mut generations {
                Some(generations) => generations,
                none => none.insert(self.generations()?),
            };
            let offset = row.get(0)?;
            let id = self.message_id(generations.number_of(offset), offset);
            into.push(message(row, id, lease(offset))?);
        }
        Ok(false)
    }

    /// When the event at `offset` was published, in microseconds.
    pub(super) fn time_at(&self, offset: i64) -> rusqlite::Result<Option<i64>> {
        const SELECT: &str = "SELECT publish_time FROM events WHERE offset = ?";
        self.connection.prepare_cached(SELECT)?.query_row([offset], |row| row.get(0)).optional()
    }

    /// The generations of this log.
    pub(super) fn generations(&self) -> rusqlite::Result<Generations> {
        Generations::read(&self.connection)
    }

    /// Begins the next generation, within the caller's lock; publish times follow the clock again.
    pub(super) fn begin_generation(
        &self,
        head: &mut Head,
        number: u32,
        now: Timestamp,
        reason: &str,
    ) -> rusqlite::Result<()> {
        // One that has no event yet is replaced.
        const INSERT: &str = "INSERT OR REPLACE INTO generations VALUES (?, ?, ?, ?)";
        let first = head.last_offset + 1;
        self.connection.prepare_cached(INSERT)?.execute((first, number, now.micros(), reason))?;
        head.generation = number;
        head.last_time = time_before(number, head.last_time);
        head.removed_time = head.removed_time.min(now.micros());
        self.set_head(head)
    }

    /// Calls `visit` with offset, publish time and bytes of each event up to `last`, oldest
    /// first, until it answers `false`.
    pub(super) fn visit(
        &self,
        last: i64,
        mut visit: impl FnMut(i64, i64, u64) -> bool,
    ) -> rusqlite::Result<()> {
        let sql = format!(
            "SELECT offset, publish_time, {EVENT_BYTES} FROM events WHERE offset <= ? \
             ORDER BY offset"
        );
        let mut select = self.connection.prepare_cached(&sql)?;
        let mut rows = select.query([last])?;
        while let Some(row) = rows.next()? {
            if !visit(row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?.cast_unsigned()) {
                break;
            }
        }
        Ok(())
    }

    /// Removes one event.
    pub(super) fn remove(&self, offset: i64) -> rusqlite::Result<()> {
        const DELETE: &str = "DELETE FROM events WHERE offset = ?";
        self.connection.prepare_cached(DELETE)?.execute([offset])?;
        Ok(())
    }
}

/// The time that no publish time of a generation may be below, if the events before it end at
/// `last_time`: later generations share the highest rank, where only publish times order them.
pub(super) fn time_before(generation: u32, last_time: i64) -> i64 {
    if generation <= RANKED_GENERATIONS { 0 } else { last_time }
}

/// By how much publish times may be ahead of the clock: small steps back are common.
const TOLERATED_AHEAD: Duration = Duration::from_secs(60);

/// Describes by how much the log is ahead of the clock, if that is too much.
pub(super) fn ahead_of(head: &Head, now: Timestamp) -> Option<String> {
    let last = Timestamp::from_micros(head.last_time);
    (now.after(TOLERATED_AHEAD) < last).then(|| {
        format!(
            "the last event was published at {last}, which is later than now, {now}, and all events \
             get that time until then: correct the clock, then `kappa log begin-generation`"
        )
    })
}

/// Returns the size of a message in the file, exact except for escapes in its attributes.
pub(super) fn size(message: &NewMessage) -> u64 {
    const PUNCTUATION: usize = r#""":"","#.len();
    let attributes = message.attributes.iter();
    let attributes: usize =
        attributes.map(|(name, value)| name.len() + value.len() + PUNCTUATION).sum();
    (message.payload.len() + message.ordering_key.len() + attributes) as u64 + ROW_BYTES
}

fn attributes_text(attributes: &Attributes) -> rusqlite::Result<Option<String>> {
    if attributes.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(attributes)
        .map(Some)
        .map_err(|error| Error::ToSqlConversionFailure(error.into()))
}

fn message(row: &Row<'_>, id: CompactString, lease: Lease) -> rusqlite::Result<Message> {
    let attributes = match row.get_ref(3)?.as_str_or_null()? {
        None => None,
        Some(text) => Some(Arc::new(
            serde_json::from_str(text)
                .map_err(|error| Error::FromSqlConversionFailure(3, Type::Text, error.into()))?,
        )),
    };
    Ok(Message {
        id,
        payload: Bytes::copy_from_slice(row.get_ref(2)?.as_blob()?),
        publish_time: Timestamp::from_micros(row.get(1)?),
        attributes,
        ordering_key: row.get_ref(4)?.as_str()?.into(),
        attempt: None,
        archived: false,
        suspect: None,
        lease,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_costs_the_transaction_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let events = Events::open(&dir.path().join("log.db")).unwrap();
        let append = |payload: Vec<u8>| {
            let transaction = events.lock()?;
            let mut head = events.head()?;
            events.append(&mut head, Timestamp::now(), &NewMessage::from_payload(payload))?;
            events.set_head(&head)?;
            transaction.commit()
        };
        append(vec![b'a'; 100]).unwrap();
        events.connection.pragma_update(None, "max_page_count", 8).unwrap();
        assert!(append(vec![b'b'; 100_000]).is_err(), "the file can grow no more");
        assert_eq!(events.head().unwrap().last_offset, 1);
        events.connection.pragma_update(None, "max_page_count", 1_000_000).unwrap();
        append(vec![b'c'; 100_000]).unwrap();
        assert_eq!(events.head().unwrap().last_offset, 2, "no offset is left out");
    }

    #[test]
    fn retention_subtracts_the_size_that_publishing_added() {
        let dir = tempfile::tempdir().unwrap();
        let events = Events::open(&dir.path().join("log.db")).unwrap();
        let mut head = events.head().unwrap();
        let message = NewMessage {
            payload: Bytes::from_static(b"\xff\x00payload"),
            attributes: [("naïve".to_owned(), "é\"".to_owned())].into(),
            ordering_key: "schlüssel".to_owned(),
        };
        events.append(&mut head, Timestamp::now(), &message).unwrap();
        let mut counted = 0;
        events
            .visit(1, |_, _, bytes| {
                counted += bytes;
                true
            })
            .unwrap();
        assert_eq!(counted, head.bytes);
    }
}
