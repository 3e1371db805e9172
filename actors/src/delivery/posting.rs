//! The settlement of a batch of claims, entered into the ledger in one step.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::account::signed;
use super::{Claim, Delivery, Duty, Held, Ledger};

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
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    pub(super) messages: i64,
    pub(super) bytes: i64,
}

impl Change {
    /// The change by `claims` opened claims, of deliveries that cost `cost_bytes` together.
    pub(super) fn opened(claims: usize, cost_bytes: u64) -> Self {
        Self { messages: signed(claims as u64), bytes: signed(cost_bytes) }
    }

    /// The change by one ended claim.
    pub(super) fn ended(cost_bytes: u64) -> Self {
        Self { messages: -1, bytes: -signed(cost_bytes) }
    }
}

impl Posting {
    /// Says that a claim's duty is done durably. The last settled claim acknowledges its delivery.
    pub fn settle(&mut self, mut claim: Claim) {
        let Some(mut held) = claim.inner.take() else { return };
        self.enter(&held);
        self.bytes -= signed(std::mem::take(&mut held.charged_bytes));
        held.end_isolation();
        self.change(held.duty, Change::ended(held.delivery.cost_bytes));
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
            self.change(duty, Change::opened(1, delivery.cost_bytes));
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

    fn change(&mut self, duty: Duty, change: Change) {
        let known = self.duties.iter_mut().find(|(known, _)| *known == duty);
        let Some((_, sum)) = known else { return self.duties.push((duty, change)) };
        sum.messages += change.messages;
        sum.bytes += change.bytes;
    }
}

impl Drop for Posting {
    fn drop(&mut self) {
        let Some(ledger) = self.ledger.take() else { return };
        for (duty, change) in self.duties.drain(..) {
            ledger.duties().change(duty, change);
        }
        ledger.account().change_rows(self.bytes);
        ledger.show_account();
        ledger.finish(std::mem::take(&mut self.finished));
    }
}
