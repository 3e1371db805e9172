//! Stores what is invalid, whole and with the reason.
//!
//! The actor is a [`Writer`](super::writer::Writer) of the table `dead_letters`; this is how the
//! others reach it. If it crashes, the condemned events it held come round again, to it alone.

use std::sync::Arc;

use crate::dead_letter_table::DeadLetter;
use crate::delivery::{Claim, Verdict};
use crate::supervision::Address;
use crate::time::Timestamp;

use super::writer::{Rows, WriterMessage};

/// Where condemned events go.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    address: Address<WriterMessage>,
    replay: Option<Arc<str>>,
}

impl DeadLetters {
    /// Those of the actor at `address`, marked with the id of the replay, if this is one.
    #[must_use]
    pub fn new(address: Address<WriterMessage>, replay: Option<Arc<str>>) -> Self {
        Self { address, replay }
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
        let Verdict { stage, actor, processor, reason, salvaged, attempts } = &**claim.verdict()?;
        let message = claim.message();
        let envelope = claim.delivery().envelope();
        let duty = processor.as_deref().unwrap_or_default();
        Some(DeadLetter {
            id: DeadLetter::id(&message.id, *stage, duty),
            event_id: envelope.map(|event| event.id.clone()).or_else(|| salvaged.id.clone()),
            event_type: envelope.map(|event| event.kind.clone()).or_else(|| salvaged.kind.clone()),
            stage: *stage,
            actor: actor.clone(),
            processor: processor.clone(),
            reason: reason.clone(),
            payload: message.payload.clone(),
            attributes: message.attributes.clone(),
            message_id: message.id.clone(),
            publish_time: message.publish_time,
            failed_at,
            attempts: *attempts,
            requeued_at: None,
            replay_id: self.replay.as_deref().map(str::to_owned),
            ordering_key: message.ordering_key.clone(),
        })
    }
}
