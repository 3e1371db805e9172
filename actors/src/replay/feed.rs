//! Reads the objects of a range ahead of those who pull, a few side by side.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use compact_str::{CompactString, format_compact};
use futures::future::ready;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use super::archive_log::{ReplayRange, Shared};
use super::loans::ObjectNumber;
use super::object::{ReadFault, read_lines};
use crate::archive::{ArchiveObject, LineFormat, PartName, objects_between};
use crate::message::{Lease, Message};
use crate::port::{ArchiveStore, StoreError};
use crate::supervision::Backoff;

/// Objects that are read side by side: one is decompressed while another is waited for.
const READERS: usize = 2;

/// The first and the longest pause after a store that failed.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The lines of one chunk, on their way to those who pull.
pub(super) type Chunk = (ObjectNumber, Vec<Message>);

/// What is read, and for whom.
pub(super) struct Feed {
    pub(super) store: Arc<dyn ArchiveStore>,
    pub(super) range: ReplayRange,
    pub(super) format: LineFormat,
    pub(super) shared: Arc<Shared>,
    pub(super) chunks: mpsc::Sender<Chunk>,
}

/// How the reading of an object went.
enum Outcome {
    Whole,
    /// A part that was composed meanwhile: its lines stand in a final.
    Gone,
    Damaged(String),
}

impl Feed {
    /// Reads every object but those in `done`, to the end of the range.
    pub(super) async fn run(self, mut done: HashSet<String>) {
        loop {
            let mut objects = self.list().await;
            objects.retain(|object| done.insert(object.name.clone()));
            let read = stream::iter(objects.into_iter().map(|object| self.read(object)));
            let gone = read.buffer_unordered(READERS).filter(|gone| ready(*gone)).count().await;
            if gone == 0 {
                return;
            }
        }
    }

    async fn list(&self) -> Vec<ArchiveObject> {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            match objects_between(&*self.store, self.range.from, self.range.to).await {
                Ok(objects) => {
                    self.shared.set_trouble(None);
                    return objects;
                }
                Err(error) => self.shared.set_trouble(Some(error.to_string())),
            }
            tokio::time::sleep(backoff.failed()).await;
        }
    }

    /// Reads one object; true if it was gone.
    async fn read(&self, object: ArchiveObject) -> bool {
        let number = self.shared.loans().found(object.name.clone(), object.size);
        let mut lines = 0;
        let outcome = self.read_to_the_end(&object, number, &mut lines).await;
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

    /// Reads on for as long as the store breaks off, each time behind the `lines` read before.
    async fn read_to_the_end(
        &self,
        object: &ArchiveObject,
        number: ObjectNumber,
        lines: &mut u64,
    ) -> Outcome {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            let error = match self.read_once(object, number, lines).await {
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
        lines: &mut u64,
    ) -> Result<(), ReadFault> {
        let stream = self.store.read(&object.name).await?;
        let (counted, mut position) = (Arc::clone(&self.shared), 0);
        let stream = stream.inspect_ok(move |chunk| {
            position += chunk.len() as u64;
            counted.loans().read_to(number, position);
        });
        let mut decoder = Decoder::new(object, self.format, self.range, *lines);
        let (chunks, shared) = (self.chunks.clone(), Arc::clone(&self.shared));
        let met = Arc::new(AtomicU64::new(0));
        let so_far = Arc::clone(&met);
        let read = read_lines(Box::pin(stream), object.compression, move |raw| {
            let messages = decoder.decode(raw);
            so_far.store(decoder.lines, Ordering::Relaxed);
            shared.loans().opened(number, messages.len());
            messages.is_empty() || chunks.blocking_send((number, messages)).is_ok()
        })
        .await;
        *lines = met.load(Ordering::Relaxed).max(*lines);
        read
    }
}

/// Makes messages of an object's lines.
struct Decoder {
    file: CompactString,
    start: crate::time::Timestamp,
    format: LineFormat,
    range: ReplayRange,
    /// Lines met so far.
    lines: u64,
    /// Lines that were handed out before.
    skip: u64,
}

impl Decoder {
    fn new(object: &ArchiveObject, format: LineFormat, range: ReplayRange, skip: u64) -> Self {
        let file = object.name.rsplit('/').next().unwrap_or(&object.name).into();
        Self { file, start: object.window.start(), format, range, lines: 0, skip }
    }

    fn decode(&mut self, lines: Vec<Bytes>) -> Vec<Message> {
        lines.into_iter().filter_map(|line| self.message(line)).collect()
    }

    /// The message of a line; none for what is empty, outside the range, or was there before.
    fn message(&mut self, line: Bytes) -> Option<Message> {
        self.lines += 1;
        if self.lines <= self.skip || line.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        let here = || format_compact!("{}:{}", self.file, self.lines);
        let message = |id, payload, publish_time| Message {
            id,
            payload,
            publish_time,
            attributes: None,
            ordering_key: CompactString::default(),
            attempt: None,
            archived: false,
            lease: Lease(0),
        };
        match self.format.decode(line.clone()) {
            Ok(event) => match event.origin {
                None => Some(message(here(), event.payload, self.start)),
                Some(origin) => self.range.holds(origin.publish_time).then(|| Message {
                    attributes: origin.attributes,
                    ordering_key: origin.ordering_key,
                    ..message(origin.message_id, event.payload, origin.publish_time)
                }),
            },
            Err(error) => {
                tracing::warn!(line = %here(), %error, "a line of the archive cannot be read back");
                Some(message(here(), line, self.start))
            }
        }
    }
}
