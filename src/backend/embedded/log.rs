//! The event log of one machine: `log.db` and `subscriptions.db` in one folder.
//!
//! Several processes may publish and seek while one of them pulls. A published event and an acknowledgement survive a
//! power cut once the call has returned. Messages that a killed process had not acknowledged are handed out again, at
//! once and in order.
//!
//! Two threads own the files: the appender writes events and removes old ones, the reader keeps the subscription. A
//! subscription is created by its first pull, seek or backlog, so a process that only publishes creates none.

mod appender;
pub(in crate::backend::embedded) mod check;
mod events;
mod generations;
mod heal;
mod ranges;
mod reader;
mod retention;
mod search;
mod subscription;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kappa_actors::message::{Lease, NewMessage};
use kappa_actors::port::{
    Acknowledged, Backlog, EventLog, LogError, LogFault, PublishError, Pulled, Room, Sought,
};
use kappa_actors::time::Timestamp;
use rusqlite::Connection;
use tokio::sync::oneshot;

use self::appender::{Append, Appender};
use self::events::Events;
use self::reader::{Command, Reader, Waiting};
pub use self::subscription::Holding;
use self::subscription::Subscription;
use super::sqlite;
use super::sqlite::thread::{ConnectionThread, Ended};

/// The name of the events' file in the data folder.
pub const FILE: &str = "log.db";

/// The name of the subscriptions' file in the data folder.
pub const SUBSCRIPTIONS_FILE: &str = "subscriptions.db";

/// Where the time comes from; tests turn it.
type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Options of reading and retention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Messages that a daemon has in flight at once, at most: so many are suspect when it is killed.
    pub max_in_flight: usize,
    /// The subscription that is read through.
    pub subscription: String,
    /// How long the subscription of a job is kept unused; `None`: that of a daemon. One that is
    /// gone begins again for a daemon, and is an error for a job.
    pub subscription_life: Option<Duration>,
    /// Acknowledged events older than this are removed. When the log is full, a subscription that
    /// was not used for so long is removed too, but never the one that was used last.
    pub max_age: Duration,
    /// A subscription that was not used for so long is removed, but never the one that was used
    /// last; `None`: for no length of time.
    pub max_unused: Option<Duration>,
    /// When the log holds more bytes, acknowledged events are removed, the oldest first; when
    /// none is left to remove, publishing is refused.
    pub max_bytes: u64,
    /// A payload of more bytes is refused.
    pub max_event_bytes: u64,
}

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// One of the files is of no use.
    #[error(transparent)]
    File(#[from] sqlite::OpenError),
    /// The system starts no further thread.
    #[error("no thread for the event log: {0}")]
    Thread(#[from] io::Error),
}

/// An [`EventLog`] in SQLite files.
pub struct EmbeddedLog {
    // In this order: the appender notifies the reader of arrivals, so it ends first.
    appender: ConnectionThread<Append>,
    reader: ConnectionThread<Command>,
}

impl EmbeddedLog {
    /// Opens the log in `dir`, an existing folder, creating the files if there are none. Blocks
    /// while another process is busy creating them.
    ///
    /// # Errors
    /// [`OpenError`], naming the file that is corrupt, unwritable or of another version.
    pub fn open(dir: &Path, options: LogOptions) -> Result<Self, OpenError> {
        Self::open_at(dir, options, Arc::new(Timestamp::now))
    }

    fn open_at(dir: &Path, options: LogOptions, clock: Clock) -> Result<Self, OpenError> {
        let (log, subscriptions) = (dir.join(FILE), dir.join(SUBSCRIPTIONS_FILE));
        let events = Events::open(&log)?;
        heal(dir, &events, &subscription::open(&subscriptions)?, clock())?;
        let reader = Reader {
            dir: dir.to_path_buf(),
            events,
            subscription: Subscription::new(
                subscription::open(&subscriptions)?,
                &options,
                Arc::clone(&clock),
            ),
            waiting: VecDeque::new(),
            clock: Arc::clone(&clock),
        };
        let (events, subscriptions) = (Events::open(&log)?, subscription::open(&subscriptions)?);
        let reader = ConnectionThread::start("log-reader", move |commands| reader.run(&commands))?;
        let appender = Appender {
            dir: dir.to_path_buf(),
            events,
            subscriptions,
            options,
            clock,
            warned: Cell::new(false),
            reader: reader.sender().ok_or_else(|| io::Error::other(Ended))?,
        };
        let appender =
            ConnectionThread::start("log-appender", move |commands| appender.run(&commands))?;
        Ok(Self { appender, reader })
    }
}

impl EmbeddedLog {
    /// Whether its subscription has been used before, and is not forgotten.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]: ask again later.
    pub async fn has_subscription(&self) -> Result<bool, LogError> {
        self.reader.ask(Command::Exists).await.map_err(ended)?
    }

    /// Removes its subscription, which then holds no more events in the log. Its next use creates it again.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]: ask again later.
    pub async fn forget_subscription(&self) -> Result<(), LogError> {
        self.reader.ask(Command::Forget).await.map_err(ended)?
    }
}

impl fmt::Debug for EmbeddedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedLog").finish_non_exhaustive()
    }
}

/// The answer to a pull. When the call is cancelled with the answer on its way, gives back what
/// it brings.
struct PullAnswer<'a> {
    answer: oneshot::Receiver<Result<Pulled, LogError>>,
    reader: &'a ConnectionThread<Command>,
}

impl Drop for PullAnswer<'_> {
    fn drop(&mut self) {
        self.answer.close();
        if let Ok(Ok(Pulled::Messages(messages))) = self.answer.try_recv() {
            // If the thread is gone, so are its loans.
            let _ = self.reader.send(Command::GiveBack(reader::leases_of(&messages)));
        }
    }
}

#[async_trait]
impl EventLog for EmbeddedLog {
    async fn pull(&self, room: Room, patience: Duration) -> Result<Pulled, LogError> {
        let (reply, answer) = oneshot::channel();
        let now = Instant::now();
        let until = now.checked_add(patience).unwrap_or(now + Duration::from_secs(86_400));
        self.reader.send(Command::Pull(Waiting { room, until, reply })).map_err(ended)?;
        let mut pull = PullAnswer { answer, reader: &self.reader };
        (&mut pull.answer).await.map_err(|_| ended(Ended))?
    }

    async fn acknowledge(&self, leases: &[Lease]) -> Result<(), LogError> {
        let command = |reply| Command::Acknowledge(leases.to_vec(), true, reply);
        self.reader.ask(command).await.map_err(ended)?
    }

    async fn acknowledge_unarchived(&self, leases: &[Lease]) -> Result<(), LogError> {
        let command = |reply| Command::Acknowledge(leases.to_vec(), false, reply);
        self.reader.ask(command).await.map_err(ended)?
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.reader.send(Command::GiveBack(leases.to_vec())).map_err(ended)
    }

    async fn seek(&self, to: Timestamp) -> Result<Sought, LogError> {
        self.reader.ask(|reply| Command::Seek(to, reply)).await.map_err(ended)?
    }

    async fn publish(&self, messages: Vec<NewMessage>) -> Vec<Result<String, PublishError>> {
        let count = messages.len();
        let outcomes = self.appender.ask(|reply| Append { messages, reply }).await;
        outcomes.unwrap_or_else(|ended| {
            (0..count).map(|_| Err(PublishError::Unavailable(ended.to_string()))).collect()
        })
    }

    async fn backlog(&self) -> Result<Backlog, LogError> {
        self.reader.ask(Command::Backlog).await.map_err(ended)?
    }

    async fn faults(&self) -> Result<Vec<LogFault>, LogError> {
        self.faults_before(Timestamp::from_micros(i64::MAX)).await
    }

    async fn faults_before(&self, to: Timestamp) -> Result<Vec<LogFault>, LogError> {
        self.reader.ask(|reply| Command::Faults(to, reply)).await.map_err(ended)?
    }

    async fn repairs(&self) -> Result<Vec<String>, LogError> {
        self.reader.ask(Command::Repairs).await.map_err(ended)?
    }

    async fn acknowledged(&self) -> Result<Acknowledged, LogError> {
        self.reader.ask(Command::Acknowledged).await.map_err(ended)?
    }

    fn ended(&self) -> Option<String> {
        let ended = |thread: bool, file: &str| thread.then(|| file.to_owned());
        let file = ended(self.reader.has_ended(), SUBSCRIPTIONS_FILE)
            .or_else(|| ended(self.appender.has_ended(), FILE))?;
        Some(format!("the thread that owns {file} has ended"))
    }

    async fn close(&self) {
        let noted = self.reader.ask(Command::EndRun).await.map_err(ended).flatten();
        if let Err(error) = noted {
            tracing::warn!(%error, "the clean stop is not noted: the next start takes it for a kill");
        }
    }
}

/// The subscriptions of the log in `dir`, and what each keeps in it.
///
/// # Errors
/// [`OpenError`](sqlite::OpenError), naming the file.
pub fn subscriptions(dir: &Path) -> Result<Vec<Holding>, sqlite::OpenError> {
    let at = |reason| sqlite::OpenError::Sqlite { path: dir.join(SUBSCRIPTIONS_FILE), reason };
    let events = Events::open_to_read(&dir.join(FILE))?;
    let connection = sqlite::open_to_read(&dir.join(SUBSCRIPTIONS_FILE), subscription::VERSION)?;
    let last = events.head().map_err(at)?.last_offset;
    subscription::holdings(&connection, events.id, last).map_err(at)
}

/// Removes a subscription; whether there was one. It keeps nothing in the log any more.
///
/// # Errors
/// [`OpenError`](sqlite::OpenError), naming the file.
pub fn remove_subscription(dir: &Path, name: &str) -> Result<bool, sqlite::OpenError> {
    let path = dir.join(SUBSCRIPTIONS_FILE);
    let at = |reason| sqlite::OpenError::Sqlite { path: path.clone(), reason };
    let connection = subscription::open(&path)?;
    let found = subscription::names(&connection).map_err(at)?.iter().any(|it| it == name);
    subscription::forget(&connection, name).map_err(at)?;
    Ok(found)
}

/// Begins a new generation of the log in `dir`, so that publish times follow the clock again. Its
/// number.
///
/// # Errors
/// [`OpenError`](sqlite::OpenError), naming the file.
pub fn begin_generation(dir: &Path) -> Result<u32, sqlite::OpenError> {
    begin_generation_at(dir, Timestamp::now())
}

fn begin_generation_at(dir: &Path, now: Timestamp) -> Result<u32, sqlite::OpenError> {
    let at = |reason| sqlite::OpenError::Sqlite { path: dir.join(FILE), reason };
    let events = Events::open(&dir.join(FILE))?;
    heal(dir, &events, &subscription::open(&dir.join(SUBSCRIPTIONS_FILE))?, now)?;
    let begin = || {
        let lock = events.lock()?;
        let mut head = events.head()?;
        let generation = head.generation + 1;
        events.begin_generation(&mut head, generation, now, generations::BY_COMMAND)?;
        lock.commit()?;
        Ok(generation)
    };
    begin().map_err(at)
}

/// Heals files that do not belong together, and reports it.
fn heal(
    dir: &Path,
    events: &Events,
    subscriptions: &Connection,
    now: Timestamp,
) -> Result<(), sqlite::OpenError> {
    let at = |reason| sqlite::OpenError::Sqlite { path: dir.join(FILE), reason };
    if let Some(found) = heal::heal(events, subscriptions, now).map_err(at)? {
        tracing::warn!(dir = %dir.display(), "{found}; a new generation of the log begins");
    }
    Ok(())
}

fn ended(ended: Ended) -> LogError {
    LogError::Unavailable(ended.to_string())
}
