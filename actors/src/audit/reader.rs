//! Reads the files of the windows, a few ahead, makes the rows of their lines, and compares each file
//! with its index.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::TryStreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::expect::{Chunk, Rules};
use crate::archive::{ArchiveObject, Indexes, Tally};
use crate::port::{ArchiveStore, StoreError};
use crate::replay::{Decoder, ReadFault, ReplayRange, read_lines};
use crate::supervision::Backoff;

/// Chunks of a file that wait to be compared, at most; a chunk is of 256 KiB of lines.
const READ_AHEAD: usize = 4;

/// The first and the longest pause before a store that broke off is asked again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How often in a row the store may break off without a line more.
const ATTEMPTS: usize = 8;

/// A file that is being read. Dropping it stops the reading.
pub(super) struct Reading {
    pub(super) file: Arc<str>,
    /// The place of its window among those audited.
    pub(super) window: usize,
    chunks: mpsc::Receiver<Chunk>,
    task: JoinHandle<Result<(), StoreError>>,
}

impl Reading {
    /// The next chunk; `None` at the end.
    ///
    /// # Errors
    /// The store's, when it stays unavailable.
    pub(super) async fn next(&mut self) -> Result<Option<Chunk>, StoreError> {
        if let Some(chunk) = self.chunks.recv().await {
            return Ok(Some(chunk));
        }
        match (&mut self.task).await {
            Ok(ended) => ended.map(|()| None),
            Err(error) => Err(StoreError::Refused(format!("{}: {error}", self.file))),
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads the windows of an audit.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) store: Arc<dyn ArchiveStore>,
    pub(super) range: ReplayRange,
    pub(super) rules: Arc<Rules>,
    /// Size, lines and checksum of each final, from when it was composed.
    pub(super) indexes: Arc<Indexes>,
}

impl Reader {
    /// Begins to read a file of the window at this place.
    pub(super) fn open(
        &self,
        object: ArchiveObject,
        window: usize,
        without: Arc<[usize]>,
    ) -> Reading {
        let (sender, chunks) = mpsc::channel(READ_AHEAD);
        let file = object.name.as_str().into();
        let task = tokio::spawn(self.clone().read(object, without, sender));
        Reading { file, window, chunks, task }
    }

    /// Reads to the end, and on where the store broke off.
    async fn read(
        self,
        object: ArchiveObject,
        without: Arc<[usize]>,
        chunks: mpsc::Sender<Chunk>,
    ) -> Result<(), StoreError> {
        let lines = Arc::new(AtomicU64::new(0));
        let (mut backoff, mut attempts) = (Backoff::new(BACKOFF.0, BACKOFF.1), 0);
        loop {
            let before = lines.load(Ordering::Relaxed);
            let damage = match self.read_once(&object, &without, &chunks, &lines).await {
                Ok(None) => return Ok(()),
                Ok(Some(difference)) => difference,
                Err(ReadFault::Damaged(reason)) => reason,
                Err(ReadFault::Store(StoreError::Unavailable(reason))) => {
                    let stuck = lines.load(Ordering::Relaxed) == before;
                    attempts = if stuck { attempts + 1 } else { 0 };
                    if attempts == ATTEMPTS {
                        return Err(StoreError::Unavailable(reason));
                    }
                    tokio::time::sleep(backoff.failed()).await;
                    continue;
                }
                Err(ReadFault::Store(error)) => error.to_string(),
            };
            let damaged = vec![(lines.load(Ordering::Relaxed) + 1, damage)];
            // A closed channel means that the audit has ended.
            let _ = chunks.send(Chunk { damaged, ..Chunk::default() }).await;
            return Ok(());
        }
    }

    /// Returns how the file differs from its index, if no line of it is damaged already.
    async fn read_once(
        &self,
        object: &ArchiveObject,
        without: &Arc<[usize]>,
        chunks: &mpsc::Sender<Chunk>,
        lines: &Arc<AtomicU64>,
    ) -> Result<Option<String>, ReadFault> {
        let stream = self.store.read(&object.name).await?;
        let bytes = Arc::new(Mutex::new(Tally::default()));
        let tallied = Arc::clone(&bytes);
        let stream = stream.inspect_ok(move |chunk| {
            tallied.lock().unwrap_or_else(PoisonError::into_inner).add(chunk);
        });
        let damaged = Arc::new(AtomicBool::new(false));
        let met_damage = Arc::clone(&damaged);
        let skip = lines.load(Ordering::Relaxed);
        let mut decoder =
            Decoder::new(object, Some(Arc::clone(&self.rules.envelope)), self.range, skip);
        let (rules, without) = (Arc::clone(&self.rules), Arc::clone(without));
        let (sender, met) = (chunks.clone(), Arc::clone(lines));
        read_lines(Box::pin(stream), object.compression, move |raw| {
            let chunk = rules.chunk(&mut decoder, raw, &without);
            met_damage.fetch_or(!chunk.damaged.is_empty(), Ordering::Relaxed);
            met.fetch_max(decoder.lines, Ordering::Relaxed);
            sender.blocking_send(chunk).is_ok()
        })
        .await?;
        // When the receiver is closed, the file was not read to its end.
        if damaged.load(Ordering::Relaxed) || chunks.is_closed() {
            return Ok(None);
        }
        let read = *bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let read = Tally { lines: lines.load(Ordering::Relaxed), ..read };
        Ok(self.indexes.difference(object, &read))
    }
}
