//! Sends each valid event its ways: to the processors of its type, and to the archive.
//!
//! Receives parsed batches, sends to processors and the archive keeper. Owns nothing between two
//! batches. If it crashes, the batches in its mailbox come round again, and the one in hand is
//! suspect.

use std::sync::Arc;

use super::archive::KeeperMessage;
use super::processor::Process;
use crate::dead_letter_table;
use crate::delivery::{Claim, Duty, Posting};
use crate::processor::Matcher;
use crate::replay::OpenLetters;
use crate::supervision::{Address, Me, Role, RoleError};
use crate::vitals::Board;

/// Claims of parsed events: with a route duty to find all ways, with another to go that one.
#[derive(Debug)]
pub struct Route(pub Vec<Claim>);

/// The role.
#[derive(Clone)]
pub struct Router {
    /// Which processors take which types; behind the processors here, those that run elsewhere.
    pub matcher: Arc<Matcher>,
    /// The processors that see every event.
    pub observers: Vec<usize>,
    /// The dead letters that are being requeued, each to the duty that failed.
    pub requeued: Option<Arc<OpenLetters>>,
    /// The processors' names, by index.
    pub names: Vec<String>,
    /// The processors, by index.
    pub processors: Vec<Address<Process>>,
    /// The archive, unless history is replayed.
    pub archive: Option<Address<KeeperMessage>>,
    /// Where events without a processor are counted.
    pub board: Arc<Board>,
}

/// One batch, sorted by way.
struct Sorted {
    process: Vec<Vec<Claim>>,
    archive: Vec<Claim>,
}

impl Role for Router {
    type Message = Route;

    async fn handle(&mut self, Route(claims): Route, me: &Me<Route>) -> Result<(), RoleError> {
        let events = claims.len() as u64;
        let mut sorted = Sorted {
            process: self.processors.iter().map(|_| Vec::new()).collect(),
            archive: Vec::new(),
        };
        let (mut ways, mut duties) = (Vec::new(), Vec::new());
        let mut posting = Posting::default();
        for claim in claims {
            if claim.duty() == Duty::Route {
                self.find_ways(&claim, &mut ways, &mut duties);
                posting.split(claim, &duties, |way| sorted.add(way));
            } else {
                sorted.add(claim);
            }
        }
        drop(posting);
        self.send(sorted);
        me.vitals().handled(events);
        Ok(())
    }
}

impl Router {
    /// Puts the event's duties into `duties`; `ways` is room to work in.
    fn find_ways(&self, claim: &Claim, ways: &mut Vec<usize>, duties: &mut Vec<Duty>) {
        let kind = claim.delivery().envelope().map_or("", |envelope| &envelope.kind);
        self.matcher.ways(kind, ways);
        if ways.is_empty() {
            self.board.counters().unrouted.add(1);
        }
        ways.retain(|&way| way < self.processors.len());
        duties.clear();
        let to_archive = self.archive.is_some() && !claim.message().archived;
        let failed = self.requeued.as_ref().and_then(|all| all.only(&claim.message().id));
        if let Some(failed) = failed {
            // The other duties are done. A processor that no longer takes the type makes no row.
            ways.retain(|&way| self.names.get(way).is_some_and(|name| *name == failed));
            duties.extend(ways.iter().map(|&processor| Duty::Process(processor)));
            let to_archive = to_archive && failed == dead_letter_table::ARCHIVE;
            duties.extend(to_archive.then_some(Duty::Archive));
            return;
        }
        ways.extend_from_slice(&self.observers);
        duties.extend(ways.iter().map(|&processor| Duty::Process(processor)));
        duties.extend(to_archive.then_some(Duty::Archive));
    }

    /// A send that fails drops the claims: they come round again.
    fn send(&self, sorted: Sorted) {
        for (processor, claims) in self.processors.iter().zip(sorted.process) {
            if !claims.is_empty() {
                let _ = processor.send(Process(claims));
            }
        }
        if let Some(archive) = self.archive.as_ref().filter(|_| !sorted.archive.is_empty()) {
            let _ = archive.send(KeeperMessage::Archive(sorted.archive));
        }
    }
}

impl Sorted {
    fn add(&mut self, claim: Claim) {
        match claim.duty() {
            Duty::Process(index) => match self.process.get_mut(index) {
                Some(claims) => claims.push(claim),
                None => unreachable!("duties are opened for the processors of this pipeline"),
            },
            Duty::Archive => self.archive.push(claim),
            Duty::Route | Duty::DeadLetter => {
                unreachable!("routes end in split, and the reader sends dead letters straight")
            }
        }
    }
}
