//! Counters of the pipeline, from its start.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::attempts::Attempts;
use super::histogram::Histogram;
use super::lock;
use crate::dead_letter_table::Stage;
use crate::fault_class::FaultClass;
use crate::port::Backlog;
use crate::time::Timestamp;

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The count so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A level that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Notes the level.
    pub fn set(&self, level: u64) {
        self.0.store(level, Relaxed);
    }

    /// The level last noted.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The counters of one pipeline.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages taken from the log; a repeat of one in flight does not count.
    pub received: Counter,
    /// Messages acknowledged to the log.
    pub acked: Counter,
    /// Claims delivered again because their actor died.
    pub redelivered: Counter,
    /// Events that the parser found invalid.
    pub invalid: Counter,
    /// Events outside the range of event time that a replay selects.
    pub left_out: Counter,
    /// Events stored in the archive.
    pub archived: Counter,
    /// Dead letters whose content was removed because of their age.
    pub letters_purged: Counter,
    /// Events that no processor takes: archived, nothing else.
    pub unrouted: Counter,
    /// Messages given back to the log unacknowledged.
    pub given_back: Counter,
    /// Acknowledgements that the log did not take, though they were sent.
    pub lost_acknowledgements: Gauge,
    /// Attempts by step and outcome.
    pub attempts: Attempts,
    /// From the first event of an archive part until the part was stored.
    pub part_time: Histogram,
    /// The time of an upload of a part that succeeded.
    pub upload_time: Histogram,
    /// Messages not yet acknowledged.
    pub in_flight_messages: Gauge,
    /// Bytes charged for them: payloads, and the rows made from them.
    pub in_flight_bytes: Gauge,
    letters: Mutex<BTreeMap<(&'static str, FaultClass), u64>>,
    rows: Mutex<BTreeMap<String, Arc<Counter>>>,
    rows_superseded: Mutex<BTreeMap<String, Arc<Counter>>>,
    backlog: Mutex<Option<(Timestamp, Backlog)>>,
}

impl Counters {
    /// Counts one dead letter that is stored.
    pub fn count_letter(&self, stage: Stage, class: &FaultClass) {
        *lock(&self.letters).entry((stage.name(), class.clone())).or_default() += 1;
    }

    /// Dead letters stored so far, by stage and class.
    #[must_use]
    pub fn letters_by_class(&self) -> BTreeMap<(&'static str, FaultClass), u64> {
        lock(&self.letters).clone()
    }

    /// Dead letters stored so far.
    #[must_use]
    pub fn dead_lettered(&self) -> u64 {
        lock(&self.letters).values().sum()
    }

    /// The count of rows committed to `table`, registered at the first call.
    pub fn rows(&self, table: &str) -> Arc<Counter> {
        Arc::clone(lock(&self.rows).entry(table.to_owned()).or_default())
    }

    /// The count of rows that a newer version kept out of `table`, registered at the first call.
    pub fn rows_superseded(&self, table: &str) -> Arc<Counter> {
        Arc::clone(lock(&self.rows_superseded).entry(table.to_owned()).or_default())
    }

    /// Records the backlog that the log reports now.
    pub fn set_backlog(&self, backlog: Backlog) {
        *lock(&self.backlog) = Some((Timestamp::now(), backlog));
    }

    /// Returns the last recorded backlog of the log, with the time of the record.
    #[must_use]
    pub fn backlog(&self) -> Option<(Timestamp, Backlog)> {
        *lock(&self.backlog)
    }

    /// Rows committed so far, by table.
    #[must_use]
    pub fn rows_by_table(&self) -> BTreeMap<String, u64> {
        by_table(&self.rows)
    }

    /// Rows that a newer version kept out so far, by table.
    #[must_use]
    pub fn rows_superseded_by_table(&self) -> BTreeMap<String, u64> {
        by_table(&self.rows_superseded)
    }
}

fn by_table(counters: &Mutex<BTreeMap<String, Arc<Counter>>>) -> BTreeMap<String, u64> {
    lock(counters).iter().map(|(table, rows)| (table.clone(), rows.get())).collect()
}
