//! Validates events: reads the envelope of each, and sends the invalid to the dead letters.
//!
//! Receives batches from the reader, sends them on to the router. Owns nothing between two
//! batches. If it crashes, the batches in its mailbox come round again, and the one in hand is
//! suspect.

use std::sync::Arc;

use super::dead_letter::DeadLetters;
use super::router::Route;
use crate::dead_letter_table::Stage;
use crate::delivery::{Claim, Posting, Salvaged, Verdict};
use crate::envelope::{Envelope, EnvelopePlan, Invalid};
use crate::replay::ReplayRange;
use crate::supervision::{Address, Me, Role, RoleError};
use crate::vitals::{Board, Outcome, Step};

/// Claims of any duty but dead letter, to be parsed and sent their ways.
#[derive(Debug)]
pub struct Parse(pub Vec<Claim>);

/// The role.
#[derive(Clone)]
pub struct Parser {
    /// Where an event keeps its identity.
    pub envelope: Arc<EnvelopePlan>,
    /// Only events of this time of their own are processed; the others are settled.
    pub event_time: Option<ReplayRange>,
    /// Where valid events go.
    pub router: Address<Route>,
    /// Where invalid ones go.
    pub dead_letters: DeadLetters,
    /// Where they are counted.
    pub board: Arc<Board>,
}

impl Role for Parser {
    type Message = Parse;

    async fn handle(&mut self, Parse(claims): Parse, me: &Me<Parse>) -> Result<(), RoleError> {
        let events = claims.len() as u64;
        let mut valid = Vec::with_capacity(claims.len());
        let mut invalid = Vec::new();
        let mut posting = Posting::default();
        let mut left_out = 0;
        for claim in claims {
            let read = self.envelope.read(&claim.message().payload);
            if !self.selects(&read) {
                left_out += 1;
                posting.settle(claim);
                continue;
            }
            match read {
                Ok(envelope) => {
                    claim.delivery().keep_envelope(envelope);
                    valid.push(claim);
                }
                Err(why) => {
                    let verdict = Verdict {
                        stage: Stage::Parse,
                        actor: me.path().to_owned(),
                        processor: None,
                        class: why.class,
                        reason: why.reason.into_owned(),
                        salvaged: Salvaged { id: why.id, kind: why.kind },
                        attempts: 1,
                    };
                    invalid.push(claim.condemn(verdict));
                }
            }
        }
        drop(posting);
        self.board.counters().left_out.add(left_out);
        let counters = self.board.counters();
        counters.invalid.add(invalid.len() as u64);
        counters.attempts.add(Step::Parse, Outcome::Done, valid.len() as u64);
        counters.attempts.add(Step::Parse, Outcome::Refused, invalid.len() as u64);
        self.dead_letters.store(invalid);
        if !valid.is_empty() {
            // A send that fails drops the claims: they come round again.
            let _ = self.router.send(Route(valid));
        }
        me.vitals().handled(events);
        Ok(())
    }
}

impl Parser {
    /// Whether the event's own time is in the range. An unreadable event has no time.
    fn selects(&self, read: &Result<Envelope, Invalid>) -> bool {
        let Some(range) = self.event_time else { return true };
        read.as_ref().is_ok_and(|envelope| range.holds(envelope.time))
    }
}
