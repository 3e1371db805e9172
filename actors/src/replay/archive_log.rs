//! The archive behind the port of the event log.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::feed::{Chunk, Feed};
use super::file_feed::{FileFeed, FileSource, ImportFile};
use super::loans::{Loans, Progress};
use crate::archive::{WINDOW, Window};
use crate::envelope::EnvelopePlan;
use crate::message::{Lease, Message, NewMessage};
use crate::port::{ArchiveStore, Backlog, EventLog, LogError, PublishError, Pulled, Room, Sought};
use crate::time::Timestamp;

/// Chunks that are read ahead, at most.
const READ_AHEAD: usize = 16;

/// Selects the events published in `[from, to)`. Lines without a publish time are selected by whole windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayRange {
    /// The first moment that belongs to it.
    pub from: Timestamp,
    /// The first moment that belongs to it no more.
    pub to: Timestamp,
}

impl ReplayRange {
    /// Whether an event published at `time` belongs to it.
    #[must_use]
    pub fn holds(self, time: Timestamp) -> bool {
        self.from <= time && time < self.to
    }

    /// The range of the whole windows that overlap this one.
    #[must_use]
    pub fn in_windows(self) -> Self {
        if self.from >= self.to {
            return self;
        }
        let last = Window::of(Timestamp::from_micros(self.to.micros() - 1));
        Self { from: Window::of(self.from).start(), to: last.start().after(WINDOW) }
    }
}

/// State that the puller and the feed share.
#[derive(Default)]
pub(super) struct Shared(Mutex<Loans>);

impl Shared {
    pub(super) fn loans(&self) -> MutexGuard<'_, Loans> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        self.loans().trouble = trouble;
    }
}

/// The archived events of a range, as a log with an end. Dropping it stops the reading.
pub struct ArchiveLog {
    shared: Arc<Shared>,
    chunks: tokio::sync::Mutex<mpsc::Receiver<Chunk>>,
    feed: JoinHandle<()>,
}

impl fmt::Debug for ArchiveLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveLog").finish_non_exhaustive()
    }
}

impl ArchiveLog {
    /// Starts to read the events of `range`, but for the objects in `done`. `envelope` finds the
    /// event's time, which counts as the publish time of a line that holds none. Needs a runtime.
    #[must_use]
    pub fn open(
        store: Arc<dyn ArchiveStore>,
        range: ReplayRange,
        envelope: Option<Arc<EnvelopePlan>>,
        done: HashSet<String>,
    ) -> Self {
        let shared = Arc::<Shared>::default();
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let feed = Feed { store, range, envelope, shared: Arc::clone(&shared), chunks: sender };
        let feed = tokio::spawn(feed.run(done));
        Self { shared, chunks: tokio::sync::Mutex::new(receiver), feed }
    }

    /// Starts to import `files`, but for those in `done`. Needs a runtime.
    #[must_use]
    pub fn import(
        source: Arc<dyn FileSource>,
        files: Vec<ImportFile>,
        range: ReplayRange,
        envelope: Arc<EnvelopePlan>,
        done: HashSet<String>,
    ) -> Self {
        let shared = Arc::<Shared>::default();
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let feed =
            FileFeed { source, range, envelope, shared: Arc::clone(&shared), chunks: sender };
        let feed = tokio::spawn(feed.run(files, done));
        Self { shared, chunks: tokio::sync::Mutex::new(receiver), feed }
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.shared.loans().progress()
    }

    /// The names of the objects that became done since the last call: all their lines are
    /// acknowledged, and a later replay may leave them out.
    #[must_use]
    pub fn take_done(&self) -> Vec<String> {
        self.shared.loans().take_done()
    }

    /// Waits for lines; false when there will be none any more.
    async fn await_lines(&self) -> bool {
        let mut chunks = self.chunks.lock().await;
        // Another puller may have read more than it could use.
        if self.shared.loans().is_waiting() {
            return true;
        }
        match chunks.recv().await {
            Some((object, messages)) => {
                self.shared.loans().arrived(object, messages);
                true
            }
            None => false,
        }
    }
}

impl Drop for ArchiveLog {
    fn drop(&mut self) {
        self.feed.abort();
    }
}

#[async_trait]
impl EventLog for ArchiveLog {
    async fn pull(&self, room: Room, patience: Duration) -> Result<Pulled, LogError> {
        let deadline = Instant::now() + patience;
        loop {
            let lent: Vec<Message> = self.shared.loans().lend(room);
            if !lent.is_empty() {
                return Ok(Pulled::Messages(lent));
            }
            match timeout_at(deadline, self.await_lines()).await {
                Ok(true) => {}
                Ok(false) => return Ok(Pulled::End),
                Err(_) => {
                    return match self.shared.loans().trouble.clone() {
                        Some(trouble) => Err(LogError::Unavailable(trouble)),
                        None => Ok(Pulled::Quiet),
                    };
                }
            }
        }
    }

    async fn acknowledge(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.shared.loans().acknowledge(leases);
        Ok(())
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.shared.loans().give_back(leases);
        Ok(())
    }

    async fn seek(&self, _: Timestamp) -> Result<Sought, LogError> {
        Err(LogError::Refused("a replay goes through its range once: start another".to_owned()))
    }

    async fn publish(&self, messages: Vec<NewMessage>) -> Vec<Result<String, PublishError>> {
        let refused =
            || Err(PublishError::Refused("an archive that is replayed takes nothing".to_owned()));
        messages.iter().map(|_| refused()).collect()
    }

    async fn backlog(&self) -> Result<Backlog, LogError> {
        Ok(Backlog::default())
    }
}
