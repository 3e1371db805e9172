//! Reads the objects of a range ahead of those who pull, a few side by side.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use compact_str::{CompactString, format_compact};
use futures::future::ready;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use super::archive_log::{ReplayRange, Shared};
use super::loans::ObjectNumber;
use super::object::{ReadFault, read_lines};
use crate::archive::{
    ArchiveObject, Indexes, LineError, LineFormat, Origin, PartName, SealError, Tally,
    indexes_between, objects_between,
};
use crate::envelope::EnvelopePlan;
use crate::message::{Lease, Message};
use crate::port::{ArchiveStore, StoreError};
use crate::position::imported_id;
use crate::supervision::Backoff;

/// Objects that are read side by side: one is decompressed while another is waited for.
const READERS: usize = 2;

/// The first and the longest pause after a store that failed.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The lines of one chunk, on their way to those who pull.
pub(super) type Chunk = (ObjectNumber, Vec<Message>);

/// Reads objects for the puller.
pub(super) struct Feed {
    pub(super) store: Arc<dyn ArchiveStore>,
    pub(super) range: ReplayRange,
    /// Where an event keeps its time, for lines that do not hold a publish time.
    pub(super) envelope: Option<Arc<EnvelopePlan>>,
    pub(super) shared: Arc<Shared>,
    pub(super) chunks: mpsc::Sender<Chunk>,
}

/// How the reading of an object went.
enum Outcome {
    Whole,
    /// A part that was composed meanwhile: its lines are in a final.
    Gone,
    Damaged(String),
}

impl Feed {
    /// Reads every object but those in `done`, to the end of the range.
    pub(super) async fn run(self, mut done: HashSet<String>) {
        loop {
            let (mut objects, indexes) = self.list().await;
            for lost in indexes.lost.iter().filter(|lost| done.insert(lost.name.clone())) {
                let mut loans = self.shared.loans();
                let number = loans.found(lost.name.clone(), lost.size);
                loans.damaged(number, 1, "the file is lost: its index still names it".to_owned());
            }
            objects.retain(|object| done.insert(object.name.clone()));
            let indexes = &indexes;
            let read = stream::iter(objects.into_iter().map(|object| self.read(object, indexes)));
            let gone = read.buffer_unordered(READERS).filter(|gone| ready(*gone)).count().await;
            if gone == 0 {
                return;
            }
        }
    }

    async fn list(&self) -> (Vec<ArchiveObject>, Indexes) {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            match self.try_list().await {
                Ok(listed) => {
                    self.shared.set_trouble(None);
                    return listed;
                }
                Err(error) => self.shared.set_trouble(Some(error.to_string())),
            }
            tokio::time::sleep(backoff.failed()).await;
        }
    }

    async fn try_list(&self) -> Result<(Vec<ArchiveObject>, Indexes), SealError> {
        let ReplayRange { from, to } = self.range;
        let objects = objects_between(&*self.store, from, to).await?;
        let indexes = indexes_between(&*self.store, from, to, &objects).await?;
        Ok((objects, indexes))
    }

    /// Reads one object; true if it was gone.
    async fn read(&self, object: ArchiveObject, indexes: &Indexes) -> bool {
        let number = self.shared.loans().found(object.name.clone(), object.size);
        let mut read = Read::default();
        let outcome = match self.read_to_the_end(&object, number, &mut read).await {
            Outcome::Whole => match (read.unreadable, indexes.difference(&object, &read.tally)) {
                (Some((line, reason)), _) => {
                    read.tally.lines = line - 1;
                    Outcome::Damaged(reason)
                }
                (None, Some(difference)) => Outcome::Damaged(difference),
                (None, None) => Outcome::Whole,
            },
            outcome => outcome,
        };
        let lines = read.tally.lines;
        let mut loans = self.shared.loans();
        match outcome {
            Outcome::Whole => loans.read_whole(number),
            Outcome::Damaged(reason) => loans.damaged(number, lines + 1, reason),
            Outcome::Gone => {
                loans.read_whole(number);
                return true;
            }
        }
        false
    }

    /// Reads on for as long as the store breaks off, each time behind the lines `read` before.
    async fn read_to_the_end(
        &self,
        object: &ArchiveObject,
        number: ObjectNumber,
        read: &mut Read,
    ) -> Outcome {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            let error = match self.read_once(object, number, read).await {
                Ok(()) => {
                    self.shared.set_trouble(None);
                    return Outcome::Whole;
                }
                Err(ReadFault::Damaged(reason)) => return Outcome::Damaged(reason),
                Err(ReadFault::Store(error)) => error,
            };
            match error {
                StoreError::NotFound(_) if object.name.parse::<PartName>().is_ok() => {
                    return Outcome::Gone;
                }
                StoreError::Unavailable(reason) => self.shared.set_trouble(Some(reason)),
                lasting => return Outcome::Damaged(lasting.to_string()),
            }
            tokio::time::sleep(backoff.failed()).await;
        }
    }

    async fn read_once(
        &self,
        object: &ArchiveObject,
        number: ObjectNumber,
        read: &mut Read,
    ) -> Result<(), ReadFault> {
        let stream = self.store.read(&object.name).await?;
        let bytes = Arc::new(Mutex::new(Tally::default()));
        let (counted, tallied) = (Arc::clone(&self.shared), Arc::clone(&bytes));
        let stream = stream.inspect_ok(move |chunk| {
            let mut tally = tallied.lock().unwrap_or_else(PoisonError::into_inner);
            tally.add(chunk);
            counted.loans().read_to(number, tally.size);
        });
        let skip = read.tally.lines;
        let mut decoder = Decoder::new(object, self.envelope.clone(), self.range, skip);
        let (chunks, shared) = (self.chunks.clone(), Arc::clone(&self.shared));
        let met = Arc::new(Mutex::new(std::mem::take(read)));
        let so_far = Arc::clone(&met);
        let outcome = read_lines(Box::pin(stream), object.compression, move |raw| {
            let mut unreadable = None;
            let messages = decoder.decode(raw, &mut unreadable);
            let mut read = so_far.lock().unwrap_or_else(PoisonError::into_inner);
            read.tally.lines = decoder.lines.max(skip);
            read.unreadable = read.unreadable.take().or(unreadable);
            drop(read);
            shared.loans().opened(number, messages.len());
            messages.is_empty() || chunks.blocking_send((number, messages)).is_ok()
        })
        .await;
        *read = std::mem::take(&mut *met.lock().unwrap_or_else(PoisonError::into_inner));
        let Tally { size, crc32c, .. } = *bytes.lock().unwrap_or_else(PoisonError::into_inner);
        read.tally = Tally { size, crc32c, ..read.tally };
        outcome
    }
}

/// How much of an object was read.
#[derive(Default)]
struct Read {
    /// The bytes of the last attempt, and the lines of all.
    tally: Tally,
    /// The first line that is none of the object's format, and why.
    unreadable: Option<(u64, String)>,
}

/// Makes messages of an object's lines.
pub(crate) struct Decoder {
    file: CompactString,
    start: crate::time::Timestamp,
    format: LineFormat,
    envelope: Option<Arc<EnvelopePlan>>,
    range: ReplayRange,
    /// Lines met so far.
    pub(crate) lines: u64,
    /// Lines that were handed out before.
    skip: u64,
}

impl Decoder {
    /// For an object of which `skip` lines were handed out before. With an `envelope`, a line that
    /// holds no publish time counts as published at its event's time; else at the window's start.
    pub(crate) fn new(
        object: &ArchiveObject,
        envelope: Option<Arc<EnvelopePlan>>,
        range: ReplayRange,
        skip: u64,
    ) -> Self {
        let file = object.name.rsplit('/').next().unwrap_or(&object.name).into();
        let (start, format) = (object.window.start(), object.format);
        Self { file, start, format, envelope, range, lines: 0, skip }
    }

    /// Whether the lines hold message ids and publish times.
    pub(crate) fn holds_origins(&self) -> bool {
        self.format != LineFormat::Payload
    }

    /// The messages of these lines. Lines that are none of the object's format are left out, and the
    /// first of them is noted: an event without its position must not take part.
    fn decode(
        &mut self,
        lines: Vec<Bytes>,
        unreadable: &mut Option<(u64, String)>,
    ) -> Vec<Message> {
        let mut messages = Vec::with_capacity(lines.len());
        for line in lines {
            match self.read(line) {
                Ok(message) => messages.extend(message),
                Err(error) => {
                    let line = format_compact!("{}:{}", self.file, self.lines);
                    tracing::warn!(%line, %error, "a line of the archive cannot be read back");
                    unreadable.get_or_insert_with(|| (self.lines, error.to_string()));
                }
            }
        }
        messages
    }

    /// Returns the message of a line; `None` if the line is empty, outside the range, or was read
    /// before. An error if the line does not have the object's format.
    pub(crate) fn read(&mut self, line: Bytes) -> Result<Option<Message>, LineError> {
        self.lines += 1;
        if self.lines <= self.skip || line.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let event = self.format.decode(line)?;
        let payload = event.payload;
        let origin = match event.origin {
            Some(origin) if !self.range.holds(origin.publish_time) => return Ok(None),
            Some(origin) => origin,
            None => self.imported(&payload),
        };
        Ok(Some(Message {
            id: origin.message_id,
            payload,
            publish_time: origin.publish_time,
            attributes: origin.attributes,
            ordering_key: origin.ordering_key,
            attempt: None,
            archived: false,
            suspect: None,
            lease: Lease(0),
        }))
    }

    /// The origin of a line that does not hold one: an import, which outranks nothing that a log
    /// wrote.
    fn imported(&self, payload: &[u8]) -> Origin {
        let event = self.envelope.as_ref().and_then(|envelope| envelope.read(payload).ok());
        Origin {
            message_id: imported_id(self.lines, payload),
            publish_time: event.map_or(self.start, |event| event.time),
            attributes: None,
            ordering_key: CompactString::default(),
        }
    }
}
