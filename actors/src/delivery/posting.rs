//! The settlement of a batch of claims, entered into the ledger in one step.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::account::signed;
use super::{Claim, Delivery, Duty, Held, Ledger};
use crate::time::Timestamp;

/// Settles, splits and charges the claims of one batch.
///
/// All actors use the ledger's locks and counts, so a batch takes them once: when this is dropped. Do not keep it
/// across an `await`: until the drop its settled claims are not acknowledged, and their memory is not free.
#[derive(Debug, Default)]
#[must_use = "settled claims are acknowledged when it is dropped"]
pub struct Posting {
    /// The ledger of the claims, after the first one.
    ledger: Option<Arc<Ledger>>,
    /// Bytes of rows charged, less those released.
    bytes: i64,
    /// Claims opened, less those that ended.
    duties: Vec<(Duty, Change)>,
    /// Deliveries whose last claim was settled.
    finished: Vec<Arc<Delivery>>,
}

/// Net change in the messages and bytes charged to a duty.
#[derive(Debug, Default)]
pub(super) struct Change {
    bytes: i64,
    /// Net change in messages by publish time, rounded down. Neighbours of one time are one entry: the
    /// claims of a batch come in the order of the log, so there are few.
    times: Vec<(Timestamp, i64)>,
}

impl Change {
    /// One more claim is open for this delivery.
    pub(super) fn open(&mut self, delivery: &Delivery) {
        self.add(delivery, 1);
    }

    /// A claim for this delivery ended.
    pub(super) fn end(&mut self, delivery: &Delivery) {
        self.add(delivery, -1);
    }

    fn add(&mut self, delivery: &Delivery, messages: i64) {
        self.bytes += messages * signed(delivery.cost_bytes);
        let time = delivery.rounded_time();
        match self.times.last_mut() {
            Some((last, sum)) if *last == time => *sum += messages,
            _ => self.times.push((time, messages)),
        }
    }

    pub(super) fn bytes(&self) -> i64 {
        self.bytes
    }

    pub(super) fn messages(&self) -> i64 {
        self.times.iter().map(|(_, messages)| messages).sum()
    }

    pub(super) fn times(&self) -> &[(Timestamp, i64)] {
        &self.times
    }
}

impl Posting {
    /// Says that a claim's duty is done durably. The last settled claim acknowledges its delivery.
    pub fn settle(&mut self, mut claim: Claim) {
        let Some(mut held) = claim.inner.take() else { return };
        self.enter(&held);
        self.bytes -= signed(std::mem::take(&mut held.charged_bytes));
        held.end_isolation();
        self.change(held.duty).end(&held.delivery);
        if let Some(verdict) = held.history.as_ref().and_then(|it| it.verdict.as_ref()) {
            held.delivery.ledger.count_letter(verdict);
        }
        if held.duty == Duty::Archive {
            // Visible to the thread that settles the last claim, by the ordering below.
            held.delivery.archived.store(true, Ordering::Relaxed);
        }
        // Release and acquire: whatever any claim's holder did happens before the acknowledgement.
        if held.delivery.open_claims.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.finished.push(held.delivery);
        }
    }

    /// Turns a route claim into one claim for each way, then settles it. No way: settled at once.
    pub fn split(&mut self, claim: Claim, ways: &[Duty], mut each: impl FnMut(Claim)) {
        let delivery = Arc::clone(&claim.held().delivery);
        // Opened before the route claim is settled: at every moment at least one claim is open.
        delivery.open_claims.fetch_add(ways.len() as u32, Ordering::Relaxed);
        for &duty in ways {
            self.change(duty).open(&delivery);
            each(Claim::open(Arc::clone(&delivery), duty));
        }
        self.settle(claim);
    }

    /// Charges the rows of an event to the account, until its claim ends. It never waits.
    pub fn charge(&mut self, claim: &mut Claim, bytes: u64) {
        let held = claim.held_mut();
        self.enter(held);
        held.charged_bytes += bytes;
        self.bytes += signed(bytes);
    }

    fn enter(&mut self, held: &Held) {
        self.ledger.get_or_insert_with(|| Arc::clone(&held.delivery.ledger));
    }

    /// The change of this duty so far.
    fn change(&mut self, duty: Duty) -> &mut Change {
        let known = self.duties.iter().position(|(known, _)| *known == duty);
        let at = known.unwrap_or_else(|| {
            self.duties.push((duty, Change::default()));
            self.duties.len() - 1
        });
        &mut self.duties[at].1
    }
}

impl Drop for Posting {
    fn drop(&mut self) {
        let Some(ledger) = self.ledger.take() else { return };
        for (duty, change) in self.duties.drain(..) {
            ledger.duties().change(duty, &change);
        }
        ledger.account().change_rows(self.bytes);
        ledger.show_account();
        ledger.finish(std::mem::take(&mut self.finished));
    }
}
