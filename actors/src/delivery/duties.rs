//! Duties, and the number and size of the messages that wait for each.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::posting::Change;
use crate::time::Timestamp;
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

/// The open claims of one duty.
#[derive(Debug, Default)]
struct Open(Mutex<Sums>);

/// Below 0 for a moment, where a claim's end is entered before its opening.
#[derive(Debug, Default)]
struct Sums {
    messages: i64,
    bytes: i64,
    /// Messages by their publish time, rounded down.
    times: BTreeMap<Timestamp, i64>,
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

    pub(super) fn change(&self, duty: Duty, change: &Change) {
        if let Some(open) = self.open(duty) {
            open.sums().change(change);
        }
    }

    /// Publish time of the oldest message that waits for this duty, rounded down.
    pub(super) fn oldest(&self, duty: Duty) -> Option<Timestamp> {
        self.open(duty)?.sums().times.first_key_value().map(|(time, _)| *time)
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
            .map(|(duty, open)| {
                let sums = open.sums();
                Holding {
                    duty,
                    messages: u64::try_from(sums.messages).unwrap_or(0),
                    bytes: u64::try_from(sums.bytes).unwrap_or(0),
                }
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

impl Open {
    fn sums(&self) -> MutexGuard<'_, Sums> {
        // A panic elsewhere leaves the sums whole: only plain additions are made under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sums {
    fn change(&mut self, change: &Change) {
        self.messages += change.messages();
        self.bytes += change.bytes();
        for &(time, messages) in change.times() {
            let open = self.times.entry(time).or_default();
            *open += messages;
            if *open == 0 {
                self.times.remove(&time);
            }
        }
    }
}
