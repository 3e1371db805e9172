//! How one actor fares, across its restarts.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::calls::Calls;
use super::lock;
use super::rate::RateWindow;
use super::snapshot::{ActorReport, LastError};
use crate::time::Timestamp;

/// The state of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorState {
    /// It opens its resources and takes no message yet.
    Starting,
    /// It takes messages.
    Running,
    /// It crashed and waits out its backoff.
    Restarting,
    /// It ended and will not start again.
    Stopped,
}

/// A fault that is being waited out: the daemon is degraded for as long as it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// When it was first met.
    pub since: Timestamp,
    /// The answer of the other side.
    pub reason: String,
    /// Events that wait for it to pass.
    pub waiting: u64,
}

impl Trouble {
    /// Returns the trouble after one more failed try: the beginning stays.
    pub(super) fn after(before: Option<&Self>, reason: String, waiting: u64) -> Self {
        Self { since: before.map_or_else(Timestamp::now, |trouble| trouble.since), reason, waiting }
    }
}

/// One actor's entry on the board. It outlives the actor: a restarted one finds its counts again.
#[derive(Debug)]
pub struct Vitals {
    path: String,
    kind: &'static str,
    restarts: AtomicU64,
    mailbox: AtomicU64,
    events: AtomicU64,
    taken: AtomicU64,
    waits: AtomicU64,
    kill_next: AtomicBool,
    calls: Arc<Calls>,
    condition: Mutex<Condition>,
}

/// What changes seldom.
#[derive(Debug)]
struct Condition {
    state: ActorState,
    last_error: Option<(Timestamp, String)>,
    trouble: Option<Trouble>,
    /// It hangs.
    stall: Option<Trouble>,
    life: Option<Life>,
    /// Why its life was ended from outside.
    ended_for: Option<String>,
    rate: RateWindow,
}

/// Ends the present life of an actor.
struct Life(Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Life")
    }
}

/// A wait of an actor that is no hang, until it is dropped.
#[derive(Debug)]
#[must_use = "the wait ends when this is dropped"]
pub struct Waits<'a>(&'a Vitals);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waits.fetch_sub(1, Relaxed);
    }
}

impl Vitals {
    pub(super) fn new(path: &str, kind: &'static str) -> Self {
        Self {
            path: path.to_owned(),
            kind,
            restarts: AtomicU64::new(0),
            mailbox: AtomicU64::new(0),
            events: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            kill_next: AtomicBool::new(false),
            calls: Arc::default(),
            condition: Mutex::new(Condition {
                state: ActorState::Starting,
                last_error: None,
                trouble: None,
                stall: None,
                life: None,
                ended_for: None,
                rate: RateWindow::default(),
            }),
        }
    }

    /// Returns the actor's path in the tree, such as `kappa/warehouse/writer.orders`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The actor's role, as in `writer`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Returns the state of the actor.
    #[must_use]
    pub fn state(&self) -> ActorState {
        lock(&self.condition).state
    }

    /// Sets the state of the actor; [`Vitals::crashed`] records a crash.
    pub fn set_state(&self, state: ActorState) {
        lock(&self.condition).state = state;
    }

    /// Records a crash that will be followed by a restart. The mailbox is gone with
    /// it, and so is any trouble: the next life meets its own.
    pub fn crashed(&self, error: impl Into<String>) {
        self.restarts.fetch_add(1, Relaxed);
        self.mailbox.store(0, Relaxed);
        let mut condition = lock(&self.condition);
        condition.state = ActorState::Restarting;
        condition.last_error = Some((Timestamp::now(), error.into()));
        condition.trouble = None;
    }

    /// The last error's words, if there was one.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        lock(&self.condition).last_error.as_ref().map(|(_, words)| words.clone())
    }

    /// Notes an error that did not end the actor.
    pub fn failed(&self, error: impl Into<String>) {
        lock(&self.condition).last_error = Some((Timestamp::now(), error.into()));
    }

    /// How often the actor was started again.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Relaxed)
    }

    /// A sender put one message into the mailbox.
    pub fn enqueued(&self) {
        self.mailbox.fetch_add(1, Relaxed);
    }

    /// The actor took one message out, or a send failed after [`Vitals::enqueued`].
    pub fn dequeued(&self) {
        // A message of the life before may be counted off after the crash reset the depth.
        let _ = self.mailbox.fetch_update(Relaxed, Relaxed, |depth| depth.checked_sub(1));
        self.taken.fetch_add(1, Relaxed);
    }

    /// Messages taken out of the mailbox so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// The calls on backends that the actor waits for.
    #[must_use]
    pub fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    /// Notes that the actor waits for something that may take any time, such as memory. The watchdog
    /// leaves it alone until the answer is dropped.
    pub fn waits(&self) -> Waits<'_> {
        self.waits.fetch_add(1, Relaxed);
        Waits(self)
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waits.load(Relaxed) > 0
    }

    /// Messages that wait in the mailbox.
    #[must_use]
    pub fn mailbox(&self) -> u64 {
        self.mailbox.load(Relaxed)
    }

    /// The actor is done with `n` more events.
    pub fn handled(&self, n: u64) {
        self.events.fetch_add(n, Relaxed);
    }

    /// Events handled, over all lives.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events.load(Relaxed)
    }

    /// Notes one more failed try at what `waiting` events wait for, which is the last error too. The
    /// first of them is when the trouble began.
    pub fn trouble(&self, reason: impl Into<String>, waiting: u64) {
        let reason = reason.into();
        let mut condition = lock(&self.condition);
        condition.last_error = Some((Timestamp::now(), reason.clone()));
        condition.trouble = Some(Trouble::after(condition.trouble.as_ref(), reason, waiting));
    }

    /// The trouble is over.
    pub fn recovered(&self) {
        lock(&self.condition).trouble = None;
    }

    /// Notes that the actor hangs, or that it does no longer. No success of the actor's ends this.
    pub(super) fn set_stall(&self, stall: Option<Trouble>) {
        let mut condition = lock(&self.condition);
        if stall.is_some() || condition.stall.is_some() {
            condition.stall = stall;
        }
    }

    /// Returns the trouble that the actor waits out at present: a hang before any other.
    #[must_use]
    pub fn current_trouble(&self) -> Option<Trouble> {
        let condition = lock(&self.condition);
        condition.stall.as_ref().or(condition.trouble.as_ref()).cloned()
    }

    /// Begins a life; `end` ends it from outside.
    pub(crate) fn begin_life(&self, end: impl Fn() + Send + Sync + 'static) {
        lock(&self.condition).life = Some(Life(Arc::new(end)));
    }

    /// Ends the present life, also in the middle of a message. The supervisor counts that as a
    /// failure for this reason.
    pub(super) fn end_life(&self, reason: String) {
        let end = {
            let mut condition = lock(&self.condition);
            condition.ended_for = Some(reason);
            condition.life.as_ref().map(|life| Arc::clone(&life.0))
        };
        // Outside the lock: the end may drop what looks at this.
        if let Some(end) = end {
            end();
        }
    }

    /// Whether the end of its life was ordered and has not come: its thread never stops working.
    pub(super) fn is_ending(&self) -> bool {
        lock(&self.condition).ended_for.is_some()
    }

    /// Why the life that is over was ended from outside, if it was.
    pub(crate) fn take_end(&self) -> Option<String> {
        lock(&self.condition).ended_for.take()
    }

    /// Has the actor panic at its next message: fault injection.
    pub fn kill(&self) {
        self.kill_next.store(true, Relaxed);
    }

    /// Whether the actor is to panic now; asking takes the order back.
    #[must_use]
    pub fn take_kill(&self) -> bool {
        // The load alone keeps the common answer off the bus.
        self.kill_next.load(Relaxed) && self.kill_next.swap(false, Relaxed)
    }

    pub(super) fn sample(&self, now: Instant) {
        lock(&self.condition).rate.sample(now, self.events());
    }

    pub(super) fn report(&self) -> ActorReport {
        let condition = lock(&self.condition);
        ActorReport {
            path: self.path.clone(),
            kind: self.kind.to_owned(),
            state: condition.state,
            restarts: self.restarts(),
            last_error: condition
                .last_error
                .as_ref()
                .map(|(at, text)| LastError { at: at.to_string(), error: text.clone() }),
            mailbox: self.mailbox(),
            events: self.events(),
            events_per_second: condition.rate.per_second(),
        }
    }
}
