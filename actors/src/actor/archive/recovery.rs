//! Finishes what others left: the windows of a daemon that was killed, or of a dead replica.
//!
//! Receives only its own reminder to look. Owns nothing that is worth keeping. If it crashes, its
//! next life looks again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::directory::Directory;
use crate::archive::{Incarnation, Limits, SealError, Window, close, unfinished};
use crate::port::ArchiveStore;
use crate::supervision::{Me, Role, RoleError};

/// The recovery's mailbox.
#[derive(Debug)]
pub enum RecoveryMessage {
    /// Look for unfinished windows.
    Look,
}

/// How unfinished windows are found and finished.
#[derive(Clone)]
pub struct Sweep {
    /// Where they stand.
    pub store: Arc<dyn ArchiveStore>,
    /// Whose windows are alive.
    pub directory: Arc<Directory>,
    /// Nobody else writes this archive, so whatever is not alive here is dead.
    pub exclusive: bool,
    /// How long an incarnation must have been silent to count as dead, where others write too.
    pub grace: Duration,
}

/// The role.
pub struct Recovery {
    sweep: Sweep,
    /// What stood there of others at the last look, and since when it has been the same.
    seen: HashMap<(Window, Incarnation), (u64, Instant)>,
}

impl Recovery {
    /// A recovery that has seen nothing yet.
    #[must_use]
    pub fn new(sweep: Sweep) -> Self {
        Self { sweep, seen: HashMap::new() }
    }

    /// Finishes every window that nobody writes any more; answers how many.
    ///
    /// # Errors
    /// [`SealError`]: look again later.
    pub async fn look(&mut self, now: Instant) -> Result<usize, SealError> {
        // In this order: whoever wrote what is listed stood in the directory by then.
        let unfinished = unfinished(&*self.sweep.store).await?;
        let alive = self.sweep.directory.alive();
        let mut present = HashSet::new();
        let mut finished = 0;
        for one in unfinished {
            if alive.contains(&one.incarnation) {
                continue;
            }
            let key = (one.window, one.incarnation.clone());
            present.insert(key.clone());
            if self.is_dead(key, one.bytes, now) {
                let store = &*self.sweep.store;
                close(store, one.window, &one.incarnation, Limits::DEFAULT).await?;
                tracing::info!(window = %one.window, incarnation = %one.incarnation, "finished a window that was left open");
                finished += 1;
            }
        }
        self.seen.retain(|key, _| present.contains(key));
        Ok(finished)
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
        match self.look(Instant::now()).await {
            Ok(finished) => {
                me.vitals().recovered();
                me.vitals().handled(finished as u64);
            }
            Err(error) => me.vitals().trouble(error.to_string(), 0),
        }
        me.remind_after(self.sweep.grace, || RecoveryMessage::Look);
        Ok(())
    }
}
