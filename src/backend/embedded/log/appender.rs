//! The thread that writes `log.db`: it appends the waiting messages in one commit, and removes expired ones in
//! steps so small that publishing never waits long for them.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use kappa_actors::message::NewMessage;
use kappa_actors::port::PublishError;
use kappa_actors::time::Timestamp;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::events::{self, Events, Head};
use super::retention::{self, Keep};
use super::subscription::Holding;
use super::{Clock, LogOptions, reader, subscription};

/// How often retention looks for something to remove.
const RETENTION_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes that one step of retention removes: about ten milliseconds of work.
const RETENTION_STEP_BYTES: u64 = 4 << 20;

/// Payload bytes that one commit gathers from waiting calls; a single call may bring more.
const GROUP_BYTES: usize = 8 << 20;

/// One outcome for each message of a call.
pub(super) type Outcomes = Vec<Result<String, PublishError>>;

/// Appends messages; the answer comes when they are durable.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) messages: Vec<NewMessage>,
    pub(super) reply: oneshot::Sender<Outcomes>,
}

/// The state of the thread.
pub(super) struct Appender {
    pub(super) dir: PathBuf,
    pub(super) events: Events,
    /// Reads which offsets are acknowledged.
    pub(super) subscriptions: Connection,
    pub(super) options: LogOptions,
    pub(super) clock: Clock,
    /// Whether it was reported that the log is ahead of the clock.
    pub(super) warned: Cell<bool>,
    /// Told of arrivals.
    pub(super) reader: Sender<reader::Command>,
}

impl Appender {
    pub(super) fn run(self, commands: &Receiver<Append>) {
        let mut retention_due = Instant::now() + RETENTION_INTERVAL;
        loop {
            let patience = retention_due.saturating_duration_since(Instant::now());
            match commands.recv_timeout(patience) {
                Ok(first) => self.append_all(gather(first, commands)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if Instant::now() >= retention_due {
                retention_due = Instant::now() + self.retain();
            }
        }
    }

    /// One commit for all calls, then one answer for each.
    fn append_all(&self, calls: Vec<Append>) {
        let outcomes = self.commit(&calls).unwrap_or_else(|error| {
            let text = format!("{}: {error}", self.dir.display());
            let unavailable = |_: &_| Err(PublishError::Unavailable(text.clone()));
            calls.iter().map(|call| call.messages.iter().map(unavailable).collect()).collect()
        });
        // The reader outlives this thread; if it has died, its callers get the error.
        let _ = self.reader.send(reader::Command::Arrived);
        for (call, outcomes) in calls.into_iter().zip(outcomes) {
            // A caller that no longer waits has still published.
            let _ = call.reply.send(outcomes);
        }
    }

    fn commit(&self, calls: &[Append]) -> rusqlite::Result<Vec<Outcomes>> {
        let transaction = self.events.lock()?;
        let mut head = self.events.head()?;
        let now = (self.clock)();
        let arriving = calls.iter().flat_map(|call| &call.messages);
        let arriving = arriving.map(events::size).sum::<u64>();
        let mut more = false;
        if head.bytes + arriving > self.options.max_bytes {
            let keep =
                Keep { since: i64::MAX, bytes: self.options.max_bytes.saturating_sub(arriving) };
            // Twice the arriving bytes, so that retention keeps up at any rate.
            let quota = RETENTION_STEP_BYTES.max(2 * arriving);
            let mut remove =
                || retention::remove(&self.events, &self.subscriptions, &mut head, keep, quota);
            more = remove()?;
            if !more && self.forget_unused(self.options.max_age, now)? {
                more = remove()?;
            }
        }
        let mut full = None;
        let mut append = |message: &NewMessage| {
            let (size, most) = (message.payload.len() as u64, self.options.max_event_bytes);
            if size > most {
                let text = format!("the event has {size} bytes, and at most {most} are taken");
                return Ok(Err(PublishError::Refused(text)));
            }
            if head.bytes >= self.options.max_bytes && !more {
                let text = match &full {
                    Some(text) => text,
                    None => full.insert(self.describe_full(&head)?),
                };
                return Ok(Err(PublishError::Full(text.clone())));
            }
            self.events.append(&mut head, now, message)?;
            Ok(Ok(self.events.message_id(head.generation, head.last_offset).into()))
        };
        let outcomes = calls
            .iter()
            .map(|call| call.messages.iter().map(&mut append).collect())
            .collect::<rusqlite::Result<_>>()?;
        self.events.set_head(&head)?;
        transaction.commit()?;
        self.warn_once_if_ahead(&head, now);
        // After the commit: into a removed file it succeeds, and is lost.
        self.events.check_place()?;
        Ok(outcomes)
    }

    /// Removes the subscriptions that were not used for `age`; whether there were any.
    fn forget_unused(&self, age: Duration, now: Timestamp) -> rusqlite::Result<bool> {
        let log = self.events.id;
        let unused = subscription::forget_unused(&self.subscriptions, log, age, now)?;
        for name in &unused {
            tracing::warn!(
                dir = %self.dir.display(),
                subscription = name,
                "the subscription was not used for {age:?} and is removed: it kept events in the log"
            );
        }
        Ok(!unused.is_empty())
    }

    /// Names the subscriptions that keep the log from removing events.
    fn describe_full(&self, head: &Head) -> rusqlite::Result<String> {
        const MOST: usize = 5;
        let holdings =
            subscription::holdings(&self.subscriptions, self.events.id, head.last_offset)?;
        let bytes = head.bytes;
        if holdings.is_empty() {
            return Ok(format!("{bytes} bytes wait for a first subscription: start `kappa run`"));
        }
        let holders = holdings.iter().filter(|holding| holding.events > 0).take(MOST);
        let holders: Vec<_> = holders
            .map(|Holding { name, events, .. }| format!("{name} holds {events} events"))
            .collect();
        Ok(format!(
            "{bytes} bytes wait to be acknowledged: subscription {}; `kappa subscriptions remove \
             NAME` removes one that is no longer used",
            holders.join(", ")
        ))
    }

    fn warn_once_if_ahead(&self, head: &Head, now: Timestamp) {
        if let Some(reason) = events::ahead_of(head, now)
            && !self.warned.replace(true)
        {
            tracing::warn!(dir = %self.dir.display(), "{reason}");
        }
    }

    /// One step of retention; how long until the next is due.
    fn retain(&self) -> Duration {
        match self.retain_step() {
            Ok(true) => Duration::ZERO,
            Ok(false) => RETENTION_INTERVAL,
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, "retention waits for the log");
                RETENTION_INTERVAL * 10
            }
        }
    }

    fn retain_step(&self) -> rusqlite::Result<bool> {
        let now = (self.clock)();
        let keep = Keep {
            since: now.before(self.options.max_age).micros(),
            bytes: self.options.max_bytes,
        };
        let transaction = self.events.lock()?;
        subscription::forget_expired(&self.subscriptions, now)?;
        if let Some(age) = self.options.max_unused {
            self.forget_unused(age, now)?;
        }
        let mut head = self.events.head()?;
        let more = retention::remove(
            &self.events,
            &self.subscriptions,
            &mut head,
            keep,
            RETENTION_STEP_BYTES,
        )?;
        transaction.commit()?;
        Ok(more)
    }
}

/// The call, and those that wait behind it.
fn gather(first: Append, commands: &Receiver<Append>) -> Vec<Append> {
    let size = |call: &Append| call.messages.iter().map(|message| message.payload.len()).sum();
    let mut bytes: usize = size(&first);
    let mut calls = vec![first];
    while bytes < GROUP_BYTES
        && let Ok(next) = commands.try_recv()
    {
        bytes += size(&next);
        calls.push(next);
    }
    calls
}
