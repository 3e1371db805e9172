//! A gate at which a test holds a write, to crash the actor that waits for it.

use std::sync::Arc;

use tokio::sync::watch;

/// The point at which a write is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing is written yet.
    BeforeCommit,
    /// Everything is written, and the caller does not know it.
    AfterCommit,
}

/// Holds the writes of one table for as long as it lives.
#[derive(Debug)]
pub struct Gate(Post);

impl Gate {
    /// A gate at `moment`, closed.
    pub(super) fn new(moment: Moment) -> Self {
        Self(Post { moment, progress: Arc::default() })
    }

    /// The side that writes are held at.
    pub(super) fn post(&self) -> Post {
        self.0.clone()
    }

    /// Waits until at least one write is or was held here.
    pub async fn reached(&self) {
        self.0.wait(|progress| progress.reached).await;
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.progress.send_modify(|progress| progress.open = true);
    }
}

/// The side of a [`Gate`] that writes are held at.
#[derive(Clone, Debug)]
pub(super) struct Post {
    moment: Moment,
    progress: Arc<watch::Sender<Progress>>,
}

#[derive(Debug, Default)]
struct Progress {
    reached: bool,
    open: bool,
}

impl Post {
    /// Passes when the gate is open or is set to another moment.
    pub(super) async fn pass(&self, moment: Moment) {
        if moment == self.moment {
            self.progress.send_modify(|progress| progress.reached = true);
            self.wait(|progress| progress.open).await;
        }
    }

    async fn wait(&self, until: impl FnMut(&Progress) -> bool) {
        // An error would mean that the sender is gone, and it is ours.
        let _ = self.progress.subscribe().wait_for(until).await;
    }
}
