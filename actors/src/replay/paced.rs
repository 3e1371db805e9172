//! A log that hands out no more than so many events a second.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::message::{Lease, NewMessage};
use crate::port::{Backlog, EventLog, LogError, LogFault, PublishError, Pulled, Room, Sought};
use crate::time::Timestamp;

/// Seconds' worth of events that may be handed out at once after a pause: short, so that the load on other users is
/// even.
const BURST: f64 = 0.1;

/// Hands out what `inner` has, at most at a rate.
#[derive(Debug)]
pub struct Paced<L> {
    inner: L,
    rate: Option<NonZeroU32>,
    bucket: Mutex<Bucket>,
}

/// Events that may be handed out now, and when that was counted.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    counted: Instant,
}

impl<L> Paced<L> {
    /// `inner` at no more than `rate` events a second; without a rate, as it is.
    #[must_use]
    pub fn new(inner: L, rate: Option<NonZeroU32>) -> Self {
        let bucket = Mutex::new(Bucket { tokens: 0.0, counted: Instant::now() });
        Self { inner, rate, bucket }
    }

    /// The log that is paced.
    #[must_use]
    pub fn inner(&self) -> &L {
        &self.inner
    }

    /// How many events may be handed out now.
    fn allowed(&self, rate: f64) -> usize {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let earned = now.saturating_duration_since(bucket.counted).as_secs_f64() * rate;
        // A rate below ten a second still has a whole event now and then.
        bucket.tokens = (bucket.tokens + earned).min((rate * BURST).max(1.0));
        bucket.counted = now;
        bucket.tokens as usize
    }

    fn spend(&self, events: usize) {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.tokens -= events as f64;
    }
}

#[async_trait]
impl<L: EventLog> EventLog for Paced<L> {
    async fn pull(&self, room: Room, patience: Duration) -> Result<Pulled, LogError> {
        let Some(rate) = self.rate else { return self.inner.pull(room, patience).await };
        let rate = f64::from(rate.get());
        let deadline = Instant::now() + patience;
        let allowed = loop {
            let allowed = self.allowed(rate);
            if allowed > 0 {
                break allowed;
            }
            // Until the next event is earned; before that none may be taken, so the log is quiet.
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Pulled::Quiet);
            }
            tokio::time::sleep(left.min(Duration::from_secs_f64(1.0 / rate))).await;
        };
        let patience = deadline.saturating_duration_since(Instant::now());
        let room = Room { messages: room.messages.min(allowed), ..room };
        let pulled = self.inner.pull(room, patience).await?;
        if let Pulled::Messages(messages) = &pulled {
            self.spend(messages.len());
        }
        Ok(pulled)
    }

    async fn acknowledge(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.inner.acknowledge(leases).await
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.inner.give_back(leases).await
    }

    async fn seek(&self, to: Timestamp) -> Result<Sought, LogError> {
        self.inner.seek(to).await
    }

    async fn publish(&self, messages: Vec<NewMessage>) -> Vec<Result<String, PublishError>> {
        self.inner.publish(messages).await
    }

    async fn faults(&self) -> Result<Vec<LogFault>, LogError> {
        self.inner.faults().await
    }

    async fn backlog(&self) -> Result<Backlog, LogError> {
        self.inner.backlog().await
    }

    fn ended(&self) -> Option<String> {
        self.inner.ended()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::event_log::{Abilities, conforms};
    use crate::testing::memory::event_log::MemoryLog;
    use crate::testing::memory::yielding::Yielding;

    async fn with_messages(count: usize, rate: Option<u32>) -> Paced<MemoryLog> {
        let log = MemoryLog::new();
        let messages = (0..count).map(|n| NewMessage::from_payload(n.to_string())).collect();
        log.publish(messages).await.into_iter().for_each(|one| drop(one.unwrap()));
        Paced::new(log, rate.and_then(NonZeroU32::new))
    }

    /// How many messages come in `time`.
    async fn taken(log: &Paced<MemoryLog>, time: Duration) -> usize {
        let end = Instant::now() + time;
        let mut taken = 0;
        while Instant::now() < end {
            let room = Room { messages: 10_000, bytes: u64::MAX };
            if let Pulled::Messages(messages) =
                log.pull(room, Duration::from_millis(50)).await.unwrap()
            {
                taken += messages.len();
            }
        }
        taken
    }

    #[tokio::test]
    async fn it_keeps_the_promises_of_an_event_log_at_any_rate() {
        for rate in [None, NonZeroU32::new(2_000)] {
            let fresh = |messages| async move {
                let log = MemoryLog::new();
                log.append(messages);
                Paced::new(Yielding(log), rate)
            };
            conforms(fresh, Abilities { backlog: false, ..Abilities::ALL }).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_comes_than_the_rate_allows_and_hardly_less() {
        for rate in [1, 7, 500, 20_000] {
            let log = with_messages(100_000, Some(rate)).await;
            let taken = taken(&log, Duration::from_secs(4)).await;
            let most = 4 * rate as usize;
            assert!(taken <= most + rate as usize / 10 + 1, "{taken} of {most}");
            assert!(taken + 1 + most / 10 >= most, "{taken} of {most}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_all_comes_at_once() {
        let log = with_messages(1_000, None).await;
        let room = Room { messages: 10_000, bytes: u64::MAX };
        let pulled = log.pull(room, Duration::from_secs(1)).await.unwrap();
        assert!(matches!(pulled, Pulled::Messages(messages) if messages.len() == 1_000));
    }
}
