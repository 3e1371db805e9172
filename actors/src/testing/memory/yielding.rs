//! A log whose calls take a moment, so that a test can cancel its callers at each of them.

use std::time::Duration;

use async_trait::async_trait;
use tokio::task::yield_now;

use crate::message::{Lease, NewMessage};
use crate::port::{Acknowledged, Backlog, EventLog, LogError, PublishError, Pulled, Room, Sought};
use crate::time::Timestamp;

/// Waits once before each call on the inner log, and behind an acknowledgement once more.
#[derive(Clone, Debug)]
pub struct Yielding<L>(pub L);

#[async_trait]
impl<L: EventLog> EventLog for Yielding<L> {
    async fn pull(&self, room: Room, patience: Duration) -> Result<Pulled, LogError> {
        yield_now().await;
        // The last await: a pull that is cancelled loses nothing.
        self.0.pull(room, patience).await
    }

    async fn acknowledge(&self, leases: &[Lease]) -> Result<(), LogError> {
        yield_now().await;
        let done = self.0.acknowledge(leases).await;
        yield_now().await;
        done
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError> {
        yield_now().await;
        self.0.give_back(leases).await
    }

    async fn seek(&self, to: Timestamp) -> Result<Sought, LogError> {
        yield_now().await;
        self.0.seek(to).await
    }

    async fn publish(&self, messages: Vec<NewMessage>) -> Vec<Result<String, PublishError>> {
        yield_now().await;
        self.0.publish(messages).await
    }

    async fn backlog(&self) -> Result<Backlog, LogError> {
        yield_now().await;
        self.0.backlog().await
    }

    async fn acknowledged(&self) -> Result<Acknowledged, LogError> {
        yield_now().await;
        self.0.acknowledged().await
    }

    async fn close(&self) {
        yield_now().await;
        self.0.close().await;
    }
}
