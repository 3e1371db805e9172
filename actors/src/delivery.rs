#![doc = include_str!("delivery/README.md")]

mod account;
mod doubt;
mod duties;
mod in_flight;
mod in_hand;
mod ledger;
mod posting;
mod quarantine;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use compact_str::CompactString;

use account::signed;
use doubt::Doubt;

pub use account::Account;
pub use duties::Duty;
pub use in_hand::in_hand;
pub use ledger::{Ledger, Unsettled};
use posting::Change;
pub use posting::Posting;
pub(crate) use quarantine::doubled;
pub use quarantine::{Redelivery, RedeliveryPolicy};

use crate::dead_letter_table::{self, Stage};
use crate::envelope::Envelope;
use crate::fault_class::{CrashKind, FaultClass};
use crate::message::Message;
use crate::time::Timestamp;

/// Why an event becomes a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Where on its way.
    pub stage: Stage,
    /// Path of the actor that found out.
    pub actor: String,
    /// The processor, where the fault is one processor's.
    pub processor: Option<String>,
    /// The class of the fault.
    pub class: FaultClass,
    /// The fault, for people.
    pub reason: String,
    /// The event's id and type, where they are readable though the envelope is not.
    pub salvaged: Salvaged,
    /// How often it was tried.
    pub attempts: u32,
}

/// What could be read of an event without a valid envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// The event's id.
    pub id: Option<CompactString>,
    /// The event's type.
    pub kind: Option<CompactString>,
}

/// The actor that a dead letter names when the whole process was killed.
const PROCESS: &str = "kappa";

/// An actor's panic, or the kill of an earlier process. A panic is shared by its supervisor and the
/// events that were in hand, until each of those has been tried again alone.
#[derive(Debug, thiserror::Error)]
#[error("{actor} {reason}")]
pub struct Crash {
    /// Path of the actor.
    pub actor: String,
    /// How the work ended.
    pub kind: CrashKind,
    /// What happened: the panic with its message, or the end of the process.
    pub reason: String,
    /// The actor had one event in hand and nothing else: the event is charged, not the actor's
    /// restart budget.
    pub isolated: bool,
    /// One of the events in hand panicked its actor again, alone.
    explained: AtomicBool,
}

impl Crash {
    /// The process was killed so often while it had one event in flight and nothing else.
    fn of_process(deaths: u32) -> Self {
        let times = if deaths == 1 { "once".to_owned() } else { format!("{deaths} times") };
        Self {
            actor: PROCESS.to_owned(),
            kind: CrashKind::Kill,
            reason: format!("the process was killed {times} while it worked on this event alone"),
            isolated: true,
            explained: AtomicBool::new(true),
        }
    }

    /// Whether an event is to blame, and not the actor; as long as that is being found out, it is
    /// taken to be so.
    pub(crate) fn is_excused(self: &Arc<Self>) -> bool {
        let has_suspects = Arc::strong_count(self) > 1;
        has_suspects || self.explained.load(Ordering::Relaxed)
    }
}

/// One message on loan from the log, shared by its claims.
///
/// Claims are settled long after the other fields were used: the fields that a settlement needs come first, in one
/// cache line.
#[derive(Debug)]
#[repr(C)]
pub struct Delivery {
    ledger: Arc<Ledger>,
    cost_bytes: u64,
    /// The message's: kept here for those who settle claims.
    publish_time: Timestamp,
    /// The envelope's, or [`NO_TIME`].
    event_time: AtomicI64,
    open_claims: AtomicU32,
    /// The archive has its line.
    archived: AtomicBool,
    /// The binary digits by which the publish time is rounded down.
    grain: u8,
    message: Message,
    envelope: OnceLock<Envelope>,
}

/// The event time of an event without an envelope.
const NO_TIME: i64 = i64::MIN;

/// The binary digits by which the publish time of a message of this age is rounded down: so many
/// messages share a time that a duty's open claims are counted by few, and the error is at most 16 ms
/// or 1/32 of the age.
fn grain(age: Duration) -> u8 {
    const LEAST: u32 = 14;
    let micros = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
    let digits = (u64::BITS - micros.leading_zeros()).saturating_sub(6);
    u8::try_from(digits.clamp(LEAST, 62)).unwrap_or(62)
}

impl Delivery {
    /// The message as the log handed it out.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The envelope, once a parser has read it.
    #[must_use]
    pub fn envelope(&self) -> Option<&Envelope> {
        self.envelope.get()
    }

    /// Keeps the envelope that a parser read. A second reading of the same bytes is equal and is dropped.
    pub fn keep_envelope(&self, envelope: Envelope) {
        self.event_time.store(envelope.time.micros(), Ordering::Relaxed);
        let _ = self.envelope.set(envelope);
    }

    /// When the log took the message in.
    #[must_use]
    pub fn publish_time(&self) -> Timestamp {
        self.publish_time
    }

    /// The event's own time, once a parser has read it.
    #[must_use]
    pub fn event_time(&self) -> Option<Timestamp> {
        let micros = self.event_time.load(Ordering::Relaxed);
        (micros != NO_TIME).then(|| Timestamp::from_micros(micros))
    }

    /// The publish time rounded down, the same for the whole life of the delivery.
    fn rounded_time(&self) -> Timestamp {
        Timestamp::from_micros(self.publish_time.micros() >> self.grain << self.grain)
    }
}

/// One duty to make one delivery durable. Dropping it unsettled means *again*.
#[derive(Debug)]
#[must_use = "a claim dropped unsettled is delivered again"]
pub struct Claim {
    /// `None` only once it is consumed.
    inner: Option<Held>,
}

/// A claim's content: what survives its drop.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) duty: Duty,
    /// Bytes charged to the account for the rows of the event.
    pub(crate) charged_bytes: u64,
    /// Nothing yet for almost every claim.
    pub(crate) history: Option<Box<History>>,
}

/// The history of a claim.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// How often it came back unsettled, since its duty's actor is known to have been alive.
    pub(crate) returns: u32,
    /// Panics over its duty that were known when it last came back.
    pub(crate) panics: u32,
    /// The panics it was in hand for.
    pub(crate) strikes: u32,
    /// The last of those.
    pub(crate) crash: Option<Arc<Crash>>,
    /// If the last of them was one of a call on a sink: whether the sink is to blame.
    doubt: Option<Doubt>,
    /// It travels alone; the ledger waits for it before the next suspect of its duty.
    pub(crate) isolated: bool,
    /// Why it is to be a dead letter.
    pub(crate) verdict: Option<Arc<Verdict>>,
    /// The duty that failed, once it is to be a dead letter.
    pub(crate) failed: Option<Duty>,
    /// Storing its letter whole has crashed: the letter is to be bare.
    pub(crate) bare: bool,
}

impl Claim {
    /// Opens a claim that all counts include already.
    fn open(delivery: Arc<Delivery>, duty: Duty) -> Self {
        Self { inner: Some(Held { delivery, duty, charged_bytes: 0, history: None }) }
    }

    /// Counts the deaths of earlier processes as panics.
    fn strike(&mut self, deaths: u32) {
        let history = self.held_mut().history.get_or_insert_default();
        history.strikes = deaths;
        history.crash = Some(Arc::new(Crash::of_process(deaths)));
    }

    fn again(held: Held) -> Self {
        Self { inner: Some(held) }
    }

    fn held(&self) -> &Held {
        // `inner` is taken only by methods that consume the claim.
        self.inner.as_ref().unwrap_or_else(|| unreachable!("a consumed claim is gone"))
    }

    fn held_mut(&mut self) -> &mut Held {
        self.inner.as_mut().unwrap_or_else(|| unreachable!("a consumed claim is gone"))
    }

    /// The delivery this is a duty to.
    #[must_use]
    pub fn delivery(&self) -> &Delivery {
        &self.held().delivery
    }

    /// The message this is a duty to.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.held().delivery.message
    }

    /// Returns the duty.
    #[must_use]
    pub fn duty(&self) -> Duty {
        self.held().duty
    }

    /// Why it is to be a dead letter; only with [`Duty::DeadLetter`].
    #[must_use]
    pub fn verdict(&self) -> Option<&Arc<Verdict>> {
        self.held().history.as_ref()?.verdict.as_ref()
    }

    /// The name of the duty that failed; only with [`Duty::DeadLetter`].
    #[must_use]
    pub fn failed_duty(&self) -> Option<&str> {
        let held = self.held();
        let failed = held.history.as_ref()?.failed?;
        Some(match failed {
            Duty::Process(_) => held.delivery.ledger.duties().processor(failed)?,
            Duty::Archive => dead_letter_table::ARCHIVE,
            Duty::Route | Duty::DeadLetter => dead_letter_table::ROUTE,
        })
    }

    /// Whether storing its whole letter has crashed, so that the letter is to name its payload and
    /// not to hold it.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.held().history.as_ref().is_some_and(|history| history.bare)
    }

    /// Whether it is a suspect tried again alone: never join it with others.
    #[must_use]
    pub fn is_isolated(&self) -> bool {
        self.held().history.as_ref().is_some_and(|history| history.isolated)
    }

    /// Passes the duty on: the event is to be stored as a dead letter instead.
    pub fn condemn(mut self, verdict: Verdict) -> Claim {
        let Some(mut held) = self.inner.take() else { return self };
        held.release();
        let duties = held.delivery.ledger.duties();
        let (mut ended, mut opened) = (Change::default(), Change::default());
        ended.end(&held.delivery);
        opened.open(&held.delivery);
        duties.change(held.duty, &ended);
        duties.change(Duty::DeadLetter, &opened);
        let failed = Some(held.duty);
        let history = History { verdict: Some(Arc::new(verdict)), failed, ..History::default() };
        held.duty = Duty::DeadLetter;
        held.history = Some(Box::new(history));
        Claim::again(held)
    }
}

impl Held {
    /// Gives up what goes with this particular attempt: the bytes, and the place of the isolated.
    fn release(&mut self) {
        let charged = std::mem::take(&mut self.charged_bytes);
        self.delivery.ledger.account().change_rows(-signed(charged));
        self.end_isolation();
    }

    fn end_isolation(&mut self) {
        if let Some(history) = self.history.as_mut().filter(|history| history.isolated) {
            history.isolated = false;
            self.delivery.ledger.end_isolation(self.duty);
        }
    }
}

/// Not settled: it comes again, for its own duty.
impl Drop for Claim {
    fn drop(&mut self) {
        let Some(mut held) = self.inner.take() else { return };
        held.release();
        if std::thread::panicking() {
            in_hand::suspect(held);
        } else {
            let ledger = Arc::clone(&held.delivery.ledger);
            ledger.take_back(held);
        }
    }
}

#[cfg(test)]
mod tests;
