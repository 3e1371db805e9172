//! Validates events: reads the envelope of each, and sends the invalid to the dead letters.
//!
//! Receives batches from the reader, sends them on to the router. Owns nothing between two
//! batches. If it crashes, the batches in its mailbox come round again, and the one in hand is
//! suspect.

use std::sync::Arc;

use super::dead_letter::DeadLetters;
use super::router::Route;
use crate::dead_letter_table::Stage;
use crate::delivery::{Claim, Salvaged, Verdict};
use crate::envelope::EnvelopePlan;
use crate::supervision::{Address, Me, Role, RoleError};
use crate::vitals::Board;

/// Claims of any duty but dead letter, to be parsed and sent their ways.
#[derive(Debug)]
pub struct Parse(pub Vec<Claim>);

/// The role.
#[derive(Clone)]
pub struct Parser {
    /// Where an event keeps its identity.
    pub envelope: Arc<EnvelopePlan>,
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
        for claim in claims {
            match self.envelope.read(&claim.message().payload) {
                Ok(envelope) => {
                    claim.delivery().keep_envelope(envelope);
                    valid.push(claim);
                }
                Err(why) => {
                    let verdict = Verdict {
                        stage: Stage::Parse,
                        actor: me.path().to_owned(),
                        processor: None,
                        reason: why.reason.into_owned(),
                        salvaged: Salvaged { id: why.id, kind: why.kind },
                        attempts: 1,
                    };
                    invalid.push(claim.condemn(verdict));
                }
            }
        }
        self.board.counters().invalid.add(invalid.len() as u64);
        self.dead_letters.store(invalid);
        if !valid.is_empty() {
            // A send that fails drops the claims: they come round again.
            let _ = self.router.send(Route(valid));
        }
        me.vitals().handled(events);
        Ok(())
    }
}
