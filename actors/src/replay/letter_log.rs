//! Dead letters as a log with an end.
//!
//! A letter is handed out as the message that it came from: same id, publish time, attributes and
//! ordering key, so its rows have the old position. An acknowledged letter is marked as requeued:
//! by then its row, or the letter of a new failure, is durable. Killed before the mark, it is
//! requeued again: the key makes that harmless in a table, and a line that the archive has already
//! is found among those of requeues.
//!
//! Two letters of one message, of two duties, never are under way together: the ledger would take
//! the second for the first handed out again, and acknowledge it with it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use compact_str::CompactString;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::archive_log::ReplayRange;
use super::requeued_lines::RequeuedLines;
use crate::dead_letter_table::{ARCHIVE, DeadLetter, Mark, ROUTE};
use crate::message::{Lease, LeaseMap, Message, NewMessage};
use crate::port::{
    ArchiveStore, Backlog, DeadLetterStore, DeadLettersUnavailable, EventLog, LogError,
    PublishError, Pulled, Room, Sought,
};
use crate::time::Timestamp;

/// Letters that one pull fetches, at most; they are fetched one after the other.
const MAX_LETTERS: usize = 200;
/// Payload bytes that one pull fetches, but for a single larger letter.
const MAX_BYTES: u64 = 4 << 20;

/// The letters that are under way, by the id of their message.
#[derive(Debug, Default)]
pub struct OpenLetters(Mutex<HashMap<CompactString, Failure>>);

/// The failure that a letter records.
#[derive(Clone, Debug)]
struct Failure {
    duty: String,
    failed_at: Timestamp,
}

impl OpenLetters {
    /// The only duty that a message is to go to; `None`: all duties.
    #[must_use]
    pub fn only(&self, message_id: &str) -> Option<String> {
        let duty = self.all().get(message_id)?.duty.clone();
        (duty != ROUTE && !duty.is_empty()).then_some(duty)
    }

    /// When the letter of this message failed that is under way.
    #[must_use]
    pub fn failed_at(&self, message_id: &str) -> Option<Timestamp> {
        self.all().get(message_id).map(|failure| failure.failed_at)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<CompactString, Failure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The dead letters with certain ids.
pub struct LetterLog {
    store: Arc<dyn DeadLetterStore>,
    /// The lines of earlier requeues, where events are archived.
    lines: Option<RequeuedLines>,
    selection: Selection,
    open: Arc<OpenLetters>,
    /// One pull fetches at a time; it puts fetched letters into `state` before it awaits again.
    fetching: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    returned: Notify,
}

/// Which letters are handed out, and whether they are marked as requeued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Letters that are requeued already are meant too.
    pub requeued_too: bool,
    /// Acknowledged letters are marked as requeued; not where rows go to staging tables.
    pub marks: bool,
    /// Only letters of messages that were published in this range.
    pub range: Option<ReplayRange>,
}

#[derive(Default)]
struct State {
    /// Ids of letters to fetch.
    waiting: VecDeque<String>,
    /// Fetched, to be handed out.
    ready: VecDeque<Loan>,
    /// Letters of a message of which another letter is under way.
    parked: HashMap<CompactString, Vec<String>>,
    lent: LeaseMap<Loan>,
    last_lease: u64,
    total: u64,
    handed_out: u64,
}

#[derive(Clone)]
struct Loan {
    letter_id: String,
    mark: Mark,
    message: Message,
}

impl std::fmt::Debug for LetterLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LetterLog").field("selection", &self.selection).finish_non_exhaustive()
    }
}

impl LetterLog {
    /// The letters with these ids, in their order.
    #[must_use]
    pub fn new(store: Arc<dyn DeadLetterStore>, ids: Vec<String>, selection: Selection) -> Self {
        let total = ids.len() as u64;
        let state = State { waiting: ids.into(), total, ..State::default() };
        Self {
            store,
            lines: None,
            selection,
            open: Arc::default(),
            fetching: tokio::sync::Mutex::default(),
            state: Mutex::new(state),
            returned: Notify::new(),
        }
    }

    /// Hands out messages as archived if an earlier requeue stored their lines in this archive.
    #[must_use]
    pub fn archived_in(self, archive: Arc<dyn ArchiveStore>) -> Self {
        Self { lines: Some(RequeuedLines::of(archive)), ..self }
    }

    /// The letters that are under way.
    #[must_use]
    pub fn open_letters(&self) -> Arc<OpenLetters> {
        Arc::clone(&self.open)
    }

    /// Letters handed out, and letters in all.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        let state = self.state();
        (state.handed_out, state.total)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches letters until as many are ready as `room` takes, or none waits.
    async fn fetch(&self, room: Room) -> Result<(), DeadLettersUnavailable> {
        let _one_at_a_time = self.fetching.lock().await;
        loop {
            let next = {
                let state = self.state();
                let bytes: u64 =
                    state.ready.iter().map(|loan| loan.message.payload.len() as u64).sum();
                if state.ready.len() >= room.messages.min(MAX_LETTERS)
                    || bytes >= room.bytes.min(MAX_BYTES)
                {
                    return Ok(());
                }
                let Some(next) = state.waiting.front().cloned() else { return Ok(()) };
                next
            };
            // Cancelled here, the letter still waits.
            let letter = self.store.get(&next).await?;
            let archived = match &letter {
                Some(letter) => self.is_archived(letter).await?,
                None => false,
            };
            let mut state = self.state();
            // A letter that was given back meanwhile may be in front of it.
            let Some(at) = state.waiting.iter().position(|id| *id == next) else { continue };
            state.waiting.remove(at);
            if let Some(letter) = letter
                && letter.purged_at.is_none()
                && (self.selection.requeued_too || letter.requeued_at.is_none())
                && self.selection.range.is_none_or(|range| range.holds(letter.publish_time))
            {
                self.take(&mut state, letter, archived);
            }
        }
    }

    /// Whether an earlier requeue stored the line of a message that was not archived when it failed.
    async fn is_archived(&self, letter: &DeadLetter) -> Result<bool, DeadLettersUnavailable> {
        let Some(lines) = &self.lines else { return Ok(false) };
        if !["", ROUTE, ARCHIVE].contains(&letter.duty.as_str()) {
            return Ok(false);
        }
        let held = lines.hold(&letter.message_id, letter.publish_time).await;
        held.map_err(|error| DeadLettersUnavailable(format!("the archive: {error}")))
    }

    /// Makes a letter ready, or parks it behind another one of its message.
    fn take(&self, state: &mut State, letter: DeadLetter, archived: bool) {
        let mut open = self.open.all();
        if open.contains_key(&letter.message_id) {
            state.parked.entry(letter.message_id).or_default().push(letter.id);
            return;
        }
        let failure = Failure { duty: letter.duty.clone(), failed_at: letter.failed_at };
        open.insert(letter.message_id.clone(), failure);
        let mark = letter.mark(Timestamp::now());
        let message = Message {
            id: letter.message_id,
            payload: letter.payload,
            publish_time: letter.publish_time,
            attributes: letter.attributes,
            ordering_key: letter.ordering_key,
            attempt: None,
            archived,
            suspect: None,
            lease: Lease(0),
        };
        state.ready.push_back(Loan { letter_id: letter.id, mark, message });
    }

    /// Ends the way of one letter: others of its message may go.
    fn release(&self, state: &mut State, message_id: &CompactString) {
        self.open.all().remove(message_id);
        for id in state.parked.remove(message_id).into_iter().flatten().rev() {
            state.waiting.push_front(id);
        }
    }
}

impl State {
    fn lend(&mut self, room: Room) -> Vec<Message> {
        let (mut lent, mut bytes) = (Vec::new(), 0);
        while let Some(next) = self.ready.front() {
            bytes += next.message.payload.len() as u64;
            if lent.len() == room.messages || (bytes > room.bytes && !lent.is_empty()) {
                break;
            }
            let Some(mut loan) = self.ready.pop_front() else { break };
            self.last_lease += 1;
            loan.message.lease = Lease(self.last_lease);
            lent.push(loan.message.clone());
            self.lent.insert(loan.message.lease, loan);
            self.handed_out += 1;
        }
        lent
    }
}

#[async_trait]
impl EventLog for LetterLog {
    async fn pull(&self, room: Room, patience: Duration) -> Result<Pulled, LogError> {
        let fetched = self.fetch(room).await;
        // No await from here to the answer with messages.
        let (lent, ended) = {
            let mut state = self.state();
            let lent = state.lend(room);
            (lent, state.waiting.is_empty() && state.ready.is_empty() && state.parked.is_empty())
        };
        match fetched {
            _ if !lent.is_empty() => Ok(Pulled::Messages(lent)),
            Err(error) => Err(LogError::Unavailable(error.to_string())),
            Ok(()) if ended => Ok(Pulled::End),
            Ok(()) => {
                // Parked letters wait for an acknowledgement.
                let _ = timeout(patience, self.returned.notified()).await;
                Ok(Pulled::Quiet)
            }
        }
    }

    async fn acknowledge(&self, leases: &[Lease]) -> Result<(), LogError> {
        if self.selection.marks {
            let marks: Vec<_> = {
                let state = self.state();
                leases
                    .iter()
                    .filter_map(|lease| Some(state.lent.get(lease)?.mark.clone()))
                    .collect()
            };
            if !marks.is_empty() {
                let marked = self.store.mark_requeued(&marks).await;
                // Its loans are still there: the call is repeated with the same leases.
                marked.map_err(|error| LogError::Unavailable(error.to_string()))?;
            }
        }
        let mut state = self.state();
        for lease in leases {
            if let Some(loan) = state.lent.remove(lease) {
                self.release(&mut state, &loan.message.id);
            }
        }
        drop(state);
        self.returned.notify_waiters();
        Ok(())
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError> {
        let mut state = self.state();
        let mut leases = leases.to_vec();
        leases.sort_unstable();
        for lease in leases.iter().rev() {
            if let Some(loan) = state.lent.remove(lease) {
                self.release(&mut state, &loan.message.id);
                state.waiting.push_front(loan.letter_id);
            }
        }
        // Fetched letters behind those that come again: fetched again, in the old order.
        while let Some(loan) = state.ready.pop_back() {
            self.release(&mut state, &loan.message.id);
            let behind = leases.len().min(state.waiting.len());
            state.waiting.insert(behind, loan.letter_id);
        }
        drop(state);
        self.returned.notify_waiters();
        Ok(())
    }

    async fn seek(&self, _: Timestamp) -> Result<Sought, LogError> {
        Err(LogError::Refused("a replay goes through its range once: start another".to_owned()))
    }

    async fn publish(&self, messages: Vec<NewMessage>) -> Vec<Result<String, PublishError>> {
        let refused =
            || Err(PublishError::Refused("a log of dead letters takes no messages".to_owned()));
        messages.iter().map(|_| refused()).collect()
    }

    async fn backlog(&self) -> Result<Backlog, LogError> {
        Ok(Backlog::default())
    }
}

#[cfg(test)]
mod tests;
