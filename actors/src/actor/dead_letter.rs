//! Stores invalid events, unchanged and with the reason.
//!
//! The actor is a [`Writer`](super::writer::Writer) of the table `dead_letters`; this file is the interface for the other
//! actors. If it crashes, its events are delivered again, to it alone.

use std::sync::Arc;
use std::time::Duration;

use crate::dead_letter_table::DeadLetter;
use crate::delivery::{Claim, Verdict};
use crate::replay::OpenLetters;
use crate::supervision::Address;
use crate::time::Timestamp;

use super::writer::{Rows, WriterMessage};

/// Where condemned events go.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    address: Address<WriterMessage>,
    staging: Option<Arc<str>>,
    requeued: Option<Arc<OpenLetters>>,
}

impl DeadLetters {
    /// Sends to the actor at `address`. In a replay into staging, `staging` is its id. In a
    /// requeue, `requeued` knows the letters that are being requeued.
    #[must_use]
    pub fn new(
        address: Address<WriterMessage>,
        staging: Option<Arc<str>>,
        requeued: Option<Arc<OpenLetters>>,
    ) -> Self {
        Self { address, staging, requeued }
    }

    /// Has condemned claims stored, and then settled. If the actor is dead, they come round again.
    pub fn store(&self, condemned: Vec<Claim>) {
        if condemned.is_empty() {
            return;
        }
        let failed_at = Timestamp::now();
        let rows = condemned.iter().filter_map(|claim| Some(self.letter(claim, failed_at)?.row()));
        let rows = rows.collect();
        let claims = condemned.into_iter().map(|claim| (claim, 1)).collect();
        let _ = self.address.send(WriterMessage::Write(Rows { rows, claims }));
    }

    fn letter(&self, claim: &Claim, failed_at: Timestamp) -> Option<DeadLetter> {
        let verdict = claim.verdict()?;
        let Verdict { stage, class, actor, processor, reason, salvaged, attempts } = &**verdict;
        let message = claim.message();
        let envelope = claim.delivery().envelope();
        let duty = claim.failed_duty()?;
        let staging = self.staging.as_deref();
        // Later than the failure that is being requeued, even if the clocks of the two processes
        // differ: the requeued mark of the old failure must not close this one.
        let before = self.requeued.as_ref().and_then(|all| all.failed_at(&message.id));
        let failed_at =
            before.map_or(failed_at, |at| failed_at.max(at.after(Duration::from_micros(1))));
        Some(DeadLetter {
            id: DeadLetter::id((&message.id, message.publish_time), *stage, duty, staging),
            event_id: envelope.map(|event| event.id.clone()).or_else(|| salvaged.id.clone()),
            event_type: envelope.map(|event| event.kind.clone()).or_else(|| salvaged.kind.clone()),
            stage: *stage,
            actor: actor.clone(),
            processor: processor.clone(),
            duty: duty.to_owned(),
            class: Some(class.to_string().into()),
            reason: reason.clone(),
            payload: message.payload.clone(),
            payload_object: None,
            attributes: message.attributes.clone(),
            message_id: message.id.clone(),
            publish_time: message.publish_time,
            failed_at,
            attempts: *attempts,
            requeued_at: None,
            purged_at: None,
            replay_id: staging.map(str::to_owned),
            ordering_key: message.ordering_key.clone(),
        })
    }
}
