//! The log that events are read from and published to.

use std::time::Duration;

use async_trait::async_trait;

use crate::message::{Lease, Message, NewMessage};
use crate::time::Timestamp;

/// How much the reader can take now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// At most this many messages; at least 1.
    pub messages: usize,
    /// At most this many payload bytes, though a first message may be larger: an event larger than
    /// the whole account must still come through.
    pub bytes: u64,
}

/// The result of a pull.
#[derive(Debug)]
pub enum Pulled {
    /// At least one message, in the log's order.
    Messages(Vec<Message>),
    /// Nothing waits at present; more may come.
    Quiet,
    /// The log has an end, and it is reached. Returned messages still come again, by later pulls.
    End,
}

/// The unacknowledged messages of this subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages not acknowledged, including those in flight; `None` if the log does not know.
    pub messages: Option<u64>,
    /// Publish time of the oldest message not acknowledged; `None` if there is none or the log does not know.
    pub oldest: Option<Timestamp>,
}

/// How much of the log this subscription has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// All that was published before the call.
    All,
    /// All that was published before this time.
    Before(Timestamp),
}

/// Something wrong with a log that can be used all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFault {
    /// The part it is wrong with, as status names it; a log reports each part once.
    pub what: &'static str,
    /// The problem, and how to solve it.
    pub reason: String,
    /// Messages that are held up by it.
    pub waiting: u64,
}

/// The result of a seek.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sought {
    /// Messages that will be handed out from there; `None` if the log does not know.
    pub messages: Option<u64>,
}

/// Why a call on the log did nothing.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Wait and call again, for as long as it lasts; at start, end with this message.
    #[error("the event log is unavailable: {0}")]
    Unavailable(String),
    /// The request itself is wrong and stays so.
    #[error("{0}")]
    Refused(String),
}

/// Why one message was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Wait and publish it again.
    #[error("the event log is unavailable: {0}")]
    Unavailable(String),
    /// The log is full of unacknowledged messages: the sender must slow down.
    #[error("the event log is full: {0}")]
    Full(String),
    /// This message will never be taken.
    #[error("{0}")]
    Refused(String),
}

/// An immutable log of events, read through one subscription.
///
/// A message is on loan from its hand-out until its acknowledgement. A message that was neither acknowledged nor
/// returned when the process died is handed out again. All methods may be called at the same time from many tasks.
#[async_trait]
pub trait EventLog: Send + Sync + 'static {
    /// Hands out the next messages that fit in `room`, or waits up to `patience` for one.
    ///
    /// A message given back is handed out again before newer ones. A message may be handed out
    /// again while it is still in flight (its lease ran out, or a seek moved back): the caller
    /// recognises it by its id.
    ///
    /// Cancelling the call loses no message: a later pull hands it out.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]: nothing was handed out; pull again after a pause.
    async fn pull(&self, room: Room, patience: Duration) -> Result<Pulled, LogError>;

    /// Acknowledges for good. On `Ok` they will not come again unless a seek asks for them; leases
    /// that a seek has made void are ignored.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]: any of them may or may not be acknowledged; call again with the
    /// same leases.
    async fn acknowledge(&self, leases: &[Lease]) -> Result<(), LogError>;

    /// As [`Self::acknowledge`], for messages that have no line in the archive. A log that records them marks
    /// all other messages as archived when a seek brings them again
    /// ([`Message::archived`](crate::message::Message::archived)).
    ///
    /// # Errors
    /// As [`Self::acknowledge`].
    async fn acknowledge_unarchived(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.acknowledge(leases).await
    }

    /// Gives messages back unacknowledged, to be handed out again at once, here or elsewhere.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]: they come again once their leases run out.
    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError>;

    /// Moves the subscription: everything published at `to` or later comes (again), nothing
    /// before it does. Leases from before the seek become void.
    ///
    /// # Errors
    /// [`LogError::Refused`] where the log no longer holds that time.
    async fn seek(&self, to: Timestamp) -> Result<Sought, LogError>;

    /// Appends messages durably, in their order. The answer has one outcome for each message, in
    /// the same order; the text is the message's id.
    async fn publish(&self, messages: Vec<NewMessage>) -> Vec<Result<String, PublishError>>;

    /// Returns the unacknowledged messages of this subscription.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]: ask later.
    async fn backlog(&self) -> Result<Backlog, LogError>;

    /// The number of acknowledgements so far that were sent and not taken: their messages come again.
    fn lost_acknowledgements(&self) -> u64 {
        0
    }

    /// Reports faults that fail no call. The daemon is degraded while there is one.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]: ask later.
    async fn faults(&self) -> Result<Vec<LogFault>, LogError> {
        Ok(Vec::new())
    }

    /// As [`EventLog::faults`], without those that concern only messages known to be published at
    /// `to` or later.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]: ask later.
    async fn faults_before(&self, _to: Timestamp) -> Result<Vec<LogFault>, LogError> {
        self.faults().await
    }

    /// Describes repairs of the log that an operator should know of. They fail nothing, and the
    /// daemon is not degraded for them.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]: ask later.
    async fn repairs(&self) -> Result<Vec<String>, LogError> {
        Ok(Vec::new())
    }

    /// Returns up to which time all messages are acknowledged, by any process. Hands out no message, and does not
    /// disturb other readers.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]: ask later. [`LogError::Refused`] if the log does not know.
    async fn acknowledged(&self) -> Result<Acknowledged, LogError> {
        Err(LogError::Refused(
            "this log does not report which messages are acknowledged".to_owned(),
        ))
    }

    /// Describes why the log answers nothing any more until the process starts again, such as the
    /// panic of a thread that owns its file. Answers at once.
    fn ended(&self) -> Option<String> {
        None
    }

    /// Sends the remaining acknowledgements, and returns the messages that were received and not handed out. Called
    /// once, after the last pull.
    async fn close(&self) {}
}
