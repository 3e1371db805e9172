//! Stores invalid events, unchanged and with the reason.
//!
//! The actor is a [`Writer`](super::writer::Writer) of the table `dead_letters`; this file is the interface for the other
//! actors. If it crashes, its events are delivered again, to it alone.
//!
//! A letter that crashes the actor or the process when it is stored is stored in a bare form: the
//! payload goes to an object of the archive as it is, and the row names the object. The row holds
//! nothing of the event but its attributes and ordering key.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::dead_letter_table::{self, DeadLetter};
use crate::delivery::{Claim, Verdict};
use crate::port::ArchiveStore;
use crate::replay::OpenLetters;
use crate::supervision::Address;
use crate::time::Timestamp;

use super::writer::{Rows, WriterMessage};

/// Where condemned events go.
#[derive(Clone)]
pub struct DeadLetters {
    /// The actor.
    pub address: Address<WriterMessage>,
    /// Takes the payloads of bare letters.
    pub payloads: Arc<dyn ArchiveStore>,
    /// The id of a replay into staging.
    pub staging: Option<Arc<str>>,
    /// The letters that are being requeued, in a requeue.
    pub requeued: Option<Arc<OpenLetters>>,
    /// Texts of payloads whose whole letters abort the process: fault injection.
    pub abort_on: Vec<String>,
}

impl std::fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetters").field("staging", &self.staging).finish_non_exhaustive()
    }
}

impl DeadLetters {
    /// Has condemned claims stored, and then settled. If the actor is dead, they come round again.
    pub fn store(&self, condemned: Vec<Claim>) {
        let (bare, whole): (Vec<_>, Vec<_>) = condemned.into_iter().partition(Claim::is_bare);
        for claim in bare {
            let this = self.clone();
            tokio::spawn(async move { this.store_bare(claim).await });
        }
        if whole.is_empty() {
            return;
        }
        let failed_at = Timestamp::now();
        let rows = whole.iter().filter_map(|claim| {
            self.abort_if_ordered(claim);
            Some(self.letter(claim, failed_at)?.row())
        });
        let rows = rows.collect();
        let claims = whole.into_iter().map(|claim| (claim, 1)).collect();
        let _ = self.address.send(WriterMessage::Write(Rows { rows, claims }));
    }

    /// Has a claim stored in the bare form. The payload is durable before the row that names it. If
    /// the archive does not take it now, the claim is dropped and comes round again.
    async fn store_bare(&self, claim: Claim) {
        let Some(letter) = self.letter(&claim, Timestamp::now()) else { return };
        let object = dead_letter_table::object_of(&letter.id);
        let payload = claim.message().payload.clone();
        if let Err(error) = self.payloads.put_if_absent(&object, payload).await {
            tracing::warn!(%error, object, "the payload of a dead letter cannot be stored now");
            return;
        }
        let class = letter.class.as_deref().unwrap_or_default();
        let reason = format!(
            "{class}; storing the whole letter crashed: its reason is left out, and its payload is \
             the archive's object {object}"
        );
        tracing::warn!(id = letter.id, reason, "a dead letter is stored in its bare form");
        let bare = DeadLetter {
            event_id: None,
            event_type: None,
            payload: Bytes::new(),
            payload_object: Some(object),
            reason,
            ..letter
        };
        let _ = self
            .address
            .send(WriterMessage::Write(Rows { rows: vec![bare.row()], claims: vec![(claim, 1)] }));
    }

    fn abort_if_ordered(&self, claim: &Claim) {
        let payload = &claim.message().payload;
        let holds = |text: &String| payload.windows(text.len()).any(|it| it == text.as_bytes());
        if self.abort_on.iter().filter(|text| !text.is_empty()).any(holds) {
            tracing::error!("the letter is listed in faults.abort_on_letter");
            std::process::abort();
        }
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
