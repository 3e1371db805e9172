//! Finishes the windows of other processes: of a daemon that was killed, or of a dead replica.
//!
//! Receives only its own reminder to look. Its state can be lost: after a crash it looks again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::directory::Directory;
use crate::archive::{Incarnation, Limits, SealError, Unfinished, Window, close, unfinished};
use crate::port::ArchiveStore;
use crate::supervision::{Backoff, Me, Role, RoleError};

/// The shortest pause between two looks, for a grace may be as short as one likes; and the longest
/// after a look that failed, for a recovery in trouble keeps the daemon from being ready.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The recovery's mailbox.
#[derive(Debug)]
pub enum RecoveryMessage {
    /// Look for unfinished windows.
    Look,
}

/// How unfinished windows are found and finished.
#[derive(Clone)]
pub struct Sweep {
    /// The store of the windows.
    pub store: Arc<dyn ArchiveStore>,
    /// Whose windows are alive.
    pub directory: Arc<Directory>,
    /// This process is the only writer of the archive, so every incarnation that is not alive here is dead.
    pub exclusive: bool,
    /// How long an incarnation must have been silent to count as dead, where others write too.
    pub grace: Duration,
}

/// The role.
pub struct Recovery {
    sweep: Sweep,
    /// The unfinished windows of other processes at the last look, and the time since when each has not changed.
    seen: HashMap<(Window, Incarnation), (u64, Instant)>,
    backoff: Backoff,
}

impl Recovery {
    /// A recovery that has seen nothing yet.
    #[must_use]
    pub fn new(sweep: Sweep) -> Self {
        Self { sweep, seen: HashMap::new(), backoff: Backoff::new(PAUSE.0, PAUSE.1) }
    }

    /// Finishes every abandoned window and returns their number.
    ///
    /// # Errors
    /// The first [`SealError`], after the other windows were finished: look again later.
    pub async fn look(&mut self, now: Instant) -> Result<usize, SealError> {
        // In this order: the writer of a listed object was in the directory by then.
        let unfinished = unfinished(&*self.sweep.store).await?;
        let alive = self.sweep.directory.alive();
        let mut present = HashSet::new();
        let mut looked = Ok(0);
        for one in unfinished {
            if alive.contains(&one.incarnation) {
                continue;
            }
            let key = (one.window, one.incarnation.clone());
            present.insert(key.clone());
            if self.is_dead(key, one.bytes, now) {
                let finished = self.finish(&one).await;
                // One that cannot be finished must not keep others from it.
                looked = looked.and_then(|count| finished.map(|()| count + 1));
            }
        }
        self.seen.retain(|key, _| present.contains(key));
        looked
    }

    async fn finish(&self, one: &Unfinished) -> Result<(), SealError> {
        let Unfinished { window, incarnation, .. } = one;
        close(&*self.sweep.store, *window, incarnation, Limits::DEFAULT).await?;
        tracing::info!(%window, %incarnation, "finished a window that was left open");
        Ok(())
    }

    /// Whether nothing was added for long enough.
    fn is_dead(&mut self, key: (Window, Incarnation), bytes: u64, now: Instant) -> bool {
        let seen = self.seen.entry(key).or_insert((bytes, now));
        if seen.0 != bytes {
            *seen = (bytes, now);
        }
        self.sweep.exclusive || now.duration_since(seen.1) >= self.sweep.grace
    }
}

impl Role for Recovery {
    type Message = RecoveryMessage;

    async fn start(&mut self, me: &Me<RecoveryMessage>) -> Result<(), RoleError> {
        me.remind(RecoveryMessage::Look);
        Ok(())
    }

    async fn handle(
        &mut self,
        RecoveryMessage::Look: RecoveryMessage,
        me: &Me<RecoveryMessage>,
    ) -> Result<(), RoleError> {
        let pause = match self.look(Instant::now()).await {
            Ok(finished) => {
                me.vitals().recovered();
                me.vitals().handled(finished as u64);
                self.backoff.succeeded();
                self.sweep.grace.max(PAUSE.0)
            }
            Err(error) => {
                me.vitals().trouble(error.to_string(), 0);
                self.backoff.failed()
            }
        };
        me.remind_after(pause, || RecoveryMessage::Look);
        Ok(())
    }
}
