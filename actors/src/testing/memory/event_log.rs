//! An event log in memory, whose state a test can read and break.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use compact_str::CompactString;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::message::{Lease, Message, NewMessage};
use crate::port::{Acknowledged, Backlog, EventLog, LogError, PublishError, Pulled, Room, Sought};
use crate::time::Timestamp;

/// An [`EventLog`] in memory. Clones share one log.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    state: Arc<Mutex<State>>,
    /// Something has changed that a pull or a test may wait for.
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    /// Everything ever published, in order; the index is the offset.
    messages: Vec<Stored>,
    /// Offsets to hand out, those given back first.
    waiting: VecDeque<usize>,
    /// The offset of each valid lease.
    loans: BTreeMap<Lease, usize>,
    next_lease: u64,
    skip_until: Option<Timestamp>,
    ended: bool,
    hides_backlog: bool,
    failing_pulls: usize,
    failing_acknowledgements: usize,
}

#[derive(Debug)]
struct Stored {
    message: Message,
    attempts: u32,
    acknowledged: bool,
}

impl MemoryLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Publishes without waiting; the messages' ids.
    pub fn append(&self, messages: impl IntoIterator<Item = NewMessage>) -> Vec<String> {
        let mut state = self.state();
        let ids = messages.into_iter().map(|message| state.append(message)).collect();
        self.announce(state);
        ids
    }

    /// Publishes as if at this time, which may be earlier than another message's.
    pub fn append_at(&self, messages: impl IntoIterator<Item = NewMessage>, at: Timestamp) {
        let mut state = self.state();
        for message in messages {
            state.append(message);
            if let Some(stored) = state.messages.last_mut() {
                stored.message.publish_time = at;
            }
        }
        self.announce(state);
    }

    /// Nothing more will come: pulls answer [`Pulled::End`] once all is handed out.
    pub fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        self.announce(state);
    }

    /// From now on it does not know its backlog.
    pub fn hide_backlog(&self) {
        self.state().hides_backlog = true;
    }

    /// Makes the next `times` pulls fail; `usize::MAX` until the next call.
    pub fn fail_pulls(&self, times: usize) {
        let mut state = self.state();
        state.failing_pulls = times;
        self.announce(state);
    }

    /// Makes the next `times` acknowledgements fail; `usize::MAX` until the next call.
    pub fn fail_acknowledgements(&self, times: usize) {
        let mut state = self.state();
        state.failing_acknowledgements = times;
        self.announce(state);
    }

    /// Hands `id` out again though it is on loan, as if that lease had run out. `false` when it
    /// is not on loan.
    #[must_use]
    pub fn redeliver(&self, id: &str) -> bool {
        let mut state = self.state();
        let offset = state.loans.values().copied().find(|&it| state.messages[it].message.id == id);
        if let Some(offset) = offset {
            state.waiting.push_front(offset);
        }
        self.announce(state);
        offset.is_some()
    }

    /// Returns the ids of acknowledged messages, in the order of publishing.
    #[must_use]
    pub fn acknowledged(&self) -> Vec<CompactString> {
        self.state().ids(|stored| stored.acknowledged)
    }

    /// Returns the ids of messages that were handed out and neither acknowledged nor returned.
    #[must_use]
    pub fn outstanding(&self) -> Vec<CompactString> {
        let state = self.state();
        let mut offsets: Vec<_> = state.loans.values().copied().collect();
        offsets.sort_unstable();
        offsets.dedup();
        offsets.into_iter().map(|offset| state.messages[offset].message.id.clone()).collect()
    }

    /// How often `id` was handed out.
    #[must_use]
    pub fn attempts(&self, id: &str) -> u32 {
        let state = self.state();
        let stored = state.messages.iter().find(|stored| stored.message.id == id);
        stored.map_or(0, |stored| stored.attempts)
    }

    /// Waits until everything published so far, and while it waits, is acknowledged.
    pub async fn all_acknowledged(&self) {
        self.wait_until(|state| {
            state.messages.iter().all(|stored| stored.acknowledged).then_some(())
        })
        .await;
    }

    /// Waits until `count` messages are handed out and neither acknowledged nor given back.
    pub async fn until_outstanding(&self, count: usize) {
        self.wait_until(|state| (state.loans.len() >= count).then_some(())).await;
    }

    /// Waits until `look` returns a value; it is called after each change.
    async fn wait_until<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let mut changed = Box::pin(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if let Some(found) = look(&mut self.state()) {
                return found;
            }
            changed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, state: MutexGuard<'_, State>) {
        drop(state);
        self.changed.notify_waiters();
    }
}

impl State {
    fn append(&mut self, new: NewMessage) -> String {
        let offset = self.messages.len();
        let last = self.messages.last().map(|stored| stored.message.publish_time);
        let publish_time = Timestamp::now().max(last.unwrap_or_default());
        let id = (offset + 1).to_string();
        let attributes = (!new.attributes.is_empty()).then(|| Arc::new(new.attributes));
        self.messages.push(Stored {
            message: Message {
                id: id.as_str().into(),
                payload: new.payload,
                publish_time,
                attributes,
                ordering_key: new.ordering_key.into(),
                attempt: None,
                archived: false,
                suspect: None,
                lease: Lease(0),
            },
            attempts: 0,
            acknowledged: self.skip_until.is_some_and(|until| publish_time < until),
        });
        if !self.messages[offset].acknowledged {
            self.waiting.push_back(offset);
        }
        id
    }

    /// Returns the answer of a pull; `None` while it has to wait.
    fn pull(&mut self, mut room: Room) -> Option<Result<Pulled, LogError>> {
        if self.failing_pulls > 0 {
            self.failing_pulls -= usize::from(self.failing_pulls != usize::MAX);
            return Some(Err(LogError::Unavailable("injected fault".to_owned())));
        }
        let mut messages = Vec::new();
        while let Some(&offset) = self.waiting.front()
            && room.messages > 0
        {
            let bytes = self.messages[offset].message.payload.len() as u64;
            if bytes > room.bytes && !messages.is_empty() {
                break;
            }
            self.waiting.pop_front();
            room = Room { messages: room.messages - 1, bytes: room.bytes.saturating_sub(bytes) };
            messages.push(self.lend(offset));
        }
        match messages.is_empty() {
            false => Some(Ok(Pulled::Messages(messages))),
            true => self.ended.then_some(Ok(Pulled::End)),
        }
    }

    fn lend(&mut self, offset: usize) -> Message {
        self.next_lease += 1;
        let lease = Lease(self.next_lease);
        self.loans.insert(lease, offset);
        let stored = &mut self.messages[offset];
        stored.attempts += 1;
        Message { attempt: Some(stored.attempts), lease, ..stored.message.clone() }
    }

    fn acknowledge(&mut self, leases: &[Lease]) -> Result<(), LogError> {
        if self.failing_acknowledgements > 0 {
            self.failing_acknowledgements -=
                usize::from(self.failing_acknowledgements != usize::MAX);
            return Err(LogError::Unavailable("injected fault".to_owned()));
        }
        for lease in leases {
            if let Some(offset) = self.loans.remove(lease) {
                self.messages[offset].acknowledged = true;
            }
        }
        let Self { messages, waiting, loans, .. } = self;
        waiting.retain(|&offset| !messages[offset].acknowledged);
        loans.retain(|_, offset| !messages[*offset].acknowledged);
        Ok(())
    }

    fn give_back(&mut self, leases: &[Lease]) {
        let mut back: Vec<_> = leases.iter().filter_map(|lease| self.loans.remove(lease)).collect();
        back.extend(self.waiting.drain(..));
        back.sort_unstable();
        back.dedup();
        self.waiting = back.into();
    }

    fn seek(&mut self, to: Timestamp) -> u64 {
        self.loans.clear();
        self.waiting.clear();
        self.skip_until = Some(to);
        for (offset, stored) in self.messages.iter_mut().enumerate() {
            stored.acknowledged = stored.message.publish_time < to;
            if !stored.acknowledged {
                self.waiting.push_back(offset);
            }
        }
        self.waiting.len() as u64
    }

    fn ids(&self, of: impl Fn(&Stored) -> bool) -> Vec<CompactString> {
        self.messages.iter().filter(|it| of(it)).map(|it| it.message.id.clone()).collect()
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn pull(&self, room: Room, patience: Duration) -> Result<Pulled, LogError> {
        let pulled = timeout(patience, self.wait_until(|state| state.pull(room))).await;
        self.changed.notify_waiters();
        pulled.unwrap_or(Ok(Pulled::Quiet))
    }

    async fn acknowledge(&self, leases: &[Lease]) -> Result<(), LogError> {
        let mut state = self.state();
        let answer = state.acknowledge(leases);
        self.announce(state);
        answer
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError> {
        let mut state = self.state();
        state.give_back(leases);
        self.announce(state);
        Ok(())
    }

    async fn seek(&self, to: Timestamp) -> Result<Sought, LogError> {
        let mut state = self.state();
        let messages = Some(state.seek(to));
        self.announce(state);
        Ok(Sought { messages })
    }

    async fn publish(&self, messages: Vec<NewMessage>) -> Vec<Result<String, PublishError>> {
        self.append(messages).into_iter().map(Ok).collect()
    }

    async fn backlog(&self) -> Result<Backlog, LogError> {
        let state = self.state();
        let mut waiting = state.messages.iter().filter(|stored| !stored.acknowledged);
        let oldest = waiting.next().map(|stored| stored.message.publish_time);
        let messages = waiting.count() as u64 + u64::from(oldest.is_some());
        Ok(Backlog { messages: (!state.hides_backlog).then_some(messages), oldest })
    }

    async fn acknowledged(&self) -> Result<Acknowledged, LogError> {
        let state = self.state();
        let waiting = state.messages.iter().filter(|stored| !stored.acknowledged);
        // Tests append messages in any order of their times.
        let oldest = waiting.map(|stored| stored.message.publish_time).min();
        Ok(oldest.map_or(Acknowledged::All, Acknowledged::Before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::event_log::{Abilities, conforms};

    const ROOM: Room = Room { messages: 10, bytes: 1_000 };

    async fn pull(log: &MemoryLog) -> Vec<Message> {
        match log.pull(ROOM, Duration::ZERO).await.unwrap() {
            Pulled::Messages(messages) => messages,
            nothing => panic!("{nothing:?}"),
        }
    }

    #[tokio::test]
    async fn it_keeps_the_promises_of_an_event_log() {
        let fresh = |messages| async {
            let log = MemoryLog::new();
            log.append(messages);
            log
        };
        conforms(fresh, Abilities::ALL).await;
    }

    #[tokio::test]
    async fn a_message_on_loan_is_redelivered_under_a_second_lease() {
        let log = MemoryLog::new();
        let ids = log.append([NewMessage::from_payload("one")]);
        let first = pull(&log).await;
        assert!(log.redeliver(&ids[0]));
        let second = pull(&log).await;
        assert_eq!(first[0].id, second[0].id);
        assert_ne!(first[0].lease, second[0].lease);
        assert_eq!(log.attempts(&ids[0]), 2);
        log.acknowledge(&[second[0].lease]).await.unwrap();
        log.all_acknowledged().await;
        assert!(log.outstanding().is_empty());
        assert!(!log.redeliver(&ids[0]));
    }

    #[tokio::test]
    async fn it_fails_the_given_number_of_times() {
        let log = MemoryLog::new();
        log.append([NewMessage::from_payload("one")]);
        log.fail_pulls(1);
        assert!(log.pull(ROOM, Duration::ZERO).await.is_err());
        let messages = pull(&log).await;
        log.fail_acknowledgements(1);
        assert!(log.acknowledge(&[messages[0].lease]).await.is_err());
        assert_eq!(log.outstanding(), ["1"]);
        log.acknowledge(&[messages[0].lease]).await.unwrap();
        assert_eq!(log.acknowledged(), ["1"]);
    }

    #[tokio::test]
    async fn returned_messages_come_again_after_the_end() {
        let log = MemoryLog::new();
        log.append([NewMessage::from_payload("one")]);
        log.end();
        let messages = pull(&log).await;
        assert!(matches!(log.pull(ROOM, Duration::MAX).await.unwrap(), Pulled::End));
        log.give_back(&[messages[0].lease]).await.unwrap();
        assert_eq!(pull(&log).await.len(), 1);
    }
}
