//! Deliveries and claims: why an acknowledged event is a durable one.
//!
//! A [`Delivery`] is one message on loan from the log. A [`Claim`] is one duty to make it durable.
//! These hold, whatever crashes:
//!
//! - A delivery is acknowledged when its last claim is settled, and in no other way.
//! - A claim is settled only by [`Claim::settle`], which consumes it. A claim dropped in any other
//!   way goes back to the [`Ledger`] and is delivered again for its own duty alone.
//! - Claims of the ways are opened before the route claim is settled ([`Claim::split`]), so a
//!   delivery is never acknowledged half-routed, and a returned way never fans out again.
//! - A claim that is dropped by a panic, while its actor had it in hand, is *suspect*: it is
//!   tried again alone, and after enough panics its event becomes a dead letter ([`in_hand`]).

mod account;
mod duties;
mod in_flight;
mod in_hand;
mod ledger;
mod quarantine;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use compact_str::CompactString;

pub use account::Account;
pub use duties::Duty;
pub use in_hand::in_hand;
pub use ledger::{Ledger, Unsettled};
pub(crate) use quarantine::doubled;
pub use quarantine::{Redelivery, RedeliveryPolicy};

use crate::dead_letter_table::Stage;
use crate::envelope::Envelope;
use crate::message::Message;

/// Why an event becomes a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Where on its way.
    pub stage: Stage,
    /// Path of the actor that found out.
    pub actor: String,
    /// The processor, where the fault is one processor's.
    pub processor: Option<String>,
    /// What is wrong, for people.
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

/// An actor's panic. Shared by its supervisor and the events that were in hand, until each of
/// those has been tried again alone.
#[derive(Debug, thiserror::Error)]
#[error("{actor} panicked: {panic}")]
pub struct Crash {
    /// Path of the actor.
    pub actor: String,
    /// The panic's message.
    pub panic: String,
    /// The actor had one event in hand and nothing else: the event is charged, not the actor's
    /// restart budget.
    pub isolated: bool,
    /// One of the events in hand panicked its actor again, alone.
    explained: AtomicBool,
}

impl Crash {
    /// Whether an event is to blame, and not the actor; as long as that is being found out, it is
    /// taken to be so.
    pub(crate) fn is_excused(self: &Arc<Self>) -> bool {
        let has_suspects = Arc::strong_count(self) > 1;
        has_suspects || self.explained.load(Ordering::Relaxed)
    }
}

/// One message on loan from the log, shared by its claims.
///
/// Claims are settled long after all else of their delivery was looked at: what that needs stands
/// first, in one line of a processor's cache.
#[derive(Debug)]
#[repr(C)]
pub struct Delivery {
    ledger: Arc<Ledger>,
    cost_bytes: u64,
    open_claims: AtomicU32,
    /// The archive has its line.
    archived: AtomicBool,
    message: Message,
    envelope: OnceLock<Envelope>,
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

    /// Keeps what a parser read. A later reading of the same bytes says the same and is dropped.
    pub fn keep_envelope(&self, envelope: Envelope) {
        let _ = self.envelope.set(envelope);
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
    /// Bytes charged to the account for what was made of the event.
    pub(crate) charged_bytes: u64,
    /// Nothing yet for almost every claim.
    pub(crate) history: Option<Box<History>>,
}

/// What a claim has been through.
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
    /// It travels alone; the ledger waits for it before the next suspect of its duty.
    pub(crate) isolated: bool,
    /// Why it is to be a dead letter.
    pub(crate) verdict: Option<Arc<Verdict>>,
}

impl Claim {
    /// Opens a claim that the delivery's count of open claims includes already.
    fn open(delivery: Arc<Delivery>, duty: Duty) -> Self {
        delivery.ledger.duties().began(duty, delivery.cost_bytes);
        Self { inner: Some(Held { delivery, duty, charged_bytes: 0, history: None }) }
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

    /// What is to be done.
    #[must_use]
    pub fn duty(&self) -> Duty {
        self.held().duty
    }

    /// Why it is to be a dead letter; only with [`Duty::DeadLetter`].
    #[must_use]
    pub fn verdict(&self) -> Option<&Arc<Verdict>> {
        self.held().history.as_ref()?.verdict.as_ref()
    }

    /// Whether it is a suspect tried again alone: never join it with others.
    #[must_use]
    pub fn is_isolated(&self) -> bool {
        self.held().history.as_ref().is_some_and(|history| history.isolated)
    }

    /// Charges what was made of the event to the account, until this claim ends. It never waits:
    /// the reader does, before it takes more.
    pub fn charge(&mut self, bytes: u64) {
        let held = self.held_mut();
        held.charged_bytes += bytes;
        held.delivery.ledger.account().charge_bytes(bytes);
    }

    /// Says that the duty is done durably. The last settled claim acknowledges the delivery.
    pub fn settle(mut self) {
        if let Some(held) = self.inner.take() {
            held.close();
        }
    }

    /// Turns a route claim into one claim for each way, then settles it. No way: settled at once.
    pub fn split(self, ways: &[Duty], mut each: impl FnMut(Claim)) {
        let delivery = Arc::clone(&self.held().delivery);
        // Opened before the route claim is settled: at no moment does none stand.
        delivery.open_claims.fetch_add(ways.len() as u32, Ordering::Relaxed);
        for &duty in ways {
            each(Claim::open(Arc::clone(&delivery), duty));
        }
        self.settle();
    }

    /// Passes the duty on: the event is to be stored as a dead letter instead.
    pub fn condemn(mut self, verdict: Verdict) -> Claim {
        let Some(mut held) = self.inner.take() else { return self };
        held.release();
        let duties = held.delivery.ledger.duties();
        duties.ended(held.duty, held.delivery.cost_bytes);
        duties.began(Duty::DeadLetter, held.delivery.cost_bytes);
        let history = History { verdict: Some(Arc::new(verdict)), ..History::default() };
        held.duty = Duty::DeadLetter;
        held.history = Some(Box::new(history));
        Claim::again(held)
    }
}

impl Held {
    /// Gives up what goes with this particular attempt: the bytes, and the place of the isolated.
    fn release(&mut self) {
        let ledger = &self.delivery.ledger;
        ledger.account().release_bytes(std::mem::take(&mut self.charged_bytes));
        if let Some(history) = self.history.as_mut().filter(|history| history.isolated) {
            history.isolated = false;
            ledger.end_isolation(self.duty);
        }
    }

    fn close(mut self) {
        self.release();
        self.delivery.ledger.duties().ended(self.duty, self.delivery.cost_bytes);
        if self.duty == Duty::Archive {
            // Seen by whoever closes the last claim, by what stands below.
            self.delivery.archived.store(true, Ordering::Relaxed);
        }
        // Release and acquire: whatever any claim's holder did happens before the acknowledgement.
        if self.delivery.open_claims.fetch_sub(1, Ordering::AcqRel) == 1 {
            let ledger = Arc::clone(&self.delivery.ledger);
            ledger.finish(self.delivery);
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
