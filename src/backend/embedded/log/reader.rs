//! The thread that reads `log.db` and keeps the subscription: hands out, acknowledges, seeks.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use kappa_actors::message::{Lease, Message};
use kappa_actors::port::{Acknowledged, Backlog, LogError, LogFault, Pulled, Room, Sought};
use kappa_actors::time::Timestamp;
use tokio::sync::oneshot;

use super::Clock;
use super::events::{self, Events};
use super::ranges::RangeSet;
use super::subscription::{MISSING_HINT, Subscription};

/// How soon a waiting pull notices what another process has published: two cheap queries each.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, LogError>>;

/// A request to the thread.
#[derive(Debug)]
pub(super) enum Command {
    /// Hand out the next messages, or wait for one.
    Pull(Waiting),
    /// Acknowledge durably; whether the archive has their lines.
    Acknowledge(Vec<Lease>, bool, Reply<()>),
    /// Whether the file has the subscription.
    Exists(Reply<bool>),
    /// Forget the subscription.
    Forget(Reply<()>),
    /// Make messages available again.
    GiveBack(Vec<Lease>),
    /// Move the subscription.
    Seek(Timestamp, Reply<Sought>),
    /// Count the unacknowledged messages.
    Backlog(Reply<Backlog>),
    /// Report the faults of the log.
    Faults(Timestamp, Reply<Vec<LogFault>>),
    /// Report the log's repairs.
    Repairs(Reply<Vec<String>>),
    /// Note that the run has ended by itself.
    EndRun(Reply<()>),
    /// Return up to which time all messages are acknowledged.
    Acknowledged(Reply<Acknowledged>),
    /// This process has published.
    Arrived,
}

/// A pull that waits for its messages.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) room: Room,
    pub(super) until: Instant,
    pub(super) reply: Reply<Pulled>,
}

/// The state of the thread.
pub(super) struct Reader {
    pub(super) dir: PathBuf,
    pub(super) events: Events,
    pub(super) subscription: Subscription,
    /// In the order of their calls.
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) clock: Clock,
}

impl Reader {
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let next = if self.waiting.is_empty() {
                commands.recv().map_err(RecvTimeoutError::from)
            } else {
                commands.recv_timeout(POLL_INTERVAL)
            };
            match next {
                Ok(command) => self.handle(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.serve();
        }
    }

    /// A caller that no longer waits for its answer loses nothing by that.
    fn handle(&mut self, command: Command) {
        let Self { events, subscription, dir, clock, .. } = self;
        let unavailable =
            |error: rusqlite::Error| LogError::Unavailable(format!("{}: {error}", dir.display()));
        match command {
            Command::Pull(pull) => self.waiting.push_back(pull),
            Command::Acknowledge(leases, archived, reply) => {
                let done = subscription.acknowledge(events, &leases, archived);
                let _ = reply.send(done.map_err(unavailable));
            }
            Command::Exists(reply) => {
                let _ = reply.send(subscription.exists(events).map_err(unavailable));
            }
            Command::Forget(reply) => {
                let _ = reply.send(subscription.forget().map_err(unavailable));
            }
            Command::GiveBack(leases) => subscription.give_back(&leases),
            Command::Seek(to, reply) => {
                let sought = match subscription.seek(events, to.micros()) {
                    Ok(Ok(count)) => Ok(Sought { messages: Some(count.cast_unsigned()) }),
                    Ok(Err(refusal)) => Err(LogError::Refused(refusal)),
                    Err(error) => Err(unavailable(error)),
                };
                let _ = reply.send(sought);
            }
            Command::Backlog(reply) => {
                let backlog = subscription.backlog(events).map(|(count, oldest)| Backlog {
                    messages: Some(count.cast_unsigned()),
                    oldest: oldest.map(Timestamp::from_micros),
                });
                let _ = reply.send(backlog.map_err(unavailable));
            }
            Command::Faults(to, reply) => {
                let faults = faults(events, subscription, clock(), to);
                let _ = reply.send(faults.map_err(unavailable));
            }
            Command::Repairs(reply) => {
                let repairs = events.generations().map(|all| all.healings(clock()));
                let _ = reply.send(repairs.map_err(unavailable));
            }
            Command::Acknowledged(reply) => {
                let oldest = subscription.oldest_waiting(events).map_err(unavailable);
                let _ = reply.send(oldest.map(|oldest| match oldest {
                    Some(time) => Acknowledged::Before(Timestamp::from_micros(time)),
                    None => Acknowledged::All,
                }));
            }
            Command::EndRun(reply) => {
                let _ = reply.send(subscription.end_run().map_err(unavailable));
            }
            Command::Arrived => {}
        }
    }

    /// Answers the pulls for which something has come, or whose patience has ended.
    fn serve(&mut self) {
        while let Some(pull) = self.waiting.pop_front() {
            if pull.reply.is_closed() {
                continue;
            }
            match self.subscription.take(&self.events, pull.room) {
                Ok(messages) if !messages.is_empty() => self.hand_out(messages, pull.reply),
                Ok(_) => {
                    // If there is no message for the first, there is none for the others.
                    self.waiting.push_front(pull);
                    // Quiet would say that nothing waits.
                    if !self.subscription.is_paused() {
                        self.dismiss_impatient();
                    }
                    return;
                }
                Err(error) => {
                    let text = format!("{}: {error}", self.dir.display());
                    let _ = pull.reply.send(Err(LogError::Unavailable(text)));
                }
            }
        }
    }

    fn hand_out(&mut self, messages: Vec<Message>, reply: Reply<Pulled>) {
        if let Err(Ok(Pulled::Messages(messages))) = reply.send(Ok(Pulled::Messages(messages))) {
            self.subscription.give_back(&leases_of(&messages));
        }
    }

    fn dismiss_impatient(&mut self) {
        let now = Instant::now();
        let (waiting, impatient) =
            self.waiting.drain(..).partition::<VecDeque<_>, _>(|pull| pull.until > now);
        self.waiting = waiting;
        for pull in impatient {
            let _ = pull.reply.send(Ok(Pulled::Quiet));
        }
    }
}

fn faults(
    events: &Events,
    subscription: &Subscription,
    now: Timestamp,
    to: Timestamp,
) -> rusqlite::Result<Vec<LogFault>> {
    let missing = missing(&events.lost_before(subscription.missing(), to.micros())?);
    let ahead = events::ahead_of(&events.head()?, now);
    let ahead = ahead.map(|reason| LogFault { what: "clock", reason, waiting: 0 });
    let gone = events.check_place().err();
    let gone =
        gone.map(|error| LogFault { what: "data folder", reason: error.to_string(), waiting: 0 });
    Ok(missing.into_iter().chain(ahead).chain(gone).collect())
}

/// The fault of a log that has lost these events before they were acknowledged.
fn missing(lost: &RangeSet) -> Option<LogFault> {
    const MOST: usize = 5;
    let first: Vec<_> =
        lost.iter().take(MOST).map(|range| format!("{} to {}", range.first, range.last)).collect();
    let more = if lost.iter().count() > MOST { " and more" } else { "" };
    (!first.is_empty()).then(|| LogFault {
        what: "log.db",
        reason: format!(
            "events are missing from log.db, offsets {}{more}: {MISSING_HINT}",
            first.join(", ")
        ),
        waiting: lost.len().cast_unsigned(),
    })
}

/// What to name when giving these back.
pub(super) fn leases_of(messages: &[Message]) -> Vec<Lease> {
    messages.iter().map(|message| message.lease).collect()
}
