//! A range of the log's own history, as a log with an end.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::archive_log::ReplayRange;
use crate::message::{Lease, Message, NewMessage};
use crate::port::{Backlog, EventLog, LogError, LogFault, PublishError, Pulled, Room, Sought};
use crate::time::Timestamp;

/// When a log without an end of its own is taken to be at the end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// So long nothing came at all.
    pub quiet: Duration,
    /// A later event has come, and for so long none of the range: zero where events come in their
    /// order.
    pub straggling: Duration,
}

/// What was taken for the end of the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// An event that was published after the range.
    LaterEvent,
    /// Nothing came any more.
    Quiet,
}

/// How far the reading of a range is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeProgress {
    /// Events of the range that were handed out; one that comes again counts again.
    pub events: u64,
    /// The latest publish time among them.
    pub latest: Option<Timestamp>,
    /// What was taken for the end, once it was.
    pub ended_by: Option<EndedBy>,
}

/// Hands out the events of a range from a log that stands at its beginning. What lies outside is
/// acknowledged and passed over, so the subscription has to be the caller's alone.
pub struct LogRange {
    log: Arc<dyn EventLog>,
    range: ReplayRange,
    ending: Ending,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    progress: RangeProgress,
    /// Since when pulls have brought nothing of the range.
    barren_since: Option<Instant>,
    /// Since when they have brought nothing at all.
    quiet_since: Option<Instant>,
    later_seen: bool,
    /// Messages outside the range that are still to be acknowledged.
    outside: Vec<Lease>,
    /// Something was given back: it comes again, also behind the end.
    given_back: bool,
}

impl LogRange {
    /// The events of `range` in `log`.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, range: ReplayRange, ending: Ending) -> Self {
        Self { log, range, ending, state: Mutex::default() }
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> RangeProgress {
        self.state().progress
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the messages of the range; the leases of the others wait for
    /// [`Self::pass_over`]. It does not await: a pull cancelled between taking messages from the
    /// inner log and returning them would lose them.
    fn sift(&self, messages: Vec<Message>) -> Vec<Message> {
        let later = messages.iter().any(|message| message.publish_time >= self.range.to);
        let (within, outside): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|message| self.range.holds(message.publish_time));
        let mut state = self.state();
        state.outside.extend(outside.iter().map(|message| message.lease));
        state.later_seen |= later;
        state.quiet_since = None;
        if let Some(latest) = within.iter().map(|message| message.publish_time).max() {
            state.progress.events += within.len() as u64;
            state.progress.latest = state.progress.latest.max(Some(latest));
            state.barren_since = None;
        }
        within
    }

    /// Acknowledges the messages outside the range. Their leases are forgotten only afterwards, so
    /// a cancelled or failed call is repeated by the next one.
    async fn pass_over(&self) {
        let leases = self.state().outside.clone();
        if leases.is_empty() {
            return;
        }
        match self.log.acknowledge(&leases).await {
            Ok(()) => {
                let done: HashSet<_> = leases.into_iter().collect();
                self.state().outside.retain(|lease| !done.contains(lease));
            }
            Err(error) => {
                tracing::debug!(%error, "events outside the range could not be acknowledged yet");
            }
        }
    }
}

impl State {
    /// Counts a pull that brought nothing of the range; whether that is the end.
    fn is_end(&mut self, ending: Ending, quiet: bool, now: Instant) -> bool {
        let barren = now - *self.barren_since.get_or_insert(now);
        let end = if self.later_seen && barren >= ending.straggling {
            EndedBy::LaterEvent
        } else if quiet && now - *self.quiet_since.get_or_insert(now) >= ending.quiet {
            EndedBy::Quiet
        } else {
            return false;
        };
        self.progress.ended_by = Some(end);
        true
    }
}

impl fmt::Debug for LogRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogRange").field("range", &self.range).finish_non_exhaustive()
    }
}

#[async_trait]
impl EventLog for LogRange {
    async fn pull(&self, room: Room, patience: Duration) -> Result<Pulled, LogError> {
        {
            let mut state = self.state();
            if state.progress.ended_by.is_some() && !std::mem::take(&mut state.given_back) {
                return Ok(Pulled::End);
            }
        }
        let deadline = Instant::now() + patience;
        loop {
            self.pass_over().await;
            let patience = deadline.saturating_duration_since(Instant::now());
            let quiet = match self.log.pull(room, patience).await? {
                // No await from here to the answer.
                Pulled::Messages(messages) => {
                    let within = self.sift(messages);
                    if !within.is_empty() {
                        return Ok(Pulled::Messages(within));
                    }
                    false
                }
                Pulled::Quiet => true,
                Pulled::End => {
                    self.state().progress.ended_by.get_or_insert(EndedBy::Quiet);
                    return Ok(Pulled::End);
                }
            };
            let now = Instant::now();
            if self.state().is_end(self.ending, quiet, now) {
                return Ok(Pulled::End);
            }
            if quiet || now >= deadline {
                return Ok(Pulled::Quiet);
            }
        }
    }

    async fn acknowledge(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.log.acknowledge(leases).await
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.log.give_back(leases).await?;
        self.state().given_back = true;
        Ok(())
    }

    async fn seek(&self, _: Timestamp) -> Result<Sought, LogError> {
        Err(LogError::Refused("a replay goes through its range once: start another".to_owned()))
    }

    async fn publish(&self, messages: Vec<NewMessage>) -> Vec<Result<String, PublishError>> {
        self.log.publish(messages).await
    }

    async fn faults(&self) -> Result<Vec<LogFault>, LogError> {
        self.log.faults().await
    }

    async fn backlog(&self) -> Result<Backlog, LogError> {
        self.log.backlog().await
    }

    async fn close(&self) {
        self.pass_over().await;
        self.log.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::event_log::{Abilities, conforms};
    use crate::testing::memory::event_log::MemoryLog;
    use crate::testing::memory::yielding::Yielding;

    const ROOM: Room = Room { messages: 2, bytes: 1 << 20 };
    const ENDING: Ending = Ending { quiet: Duration::from_secs(30), straggling: Duration::ZERO };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    /// Events of these seconds, and their range from the 10th to the 20th.
    fn range_of(seconds: &[i64], ending: Ending) -> (MemoryLog, LogRange) {
        let log = MemoryLog::default();
        for &second in seconds {
            log.append_at([NewMessage::from_payload(second.to_string())], at(second));
        }
        let range = ReplayRange { from: at(10), to: at(20) };
        (log.clone(), LogRange::new(Arc::new(log), range, ending))
    }

    /// The payloads up to the end, all acknowledged.
    async fn all(range: &LogRange) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            match range.pull(ROOM, Duration::from_millis(50)).await.unwrap() {
                Pulled::Messages(messages) => {
                    let leases: Vec<_> = messages.iter().map(|message| message.lease).collect();
                    range.acknowledge(&leases).await.unwrap();
                    let text = |it: &Message| String::from_utf8(it.payload.to_vec()).unwrap();
                    all.extend(messages.iter().map(text));
                }
                Pulled::Quiet => {}
                Pulled::End => return all,
            }
        }
    }

    /// Each message of the range is between two that lie outside, so that every pull has messages
    /// to pass over.
    #[tokio::test]
    async fn it_keeps_the_promises_of_an_event_log_among_events_outside_its_range() {
        let fresh = |messages: Vec<NewMessage>| async {
            let log = MemoryLog::default();
            for message in messages {
                log.append_at([NewMessage::from_payload("before")], at(1));
                log.append_at([message], at(10));
                log.append_at([NewMessage::from_payload("before")], at(2));
            }
            let range = ReplayRange { from: at(10), to: Timestamp::now().after(ENDING.quiet) };
            LogRange::new(Arc::new(Yielding(log)), range, ENDING)
        };
        let abilities = Abilities { seek: false, backlog: false, ..Abilities::ALL };
        conforms(fresh, abilities).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_event_ends_it_and_what_lies_outside_is_passed_over() {
        let (_, range) = range_of(&[8, 9, 10, 11, 19, 20, 21], ENDING);
        let begun = Instant::now();
        assert_eq!(all(&range).await, ["10", "11", "19"]);
        assert_eq!(range.progress().ended_by, Some(EndedBy::LaterEvent));
        assert_eq!((range.progress().events, range.progress().latest), (3, Some(at(19))));
        assert!(begun.elapsed() < ENDING.quiet);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_later_event_quiet_ends_it() {
        let (_, range) = range_of(&[10, 11], ENDING);
        let begun = Instant::now();
        assert_eq!(all(&range).await, ["10", "11"]);
        assert_eq!(range.progress().ended_by, Some(EndedBy::Quiet));
        assert!(begun.elapsed() >= ENDING.quiet);
    }

    #[tokio::test(start_paused = true)]
    async fn where_events_come_out_of_order_stragglers_are_waited_for() {
        let ending = Ending { straggling: Duration::from_secs(5), ..ENDING };
        let (log, range) = range_of(&[10, 21, 22, 11], ending);
        let late = async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            log.append_at([NewMessage::from_payload("12")], at(12));
        };
        let begun = Instant::now();
        let (all, ()) = futures::join!(all(&range), late);
        assert_eq!(all, ["10", "11", "12"]);
        assert_eq!(range.progress().ended_by, Some(EndedBy::LaterEvent));
        assert!(begun.elapsed() >= Duration::from_secs(9));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_back_comes_again_behind_the_end() {
        let (_, range) = range_of(&[10, 30], ENDING);
        let pulled = range.pull(ROOM, Duration::ZERO).await.unwrap();
        let Pulled::Messages(messages) = pulled else { panic!("{pulled:?}") };
        assert!(matches!(range.pull(ROOM, Duration::ZERO).await.unwrap(), Pulled::End));
        range.give_back(&[messages[0].lease]).await.unwrap();
        assert_eq!(all(&range).await, ["10"]);
    }
}
