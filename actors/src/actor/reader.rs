//! Takes events from the log, no more than the memory budget allows, and sends them to the parsers.
//!
//! Receives only its own reminder to go on. Owns the returned claims that wait to be delivered again. If it
//! crashes, those claims go back to the ledger and wait for the next reader; events in flight are acknowledged
//! without it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::dead_letter::DeadLetters;
use super::parser::Parse;
use crate::delivery::{Claim, Duty, Ledger, Redelivery, RedeliveryPolicy};
use crate::message::Message;
use crate::port::{Backlog, EventLog, Pulled, Room};
use crate::settings::ReaderSettings;
use crate::supervision::{Address, Backoff, Me, Role, RoleError};
use crate::time::Timestamp;
use crate::vitals::{Board, Outcome, Step};

/// How long a pull waits for a message.
const PATIENCE: Duration = Duration::from_millis(50);

/// Payload bytes in one batch, unless it is one event. An actor processes a batch in one step, so this bounds the
/// memory of a step.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// Batches in one pull, at most: the first must not wait for the reading of all that there is room
/// for.
const MAX_PULL_BATCHES: usize = 8;

/// The first and the longest pause after a pull that failed.
const PULL_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The name of failing pulls in status.
const PULL: &str = "event log";

/// The name in status of a sink that panics over an event which is not known to be the cause.
const PANICS: &str = "panics";

/// The reader's mailbox: itself only.
#[derive(Debug)]
pub struct GoOn;

/// The mode of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// Take events as they come.
    Open,
    /// Like `Open`, but sinks flush whenever the log is empty, so that `--until-idle` finishes.
    UntilIdle,
    /// Like `UntilIdle`, for a log that has an end: a quiet log is not taken for its end.
    ToTheEnd,
    /// Take no more messages; deliver returned claims again.
    Closed,
}

/// Ports and shared state of the reader.
#[derive(Clone)]
pub struct ReaderPorts {
    /// Where events come from.
    pub log: Arc<dyn EventLog>,
    /// The ledger of the messages on loan.
    pub ledger: Arc<Ledger>,
    /// Where troubles with the log are shown.
    pub board: Arc<Board>,
    /// The pool; at least one.
    pub parsers: Vec<Address<Parse>>,
    /// Where dead letters that came back go.
    pub dead_letters: DeadLetters,
    /// Asks every sink to flush.
    pub flush_sinks: Arc<dyn Fn() + Send + Sync>,
    /// The mode of the reader.
    pub intake: watch::Receiver<Intake>,
    /// Set while the pipeline is idle.
    pub idle: watch::Sender<Option<Idle>>,
}

/// How it was decided that nothing is left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// The log has no message that is not acknowledged.
    NoBacklog,
    /// The log has an end, and all before it is settled.
    End,
    /// Nothing came for this time; the log does not know its backlog.
    QuietFor(Duration),
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBacklog => f.write_str("the log has no backlog"),
            Self::End => f.write_str("the end of the log is reached"),
            Self::QuietFor(time) => {
                write!(f, "nothing came for {}", humantime::format_duration(*time))
            }
        }
    }
}

/// The role.
pub struct Reader {
    ports: ReaderPorts,
    max_batch_events: usize,
    redelivery: Redelivery,
    pull_backoff: Backoff,
    next_parser: usize,
    /// The last messages were suspect: the log waits for them, so sinks flush at once.
    suspects: bool,
    /// Panics of a sink are shown.
    doubts: bool,
    /// Admitted, but larger than the account has room for: they wait until they are alone.
    outsized: Vec<Claim>,
    quiet_period: Duration,
    /// Since when pulls find nothing while nothing is unacknowledged.
    quiet_since: Option<Instant>,
}

/// What woke the reader.
enum Woken {
    Returned(Vec<Claim>),
    Pulled(Vec<Claim>),
    Due,
    Asked,
}

impl Reader {
    /// A reader that has taken nothing yet.
    #[must_use]
    pub fn new(ports: ReaderPorts, settings: &ReaderSettings) -> Self {
        let policy = RedeliveryPolicy {
            backoff: settings.redelivery_backoff,
            max_backoff: settings.max_redelivery_backoff,
            max_attempts: settings.max_attempts,
            panic_grace: settings.panic_grace,
        };
        Self {
            ports,
            max_batch_events: settings.max_batch_events,
            redelivery: Redelivery::new(policy),
            pull_backoff: Backoff::new(PULL_BACKOFF.0, PULL_BACKOFF.1),
            next_parser: 0,
            suspects: false,
            doubts: false,
            outsized: Vec::new(),
            quiet_period: settings.quiet_period,
            quiet_since: None,
        }
    }
}

impl Role for Reader {
    type Message = GoOn;

    async fn start(&mut self, me: &Me<GoOn>) -> Result<(), RoleError> {
        // Claims that wait died with the last life, and come back.
        self.ports.board.recovered(PANICS);
        me.remind(GoOn);
        Ok(())
    }

    async fn handle(&mut self, GoOn: GoOn, me: &Me<GoOn>) -> Result<(), RoleError> {
        match self.wait().await {
            Woken::Returned(claims) => self.redelivery.take(claims, Instant::now()),
            Woken::Pulled(claims) => {
                me.vitals().handled(claims.len() as u64);
                self.send(claims);
            }
            Woken::Due | Woken::Asked => {}
        }
        self.redeliver();
        self.show_doubt();
        me.remind(GoOn);
        Ok(())
    }
}

impl Reader {
    async fn wait(&mut self) -> Woken {
        let due = self.redelivery.next_due();
        let ledger = Arc::clone(&self.ports.ledger);
        let mut intake = self.ports.intake.clone();
        let asked = *intake.borrow_and_update();
        tokio::select! {
            biased;
            returned = ledger.take_returned() => Woken::Returned(returned),
            () = until(due) => Woken::Due,
            // The sender lives as long as the pipeline.
            _ = intake.changed() => Woken::Asked,
            claims = self.take(asked) => Woken::Pulled(claims),
        }
    }

    /// Takes the next messages on loan, once there is room for any.
    async fn take(&mut self, asked: Intake) -> Vec<Claim> {
        if !self.outsized.is_empty() {
            self.room_for_outsized().await;
            return std::mem::take(&mut self.outsized);
        }
        if asked == Intake::Closed {
            self.press(true);
            return std::future::pending().await;
        }
        let room = self.room().await;
        let nothing_unacknowledged = self.ports.ledger.account().messages() == 0;
        let pulled = self.ports.log.pull(room, PATIENCE).await;
        let attempts = &self.ports.board.counters().attempts;
        attempts.add(Step::Pull, Outcome::of(&pulled), 1);
        let pulled = match pulled {
            Ok(pulled) => pulled,
            Err(error) => {
                self.ports.board.trouble(PULL, error.to_string(), 0);
                tokio::time::sleep(self.pull_backoff.failed()).await;
                return Vec::new();
            }
        };
        self.pull_backoff.succeeded();
        self.ports.board.recovered(PULL);
        let ended = matches!(pulled, Pulled::End);
        if let Pulled::Messages(messages) = pulled {
            self.quiet_since = None;
            self.set_idle(None);
            self.suspects = messages.iter().any(|message| message.suspect.is_some());
            self.press(self.suspects);
            let newest = messages.iter().map(|message| message.publish_time).max();
            let claims = self.admit(messages);
            // Behind the opening of their claims: at no moment do they count for nothing.
            newest.into_iter().for_each(|newest| self.ports.board.log_was_read(newest));
            return claims;
        }
        self.ports.board.log_is_empty(Timestamp::now());
        self.press(ended || self.suspects || matches!(asked, Intake::UntilIdle | Intake::ToTheEnd));
        let idle = match asked {
            _ if !nothing_unacknowledged => None,
            _ if ended => Some(Idle::End),
            Intake::ToTheEnd => None,
            _ => self.idle_while_quiet().await,
        };
        if !nothing_unacknowledged {
            self.quiet_since = None;
        }
        self.set_idle(idle);
        if ended {
            // After the end only returned messages come: ask for them at intervals.
            tokio::time::sleep(PATIENCE).await;
        }
        Vec::new()
    }

    fn admit(&mut self, messages: Vec<Message>) -> Vec<Claim> {
        let claims = self.ports.ledger.admit(messages);
        // What killed the process alone is tried again as what panicked an actor is.
        let (struck, claims) = claims.into_iter().partition(|claim| claim.strikes() > 0);
        self.redelivery.take(struck, Instant::now());
        let account = self.ports.ledger.account();
        if account.is_overdrawn() && account.messages() > claims.len() as u64 {
            self.outsized = claims;
            return Vec::new();
        }
        claims
    }

    /// Waits until more may be taken. While it waits everyone does, so the sinks are to flush.
    async fn room(&self) -> Room {
        let account = self.ports.ledger.account();
        loop {
            let mut released = std::pin::pin!(account.released());
            // From here on no release is missed.
            released.as_mut().enable();
            if let Some(Room { messages, bytes }) = account.room() {
                let messages = messages.min(self.max_batch_events * MAX_PULL_BATCHES);
                return Room { messages, bytes };
            }
            self.press(true);
            released.await;
        }
    }

    /// Waits until the oversized event fits, or is the only one in flight.
    async fn room_for_outsized(&self) {
        let account = self.ports.ledger.account();
        loop {
            let mut released = std::pin::pin!(account.released());
            released.as_mut().enable();
            if !account.is_overdrawn() || account.messages() <= self.outsized.len() as u64 {
                return;
            }
            self.press(true);
            released.await;
        }
    }

    /// Records whether the budget is under pressure; asks the sinks to flush when that begins.
    fn press(&self, pressing: bool) {
        if self.ports.ledger.account().set_pressing(pressing) && pressing {
            (self.ports.flush_sinks)();
        }
    }

    /// Whether nothing is left to do, after a pull that found nothing while nothing was
    /// unacknowledged.
    async fn idle_while_quiet(&mut self) -> Option<Idle> {
        let since = *self.quiet_since.get_or_insert_with(Instant::now);
        match self.ports.log.backlog().await {
            Ok(Backlog { messages: Some(0), .. }) => Some(Idle::NoBacklog),
            Ok(Backlog { messages: None, .. }) => {
                (since.elapsed() >= self.quiet_period).then_some(Idle::QuietFor(self.quiet_period))
            }
            // Messages are there and do not come, or the log does not answer.
            Ok(_) | Err(_) => None,
        }
    }

    fn set_idle(&self, idle: Option<Idle>) {
        self.ports.idle.send_if_modified(|before| std::mem::replace(before, idle) != idle);
    }

    fn redeliver(&mut self) {
        for batch in self.redelivery.due(Instant::now(), &self.ports.ledger) {
            let (condemned, others): (Vec<_>, Vec<_>) =
                batch.into_iter().partition(|claim| claim.duty() == Duty::DeadLetter);
            self.send(others);
            self.ports.dead_letters.store(condemned);
        }
    }

    /// Shows the panics of a sink that no event is known to cause.
    fn show_doubt(&mut self) {
        let doubt = self.redelivery.doubt();
        match doubt {
            Some((crash, waiting)) => {
                self.ports.board.trouble(PANICS, crash.to_string(), waiting as u64);
            }
            None if self.doubts => self.ports.board.recovered(PANICS),
            None => {}
        }
        self.doubts = doubt.is_some();
    }

    /// How many of the claims make the next batch; at least one.
    fn batch_len(&self, claims: &[Claim]) -> usize {
        let mut bytes = 0;
        let fits = |claim: &&Claim| {
            bytes += claim.message().payload.len();
            bytes <= MAX_BATCH_BYTES
        };
        claims.iter().take(self.max_batch_events).take_while(fits).count().max(1)
    }

    /// Sends claims to the parsers, in turn. A send that fails drops them: they come round again.
    fn send(&mut self, claims: Vec<Claim>) {
        let mut claims = claims.into_iter();
        while claims.len() > 0 {
            // A batch of its own size: one split off would keep the room of the whole.
            let len = self.batch_len(claims.as_slice());
            let batch = claims.by_ref().take(len).collect();
            let parser = &self.ports.parsers[self.next_parser % self.ports.parsers.len()];
            self.next_parser = self.next_parser.wrapping_add(1);
            let _ = parser.send(Parse(batch));
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
