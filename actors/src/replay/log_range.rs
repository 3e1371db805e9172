//! A range of the log's own history, as a log with an end.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::archive_log::ReplayRange;
use crate::message::{Lease, Message, NewMessage};
use crate::port::{
    Acknowledged, Backlog, EventLog, LogError, LogFault, PublishError, Pulled, Room, Sought,
};
use crate::time::Timestamp;

/// When a log without an end of its own is taken to be at the end of a range. The log is asked first
/// whether all of the range is acknowledged: that proves the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// So long nothing came at all.
    pub quiet: Duration,
    /// For so long none of the range came, before the log is asked: zero where events come in their
    /// order.
    pub straggling: Duration,
    /// The least time between two questions.
    pub ask_every: Duration,
    /// A log that cannot answer is at the end when a later event came. Not where later events may
    /// be followed by earlier ones.
    pub later_ends: bool,
    /// While the log answers that events of the range are not acknowledged, it is read on for at
    /// most this long.
    pub refuted: Duration,
}

/// The sign by which the end of the range was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// The log's own answer: all that was published before the range's end is acknowledged.
    Proof,
    /// An event that was published after the range.
    LaterEvent,
    /// Nothing came any more.
    Quiet,
}

/// The log's answer to the question whether the whole range is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    CannotTell,
}

/// How far the reading of a range is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeProgress {
    /// Events of the range that were handed out; one that comes again counts again.
    pub events: u64,
    /// The latest publish time among them.
    pub latest: Option<Timestamp>,
    /// The sign of the end, after it was reached.
    pub ended_by: Option<EndedBy>,
}

/// Hands out the events of a range from a log whose subscription was moved to its beginning. Events outside the
/// range are acknowledged and passed over, so no other process may use the subscription.
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
    /// The log's last answer whether the range is acknowledged, and when it was asked.
    asked: Option<(Instant, Answer)>,
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

    /// Whether all events of the range are acknowledged, by the log's own answer.
    async fn all_acknowledged(&self) -> Answer {
        let asked_at = Timestamp::now();
        let covers = match self.log.acknowledged().await {
            // Events published from now on belong to the range if it ends in the future.
            Ok(Acknowledged::All) => self.range.to <= asked_at,
            Ok(Acknowledged::Before(time)) => self.range.to <= time,
            Err(error) => {
                tracing::debug!(%error, "the log did not answer whether the range is acknowledged");
                return Answer::CannotTell;
            }
        };
        if covers { Answer::Yes } else { Answer::No }
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
    /// Counts a pull that brought nothing of the range; whether to ask the log if that is the end.
    fn is_to_ask(&mut self, ending: Ending, quiet: bool, now: Instant) -> bool {
        let barren = now - *self.barren_since.get_or_insert(now);
        if quiet {
            self.quiet_since.get_or_insert(now);
        }
        let due = self.asked.is_none_or(|(at, _)| now - at >= ending.ask_every);
        due && barren >= ending.straggling && (quiet || self.later_seen)
    }

    /// Whether a pull that brought nothing of the range is the end.
    fn is_end(&mut self, ending: Ending, quiet: bool, now: Instant) -> bool {
        let since = |time: Option<Instant>| time.map_or(Duration::ZERO, |time| now - time);
        let barren = since(self.barren_since);
        // An answer from before the last event of the range does not count.
        let current = self.asked.filter(|(at, _)| Some(*at) >= self.barren_since);
        let answer = current.map_or(Answer::CannotTell, |(_, answer)| answer);
        let end = if answer == Answer::Yes {
            EndedBy::Proof
        } else if answer == Answer::No && barren < ending.refuted {
            return false;
        } else if ending.later_ends && self.later_seen && barren >= ending.straggling {
            EndedBy::LaterEvent
        } else if quiet && since(self.quiet_since) >= ending.quiet {
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
            let is_to_ask = self.state().is_to_ask(self.ending, quiet, now);
            if is_to_ask {
                self.pass_over().await;
                let answer = self.all_acknowledged().await;
                self.state().asked = Some((now, answer));
            }
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
        // The log is read a little beyond the range.
        self.log.faults_before(self.range.to).await
    }

    async fn backlog(&self) -> Result<Backlog, LogError> {
        self.log.backlog().await
    }

    fn ended(&self) -> Option<String> {
        self.log.ended()
    }

    async fn close(&self) {
        self.pass_over().await;
        self.log.close().await;
    }
}

#[cfg(test)]
mod tests;
