//! Duties, and the number and size of the messages that wait for each.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use super::posting::Change;
use crate::vitals::Holding;

/// A duty to make a delivery durable in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Duty {
    /// To find its ways. Held until the claims of all ways exist.
    Route,
    /// To become rows of the processor with this index.
    Process(usize),
    /// Store the line in the archive.
    Archive,
    /// To be stored as a dead letter; the claim carries the [`Verdict`](super::Verdict).
    DeadLetter,
}

/// Open claims by duty.
#[derive(Debug)]
pub(super) struct Duties {
    route: Open,
    archive: Open,
    dead_letter: Open,
    processors: Vec<(String, Open)>,
}

/// Below 0 for a moment, where a claim's end is entered before its opening.
#[derive(Debug, Default)]
struct Open {
    messages: AtomicI64,
    bytes: AtomicI64,
}

impl Duties {
    pub(super) fn new(processors: impl IntoIterator<Item = String>) -> Self {
        Self {
            route: Open::default(),
            archive: Open::default(),
            dead_letter: Open::default(),
            processors: processors.into_iter().map(|name| (name, Open::default())).collect(),
        }
    }

    /// The processor that a duty is for.
    pub(super) fn processor(&self, duty: Duty) -> Option<&str> {
        match duty {
            Duty::Process(index) => self.processors.get(index).map(|(name, _)| &**name),
            Duty::Route | Duty::Archive | Duty::DeadLetter => None,
        }
    }

    pub(super) fn change(&self, duty: Duty, change: Change) {
        if let Some(open) = self.open(duty) {
            open.messages.fetch_add(change.messages, Relaxed);
            open.bytes.fetch_add(change.bytes, Relaxed);
        }
    }

    /// What each duty with open claims holds. An event with two open duties counts for both.
    pub(super) fn holdings(&self) -> Vec<Holding> {
        let named = [
            ("route".to_owned(), &self.route),
            ("archive".to_owned(), &self.archive),
            ("dead letter".to_owned(), &self.dead_letter),
        ];
        let processors =
            self.processors.iter().map(|(name, open)| (format!("processor {name}"), open));
        named
            .into_iter()
            .chain(processors)
            .map(|(duty, open)| Holding {
                duty,
                messages: u64::try_from(open.messages.load(Relaxed)).unwrap_or(0),
                bytes: u64::try_from(open.bytes.load(Relaxed)).unwrap_or(0),
            })
            .filter(|holding| holding.messages > 0)
            .collect()
    }

    fn open(&self, duty: Duty) -> Option<&Open> {
        match duty {
            Duty::Route => Some(&self.route),
            Duty::Archive => Some(&self.archive),
            Duty::DeadLetter => Some(&self.dead_letter),
            Duty::Process(index) => self.processors.get(index).map(|(_, open)| open),
        }
    }
}
