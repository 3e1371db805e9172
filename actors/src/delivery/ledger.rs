//! The ledger: messages on loan, returned claims, and finished deliveries that wait for their acknowledgement.
//!
//! It belongs to no actor, so no actor's death can stop an acknowledgement or lose a claim.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use compact_str::CompactString;
use tokio::sync::Notify;

use super::account::signed;
use super::duties::Duties;
use super::in_flight::InFlight;
use super::posting::Change;
use super::{Account, Claim, Delivery, Duty, Held, NO_TIME, Verdict, grain};
use crate::message::{Lease, Message};
use crate::port::{EventLog, LogError};
use crate::time::Timestamp;
use crate::vitals::{Board, Holding, Outcome, Step};

/// How long to wait before an acknowledgement that failed is tried again.
const ACK_RETRY: Duration = Duration::from_millis(200);

/// The name of failing acknowledgements in status.
const ACKNOWLEDGEMENT: &str = "event log (acknowledgement)";

/// The unsettled deliveries that were returned to the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsettled {
    /// Deliveries that had claims open.
    pub deliveries: usize,
}

/// Everything on loan from one log.
#[derive(Debug)]
pub struct Ledger {
    account: Account,
    duties: Duties,
    board: Arc<Board>,
    in_flight: Mutex<InFlight>,
    /// Deliveries whose last claim was settled.
    finished: Mutex<Vec<Arc<Delivery>>>,
    finished_some: Notify,
    /// Claims that came back.
    returned: Mutex<Vec<Claim>>,
    returned_some: Notify,
    /// Duties with an isolated claim on its way.
    isolated: Mutex<HashSet<Duty>>,
    /// Nothing is redelivered or acknowledged any more.
    closed: AtomicBool,
}

/// Deliveries whose last claim is settled, and their leases.
struct Finished {
    deliveries: Vec<Arc<Delivery>>,
    /// Leases of finished deliveries with a line in the archive.
    archived: Vec<Lease>,
    unarchived: Vec<Lease>,
}

impl Ledger {
    /// A ledger with nothing on loan, for a pipeline with these processors.
    #[must_use]
    pub fn new(
        account: Account,
        processors: impl IntoIterator<Item = String>,
        board: Arc<Board>,
    ) -> Arc<Self> {
        Arc::new(Self {
            account,
            duties: Duties::new(processors),
            board,
            in_flight: Mutex::default(),
            finished: Mutex::default(),
            finished_some: Notify::new(),
            returned: Mutex::default(),
            returned_some: Notify::new(),
            isolated: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// The account that everything on loan is charged to.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// What each duty holds of the permits.
    #[must_use]
    pub fn holdings(&self) -> Vec<Holding> {
        self.duties.holdings()
    }

    /// Publish time of the oldest message that waits for this duty. It is rounded down, by a few
    /// milliseconds or, for older messages, by some percent of its age when it was taken.
    #[must_use]
    pub fn oldest(&self, duty: Duty) -> Option<Timestamp> {
        self.duties.oldest(duty)
    }

    pub(super) fn count_letter(&self, verdict: &Verdict) {
        self.board.counters().count_letter(verdict.stage, &verdict.class);
    }

    pub(super) fn duties(&self) -> &Duties {
        &self.duties
    }

    /// Takes messages on loan and opens a route claim for each.
    ///
    /// A message that is in flight already gets no second claim: its new lease joins the old. A
    /// closed ledger takes nothing: the leases of a pull that was still under way run out. Claims of
    /// messages that were alone in flight when the process was killed are struck already.
    #[must_use]
    pub fn admit(self: &Arc<Self>, messages: Vec<Message>) -> Vec<Claim> {
        let mut claims = Vec::with_capacity(messages.len());
        let now = Timestamp::now();
        let mut opened = Change::default();
        let mut repeated = 0;
        let mut in_flight = lock(&self.in_flight);
        if self.closed.load(Ordering::Acquire) {
            return claims;
        }
        for message in messages {
            if in_flight.take_in(&message.id, message.lease) {
                let claim = self.lend(message, now);
                opened.open(claim.delivery());
                claims.push(claim);
            } else {
                repeated += 1;
            }
        }
        drop(in_flight);
        self.account.charge_messages(claims.len() as u64);
        self.account.change_messages(opened.bytes());
        self.duties.change(Duty::Route, &opened);
        let counters = self.board.counters();
        counters.received.add(claims.len() as u64);
        counters.redelivered.add(repeated);
        self.show_account();
        claims
    }

    fn lend(self: &Arc<Self>, message: Message, now: Timestamp) -> Claim {
        let deaths = message.suspect.unwrap_or(0);
        let delivery = Arc::new(Delivery {
            ledger: Arc::clone(self),
            cost_bytes: message.cost_bytes(),
            publish_time: message.publish_time,
            event_time: AtomicI64::new(NO_TIME),
            grain: grain(message.publish_time.age_at(now)),
            open_claims: AtomicU32::new(1),
            archived: AtomicBool::new(message.archived),
            message,
            envelope: OnceLock::new(),
        });
        let mut claim = Claim::open(delivery, Duty::Route);
        if deaths > 0 {
            claim.strike(deaths);
        }
        claim
    }

    /// Waits until claims came back, or an isolated one ended; the claims that came back since
    /// the last call.
    pub async fn take_returned(&self) -> Vec<Claim> {
        self.returned_some.notified().await;
        std::mem::take(&mut *lock(&self.returned))
    }

    /// Acknowledges finished deliveries, until the ledger is closed and none is left.
    ///
    /// Run it beside the actors, not inside one. A failing log is retried without limit, and reported as trouble on the
    /// board.
    pub async fn acknowledge_finished(&self, log: &dyn EventLog) {
        loop {
            let some = self.finished_some.notified();
            // Asked first: nothing is finished behind the close.
            let closed = self.closed.load(Ordering::Acquire);
            let finished = self.take_finished();
            if !finished.deliveries.is_empty() {
                self.acknowledge(log, &finished).await;
            } else if closed {
                return;
            } else {
                some.await;
            }
        }
    }

    /// Takes finished deliveries out of flight. From here on a repeat is a new delivery, which is
    /// harmless; were it to join these, its lease would be missed.
    fn take_finished(&self) -> Finished {
        let mut in_flight = lock(&self.in_flight);
        let deliveries = std::mem::take(&mut *lock(&self.finished));
        let mut archived = Vec::with_capacity(deliveries.len());
        let mut unarchived = Vec::new();
        for delivery in &deliveries {
            let has_line = delivery.archived.load(Ordering::Relaxed);
            let leases = if has_line { &mut archived } else { &mut unarchived };
            in_flight.remove(&delivery.message.id, leases);
        }
        Finished { deliveries, archived, unarchived }
    }

    async fn acknowledge(&self, log: &dyn EventLog, finished: &Finished) {
        let Finished { deliveries, archived, unarchived } = finished;
        // Most often all are of one kind: a call for nothing would cost a commit.
        if !archived.is_empty() {
            self.until_done(archived.len(), || log.acknowledge(archived)).await;
        }
        if !unarchived.is_empty() {
            self.until_done(unarchived.len(), || log.acknowledge_unarchived(unarchived)).await;
        }
        let bytes: u64 = deliveries.iter().map(|one| one.cost_bytes).sum();
        self.account.change_messages(-signed(bytes));
        self.account.release_messages(deliveries.len() as u64);
        self.board.counters().acked.add(deliveries.len() as u64);
        self.show_account();
    }

    async fn until_done<F: Future<Output = Result<(), LogError>>>(
        &self,
        leases: usize,
        acknowledge: impl Fn() -> F,
    ) {
        loop {
            let answer = acknowledge().await;
            let attempts = &self.board.counters().attempts;
            attempts.add(Step::Acknowledge, Outcome::of(&answer), 1);
            let Err(error) = answer else { break };
            self.board.trouble(ACKNOWLEDGEMENT, error.to_string(), leases as u64);
            tokio::time::sleep(ACK_RETRY).await;
        }
        self.board.recovered(ACKNOWLEDGEMENT);
    }

    pub(super) fn show_account(&self) {
        let counters = self.board.counters();
        counters.in_flight_messages.set(self.account.messages());
        counters.in_flight_bytes.set(self.account.bytes());
    }

    /// Waits until nothing is unacknowledged.
    pub async fn settled(&self) {
        loop {
            let mut released = std::pin::pin!(self.account.released());
            // From here on no release is missed.
            released.as_mut().enable();
            if self.account.messages() == 0 {
                return;
            }
            released.await;
        }
    }

    /// Ends all loans: returns deliveries with open claims to the log. Finished deliveries are still acknowledged, by
    /// [`Self::acknowledge_finished`], which then ends.
    pub async fn close(&self, log: &dyn EventLog) -> Unsettled {
        self.closed.store(true, Ordering::Release);
        let (leases, deliveries) = self.take_unfinished();
        self.finished_some.notify_one();
        self.forget_returned();
        if let Err(error) = log.give_back(&leases).await {
            tracing::warn!(%error, messages = leases.len(), "could not give messages back; they come again when their leases run out");
        }
        self.board.counters().given_back.add(deliveries as u64);
        Unsettled { deliveries }
    }

    /// Ends all loans without a word to the log: their leases run out. Nothing keeps the ledger
    /// alive in a circle then.
    pub fn abandon(&self) {
        self.closed.store(true, Ordering::Release);
        self.forget_returned();
        let finished = std::mem::take(&mut *lock(&self.finished));
        drop(finished);
    }

    fn forget_returned(&self) {
        let returned = std::mem::take(&mut *lock(&self.returned));
        // Outside the lock: a claim's drop asks for it.
        drop(returned);
    }

    /// Returns the leases of the deliveries with open claims, and the number of these deliveries.
    fn take_unfinished(&self) -> (Vec<Lease>, usize) {
        let mut in_flight = lock(&self.in_flight);
        let finished: HashSet<CompactString> =
            lock(&self.finished).iter().map(|delivery| delivery.message.id.clone()).collect();
        in_flight.take_all_but(&finished)
    }

    /// Whether an isolated claim of this duty is on its way.
    #[must_use]
    pub fn has_isolated(&self, duty: Duty) -> bool {
        lock(&self.isolated).contains(&duty)
    }

    pub(super) fn begin_isolation(&self, duty: Duty) {
        lock(&self.isolated).insert(duty);
    }

    pub(super) fn end_isolation(&self, duty: Duty) {
        lock(&self.isolated).remove(&duty);
        // The next suspect may go.
        self.returned_some.notify_one();
    }

    /// Takes in deliveries whose last claim was settled.
    pub(super) fn finish(&self, mut deliveries: Vec<Arc<Delivery>>) {
        if deliveries.is_empty() {
            return;
        }
        let mut finished = lock(&self.finished);
        // Behind the close their leases are given back, and they come again.
        if !self.closed.load(Ordering::Acquire) {
            finished.append(&mut deliveries);
            drop(finished);
            self.finished_some.notify_one();
        }
    }

    /// Takes back a claim that was dropped unsettled.
    pub(super) fn take_back(&self, mut held: Held) {
        held.history.get_or_insert_default().returns += 1;
        self.take_back_struck(held);
    }

    /// Takes back a claim that a panic was charged to.
    pub(super) fn take_back_struck(&self, held: Held) {
        let mut returned = lock(&self.returned);
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        returned.push(Claim::again(held));
        drop(returned);
        self.board.counters().redelivered.add(1);
        self.returned_some.notify_one();
    }
}

/// A panic elsewhere leaves these collections whole: every critical section here is plain
/// insertion and removal.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
