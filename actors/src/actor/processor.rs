//! Turns events into the rows of one table.
//!
//! Receives claims from the router, sends rows with their claims to the table's writer, and the
//! events that make no proper row to the dead letters. Owns nothing between two batches. If it
//! crashes, the batches in its mailbox come round again, to this processor alone, and the one in
//! hand is suspect.
//!
//! A batch is worked off in pieces of bounded bytes, each charged before its rows exist and sent on
//! before the next, so that a few events that explode into many rows never fill the memory.

use std::collections::HashSet;
use std::iter::Peekable;
use std::sync::Arc;
use std::vec::IntoIter;

use super::dead_letter::DeadLetters;
use super::writer::{Rows, WriterMessage};
use crate::dead_letter_table::Stage;
use crate::delivery::{Claim, Ledger, Posting, Salvaged, Verdict};
use crate::fault_class::FaultClass;
use crate::processor::{BadRow, EventView, Processor, make_rows_within};
use crate::row::Row;
use crate::supervision::{Address, Me, Role, RoleError};
use crate::time::Timestamp;
use crate::vitals::{Board, Outcome, Step};

/// Claims of events for this processor.
#[derive(Debug)]
pub struct Process(pub Vec<Claim>);

/// Events that a processor fails at, by their ids: fault injection.
#[derive(Clone, Debug, Default)]
pub struct EventFaults {
    /// Events that panic the processor that meets them.
    pub panic_on: HashSet<String>,
    /// Events that abort the process.
    pub abort_on: HashSet<String>,
    /// Texts of payloads whose whole dead letters abort the process.
    pub abort_on_letter: Vec<String>,
}

/// The role.
#[derive(Clone)]
pub struct ProcessorActor {
    /// The rule that makes the rows.
    pub processor: Arc<dyn Processor>,
    /// The table's writer.
    pub writer: Address<WriterMessage>,
    /// The account that rows are charged to.
    pub ledger: Arc<Ledger>,
    /// Where events go that make no proper row.
    pub dead_letters: DeadLetters,
    /// Events to fail at: fault injection.
    pub faults: Arc<EventFaults>,
    /// Where attempts are counted.
    pub board: Arc<Board>,
}

impl Role for ProcessorActor {
    type Message = Process;

    async fn handle(
        &mut self,
        Process(claims): Process,
        me: &Me<Process>,
    ) -> Result<(), RoleError> {
        let now = Timestamp::now();
        let mut claims = claims.into_iter().peekable();
        while claims.peek().is_some() {
            let account = self.ledger.account();
            let waits = me.vitals().waits();
            account.room_for_rows().await;
            drop(waits);
            let before = claims.len();
            self.process_piece(&mut claims, account.piece_bytes(), now, me);
            if claims.len() == before {
                // The next event alone is larger than a piece.
                let waits = me.vitals().waits();
                let _turn = account.room_for_large_event().await;
                drop(waits);
                self.process_piece(&mut claims, self.processor.max_bytes_per_event(), now, me);
            }
        }
        Ok(())
    }
}

impl ProcessorActor {
    /// Makes the rows of the first claims and sends them on, until they are a piece or the rows of
    /// the next event take more than `max_bytes`.
    fn process_piece(
        &self,
        claims: &mut Peekable<IntoIter<Claim>>,
        max_bytes: u64,
        now: Timestamp,
        me: &Me<Process>,
    ) {
        let account = self.ledger.account();
        let piece_bytes = account.piece_bytes();
        let reserved = account.reserve_rows(piece_bytes + max_bytes);
        let (mut made, mut bad, mut bytes) = (Rows::default(), Vec::new(), 0);
        let mut posting = Posting::default();
        let before = claims.len();
        while bytes < piece_bytes
            && let Some(claim) = claims.peek()
        {
            let rows = self.make_rows(claim, max_bytes, now, &mut made.rows);
            if matches!(rows, Err(BadRow::TooManyBytes { max }) if max < self.processor.max_bytes_per_event())
            {
                break;
            }
            let Some(mut claim) = claims.next() else { break };
            match rows {
                Ok(0) => posting.settle(claim),
                Ok(count) => {
                    let new = &made.rows[made.rows.len() - count..];
                    let cost = new.iter().map(Row::cost_bytes).sum();
                    bytes += cost;
                    posting.charge(&mut claim, cost);
                    made.claims.push((claim, count));
                }
                Err(reason) => bad.push(self.condemn(claim, &reason, me.path())),
            }
        }
        drop(posting);
        drop(reserved);
        let handled = (before - claims.len()) as u64;
        let attempts = &self.board.counters().attempts;
        attempts.add(Step::Process, Outcome::Done, handled - bad.len() as u64);
        attempts.add(Step::Process, Outcome::Refused, bad.len() as u64);
        self.dead_letters.store(bad);
        if !made.claims.is_empty() {
            // A send that fails drops the claims: they come round again.
            let _ = self.writer.send(WriterMessage::Write(made));
        }
        me.vitals().handled(handled);
    }

    /// Appends the event's rows, all or none. Answers how many.
    fn make_rows(
        &self,
        claim: &Claim,
        max_bytes: u64,
        now: Timestamp,
        rows: &mut Vec<Row>,
    ) -> Result<usize, BadRow> {
        let Some(envelope) = claim.delivery().envelope() else {
            unreachable!("the router sends parsed events only")
        };
        self.fail_if_ordered(&envelope.id);
        let event = EventView { message: claim.message(), envelope };
        let max_bytes = max_bytes.min(self.processor.max_bytes_per_event());
        make_rows_within(&*self.processor, max_bytes, &event, now, rows)
    }

    #[expect(clippy::panic, reason = "fault injection")]
    fn fail_if_ordered(&self, id: &str) {
        let EventFaults { panic_on, abort_on, .. } = &*self.faults;
        if !panic_on.is_empty() && panic_on.contains(id) {
            panic!("event {id} is listed in faults.panic_on");
        }
        if !abort_on.is_empty() && abort_on.contains(id) {
            tracing::error!(event = id, "the event is listed in faults.abort_on");
            std::process::abort();
        }
    }

    fn condemn(&self, claim: Claim, bad: &BadRow, actor: &str) -> Claim {
        claim.condemn(Verdict {
            stage: Stage::Process,
            class: FaultClass::bad_row(&*self.processor, bad),
            actor: actor.to_owned(),
            processor: Some(self.processor.name().to_owned()),
            reason: bad.to_string(),
            salvaged: Salvaged::default(),
            attempts: 1,
        })
    }
}
