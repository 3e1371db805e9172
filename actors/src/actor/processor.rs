//! Turns events into the rows of one table.
//!
//! Receives claims from the router, sends rows with their claims to the table's writer, and the
//! events that make no proper row to the dead letters. Owns nothing between two batches. If it
//! crashes, the batches in its mailbox come round again, to this processor alone, and the one in
//! hand is suspect.

use std::collections::HashSet;
use std::sync::Arc;

use super::dead_letter::DeadLetters;
use super::writer::{Rows, WriterMessage};
use crate::dead_letter_table::Stage;
use crate::delivery::{Claim, Posting, Salvaged, Verdict};
use crate::processor::{EventView, Processor, make_rows};
use crate::row::Row;
use crate::supervision::{Address, Me, Role, RoleError};
use crate::time::Timestamp;

/// Claims of events for this processor.
#[derive(Debug)]
pub struct Process(pub Vec<Claim>);

/// The role.
#[derive(Clone)]
pub struct ProcessorActor {
    /// What makes the rows.
    pub processor: Arc<dyn Processor>,
    /// The table's writer.
    pub writer: Address<WriterMessage>,
    /// Where events go that make no proper row.
    pub dead_letters: DeadLetters,
    /// Ids of events to panic at: fault injection.
    pub panic_on: Arc<HashSet<String>>,
}

impl Role for ProcessorActor {
    type Message = Process;

    async fn handle(
        &mut self,
        Process(claims): Process,
        me: &Me<Process>,
    ) -> Result<(), RoleError> {
        let events = claims.len() as u64;
        let now = Timestamp::now();
        let mut made = Rows::default();
        let mut bad = Vec::new();
        let mut posting = Posting::default();
        for mut claim in claims {
            match self.make_rows(&claim, now, &mut made.rows) {
                Ok(0) => posting.settle(claim),
                Ok(count) => {
                    let new = &made.rows[made.rows.len() - count..];
                    posting.charge(&mut claim, new.iter().map(Row::cost_bytes).sum());
                    made.claims.push((claim, count));
                }
                Err(reason) => bad.push(self.condemn(claim, reason, me.path())),
            }
        }
        drop(posting);
        self.dead_letters.store(bad);
        if !made.claims.is_empty() {
            // A send that fails drops the claims: they come round again.
            let _ = self.writer.send(WriterMessage::Write(made));
        }
        me.vitals().handled(events);
        Ok(())
    }
}

impl ProcessorActor {
    /// Appends the event's rows, all or none. Answers how many.
    fn make_rows(
        &self,
        claim: &Claim,
        now: Timestamp,
        rows: &mut Vec<Row>,
    ) -> Result<usize, String> {
        let Some(envelope) = claim.delivery().envelope() else {
            unreachable!("what comes from the router was parsed")
        };
        self.panic_if_ordered(&envelope.id);
        let event = EventView { message: claim.message(), envelope };
        make_rows(&*self.processor, &event, now, rows).map_err(|bad| bad.to_string())
    }

    #[expect(clippy::panic, reason = "fault injection: to panic is what was ordered")]
    fn panic_if_ordered(&self, id: &str) {
        if !self.panic_on.is_empty() && self.panic_on.contains(id) {
            panic!("event {id} is listed in faults.panic_on");
        }
    }

    fn condemn(&self, claim: Claim, reason: String, actor: &str) -> Claim {
        claim.condemn(Verdict {
            stage: Stage::Process,
            actor: actor.to_owned(),
            processor: Some(self.processor.name().to_owned()),
            reason,
            salvaged: Salvaged::default(),
            attempts: 1,
        })
    }
}
