//! Messages that were in flight when the process was killed are tried again in small batches.
//!
//! Pub/Sub counts deliveries only with a dead-letter topic, and counts give-backs too, so the count accuses
//! no message. Instead each run has a note in the archive store, which a clean stop removes. A start that
//! finds the note of a run that died follows a kill. For a while it hands messages out in batches, each
//! noted before and waited for after, so that the next kill points at one batch. Its messages are tried in
//! smaller batches, down to single ones, and the kills over a single message are counted: the reader makes
//! it a dead letter after `max_attempts`.
//!
//! - Without a kill this costs one listing and one object at the start, and one listing and one removal at
//!   the stop.
//! - A run has died if it ran on this machine (in this container) and its process is gone. A run elsewhere may
//!   live, so only its knowledge of messages is taken.
//! - A message may come again to another replica. That one tries it too, once it was killed itself.
//! - Each further try of a message that was alone at a kill comes later after the start, so that kills at
//!   random do not meet it again.

mod note;

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kappa_actors::message::{Lease, Message, NewMessage};
use kappa_actors::port::{
    Acknowledged, ArchiveStore, Backlog, EventLog, LogError, LogFault, PublishError, Pulled, Room,
    Sought, StoreError,
};
use kappa_actors::time::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use note::{Note, Notes};

/// Messages in a batch: all, then those of a batch at a kill, then those of a smaller one.
const SIZES: [usize; 3] = [1_024, 32, 1];
/// A batch that the process has survived for so long did not kill it: sinks that are down keep it.
const SURVIVED: Duration = Duration::from_secs(10);
/// How long after the start a message is tried that was alone at a kill, for each such kill.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a trial lasts at least: by then the leases of the dead have run out, and their messages have
/// come again. Each further death doubles it.
const TRIAL: Duration = Duration::from_secs(120);
const MAX_TRIAL: Duration = Duration::from_secs(3_600);
/// How long messages are gathered for one batch.
const GATHERED: Duration = Duration::from_millis(50);

/// A log whose messages are tried in small batches after a kill.
pub struct TriedLog {
    log: Arc<dyn EventLog>,
    run: tokio::sync::Mutex<Run>,
    /// Leases of the present batch that are not settled.
    open: Mutex<HashSet<Lease>>,
    settled: Notify,
}

struct Run {
    notes: Notes,
    /// `None` before the first pull.
    note: Option<Note>,
    trial: Option<Trial>,
    /// Messages that wait for their turn.
    held: VecDeque<Message>,
}

struct Trial {
    started: Instant,
    ends: Instant,
    /// When the present batch was handed out.
    since: Option<Instant>,
}

impl TriedLog {
    /// Wraps a log. Its runs on `subscription` are noted in `store`.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, store: Arc<dyn ArchiveStore>, subscription: &str) -> Self {
        let notes = Notes::of(store, subscription);
        let run = Run { notes, note: None, trial: None, held: VecDeque::new() };
        Self { log, run: run.into(), open: Mutex::default(), settled: Notify::new() }
    }

    fn open(&self) -> MutexGuard<'_, HashSet<Lease>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, leases: &[Lease]) {
        let mut open = self.open();
        if open.is_empty() {
            return;
        }
        leases.iter().for_each(|lease| _ = open.remove(lease));
        if open.is_empty() {
            self.settled.notify_waiters();
        }
    }

    /// Waits for the present batch; whether it has passed.
    async fn passed(&self, run: &Run, patience: Duration) -> bool {
        let Some(since) = run.trial.as_ref().and_then(|trial| trial.since) else { return true };
        let survives = since + SURVIVED;
        let deadline = survives.min(Instant::now() + patience);
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable();
            if self.open().is_empty() || Instant::now() >= survives {
                return true;
            }
            if tokio::time::timeout_at(deadline, settled).await.is_err() {
                return Instant::now() >= survives;
            }
        }
    }

    /// The next batch of a trial, or nothing yet.
    async fn tried(
        &self,
        run: &mut Run,
        room: Room,
        patience: Duration,
    ) -> Result<Pulled, LogError> {
        if !self.passed(run, patience).await {
            return Ok(Pulled::Quiet);
        }
        self.gather(run, room, patience).await?;
        let Run { notes, note: Some(note), trial: Some(trial), held } = run else {
            return Ok(Pulled::Quiet);
        };
        let passed = std::mem::take(&mut note.trying);
        note.pass(&passed);
        trial.since = None;
        if Instant::now() >= trial.ends {
            note.deaths = 0;
            notes.write(note).await.map_err(unnoted)?;
            tracing::info!("the messages in flight at the kill have passed");
            run.trial = None;
            return Ok(handed_out(held, room));
        }
        let Some(first) = held.front() else { return Ok(Pulled::Quiet) };
        let size_of = |message: &Message| note.sizes.get(&*message.id).copied().unwrap_or(SIZES[0]);
        let size = size_of(first);
        let suspect = note.alone.get(&*first.id).copied().unwrap_or(0);
        if trial.started.elapsed() < PAUSE * suspect {
            // Others need not wait for it.
            held.rotate_left(1);
            tokio::time::sleep(GATHERED).await;
            return Ok(Pulled::Quiet);
        }
        let same = held.iter().enumerate().filter(|(_, message)| size_of(message) == size);
        let picked: Vec<_> = fitting(same.take(size), room).map(|(at, _)| at).collect();
        let ids =
            picked.iter().filter_map(|&at| held.get(at)).map(|message| message.id.to_string());
        note.trying = ids.collect();
        notes.write(note).await.map_err(unnoted)?;
        // From here on nothing is awaited: no message is taken out and lost.
        let mut batch = Vec::new();
        for at in picked.into_iter().rev() {
            batch.extend(held.remove(at));
        }
        batch.reverse();
        batch.iter_mut().for_each(|message| message.suspect = Some(suspect));
        trial.since = Some(Instant::now());
        *self.open() = batch.iter().map(|message| message.lease).collect();
        Ok(Pulled::Messages(batch))
    }

    /// Pulls messages for the next batch.
    async fn gather(&self, run: &mut Run, room: Room, patience: Duration) -> Result<(), LogError> {
        let deadline = Instant::now() + GATHERED.min(patience);
        while run.held.len() < SIZES[0] {
            let wait = if run.held.is_empty() {
                patience
            } else {
                deadline.saturating_duration_since(Instant::now())
            };
            match self.log.pull(room, wait).await? {
                Pulled::Messages(messages) => run.held.extend(messages),
                Pulled::Quiet | Pulled::End => break,
            }
        }
        Ok(())
    }
}

/// Hands out the messages that wait, as many as fit.
fn handed_out(held: &mut VecDeque<Message>, room: Room) -> Pulled {
    let count = fitting(held.iter().enumerate(), room).count();
    if count == 0 { Pulled::Quiet } else { Pulled::Messages(held.drain(..count).collect()) }
}

/// The first of these that fit; a first message may be larger than the room.
fn fitting<'a>(
    messages: impl Iterator<Item = (usize, &'a Message)>,
    room: Room,
) -> impl Iterator<Item = (usize, &'a Message)> {
    let (mut count, mut bytes) = (0, 0_u64);
    messages.take_while(move |(_, message)| {
        count += 1;
        bytes += message.payload.len() as u64;
        count == 1 || (count <= room.messages && bytes <= room.bytes)
    })
}

fn unnoted(error: StoreError) -> LogError {
    LogError::Unavailable(format!("the run cannot be noted in the archive store: {error}"))
}

#[async_trait]
impl EventLog for TriedLog {
    async fn pull(&self, room: Room, patience: Duration) -> Result<Pulled, LogError> {
        let mut run = self.run.lock().await;
        if run.note.is_none() {
            let note = run.notes.begin(&SIZES).await.map_err(unnoted)?;
            if note.deaths > 0 {
                let (deaths, alone) = (note.deaths, note.alone.len());
                tracing::warn!(
                    deaths,
                    alone,
                    "the process was killed: the messages that were in flight are tried in small batches"
                );
                let lasts = TRIAL.saturating_mul(1 << (deaths - 1).min(10)).min(MAX_TRIAL);
                let started = Instant::now();
                run.trial = Some(Trial { started, ends: started + lasts, since: None });
            }
            run.note = Some(note);
        }
        if run.trial.is_some() {
            return self.tried(&mut run, room, patience).await;
        }
        if !run.held.is_empty() {
            return Ok(handed_out(&mut run.held, room));
        }
        // A seek need not wait for a pull.
        drop(run);
        self.log.pull(room, patience).await
    }

    async fn acknowledge(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.log.acknowledge(leases).await?;
        self.settle(leases);
        Ok(())
    }

    async fn acknowledge_unarchived(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.log.acknowledge_unarchived(leases).await?;
        self.settle(leases);
        Ok(())
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.log.give_back(leases).await?;
        self.settle(leases);
        Ok(())
    }

    async fn seek(&self, to: Timestamp) -> Result<Sought, LogError> {
        let mut run = self.run.lock().await;
        let sought = self.log.seek(to).await?;
        // Their leases are void.
        run.held.clear();
        self.open().clear();
        self.settled.notify_waiters();
        Ok(sought)
    }

    async fn publish(&self, messages: Vec<NewMessage>) -> Vec<Result<String, PublishError>> {
        self.log.publish(messages).await
    }

    async fn backlog(&self) -> Result<Backlog, LogError> {
        self.log.backlog().await
    }

    async fn faults(&self) -> Result<Vec<LogFault>, LogError> {
        self.log.faults().await
    }

    async fn repairs(&self) -> Result<Vec<String>, LogError> {
        self.log.repairs().await
    }

    async fn acknowledged(&self) -> Result<Acknowledged, LogError> {
        self.log.acknowledged().await
    }

    async fn close(&self) {
        self.log.close().await;
        let mut run = self.run.lock().await;
        if run.note.is_some()
            && let Err(error) = run.notes.end().await
        {
            // The next start takes this for a kill, and is slower for two minutes.
            tracing::warn!(%error, "the note of this run could not be removed");
        }
    }
}
