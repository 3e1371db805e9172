//! The board: every actor of one pipeline, its counters and its phase.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::actor::{Trouble, Vitals};
use super::announcer::{Announcement, Announcer};
use super::counters::Counters;
use super::lock;
use super::snapshot::Snapshot;
use crate::time::Timestamp;

/// The phase of the daemon between its start and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Backends are opened, actors started.
    Starting,
    /// Events flow.
    Running,
    /// The reader has stopped; events in flight are settled or returned.
    Draining,
}

/// The part of the memory budget that one duty holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// The duty, as in `processor orders` or `archive`.
    pub duty: String,
    /// Messages that wait for it.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Returns the holders of the memory budget at the moment of the call.
pub type Holdings = Box<dyn Fn() -> Vec<Holding> + Send + Sync>;

/// The actors of one pipeline. Pipelines side by side have a board each.
pub struct Board {
    started: Instant,
    phase: AtomicU8,
    counters: Counters,
    instance: Mutex<String>,
    actors: Mutex<BTreeMap<String, Arc<Vitals>>>,
    troubles: Mutex<BTreeMap<String, Trouble>>,
    warnings: Mutex<Vec<String>>,
    holdings: Mutex<Option<Arc<Holdings>>>,
    announcer: Mutex<Announcer>,
}

impl Board {
    /// An empty board in [`Phase::Starting`]; uptime counts from here.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            phase: AtomicU8::new(Phase::Starting as u8),
            counters: Counters::default(),
            instance: Mutex::default(),
            actors: Mutex::default(),
            troubles: Mutex::default(),
            warnings: Mutex::default(),
            holdings: Mutex::default(),
            announcer: Mutex::default(),
        })
    }

    /// The entry of the actor at `path`, registered at the first call: a restarted actor goes on
    /// with the counts of its last life.
    pub fn actor(&self, path: &str, kind: &'static str) -> Arc<Vitals> {
        let mut actors = lock(&self.actors);
        let entry =
            actors.entry(path.to_owned()).or_insert_with(|| Arc::new(Vitals::new(path, kind)));
        Arc::clone(entry)
    }

    /// The entry of the actor at `path`, if one is registered.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<Arc<Vitals>> {
        lock(&self.actors).get(path).cloned()
    }

    /// The paths of all registered actors, a parent before its children.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.entries().iter().map(|vitals| vitals.path().to_owned()).collect()
    }

    /// Strikes an actor that is gone for good, such as a closed window's.
    pub fn remove(&self, path: &str) {
        lock(&self.actors).remove(path);
    }

    /// The pipeline's counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Moves the daemon to its next phase.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    /// Returns the phase of the daemon.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Running,
            _ => Phase::Draining,
        }
    }

    /// Names this daemon.
    pub fn set_instance(&self, name: &str) {
        name.clone_into(&mut lock(&self.instance));
    }

    /// Notes that `what` (the event log, say), which is no actor, cannot be used at present: the
    /// daemon is degraded until [`Board::recovered`].
    pub fn trouble(&self, what: &str, reason: impl Into<String>, waiting: u64) {
        let mut troubles = lock(&self.troubles);
        let trouble = Trouble::after(troubles.get(what), reason.into(), waiting);
        troubles.insert(what.to_owned(), trouble);
    }

    /// `what` can be used again.
    pub fn recovered(&self, what: &str) {
        lock(&self.troubles).remove(what);
    }

    /// Adds a warning that stays in status for as long as the daemon runs.
    pub fn warn(&self, text: impl Into<String>) {
        lock(&self.warnings).push(text.into());
    }

    /// Registers the function that lists the holders of the memory budget. Called for each snapshot.
    pub fn set_holdings(&self, holdings: Holdings) {
        *lock(&self.holdings) = Some(Arc::new(holdings));
    }

    /// Reads every actor's count for its rate over a minute. To be called each second.
    pub fn sample(&self, now: Instant) {
        for vitals in self.entries() {
            vitals.sample(now);
        }
    }

    /// Logs the faults that began or ended since the last call, and each minute those that last. To
    /// be called each second: a shorter fault may pass unlogged.
    pub fn announce(&self) {
        let news = lock(&self.announcer).announce(self, Timestamp::now());
        news.iter().for_each(Announcement::log);
    }

    /// Everything the board knows, at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(self)
    }

    /// All actors, a parent before its children: by path, name for name.
    pub(super) fn entries(&self) -> Vec<Arc<Vitals>> {
        let mut entries: Vec<_> = lock(&self.actors).values().cloned().collect();
        entries.sort_by(|a, b| a.path().split('/').cmp(b.path().split('/')));
        entries
    }

    /// Returns all troubles: of actors by their paths, and of other parts.
    pub(super) fn all_troubles(&self) -> Vec<(String, Trouble)> {
        let others: Vec<_> = lock(&self.troubles)
            .iter()
            .map(|(what, trouble)| (what.clone(), trouble.clone()))
            .collect();
        let actors = self
            .entries()
            .into_iter()
            .filter_map(|vitals| Some((vitals.path().to_owned(), vitals.current_trouble()?)));
        others.into_iter().chain(actors).collect()
    }

    pub(super) fn uptime_seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    pub(super) fn instance(&self) -> String {
        lock(&self.instance).clone()
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        lock(&self.warnings).clone()
    }

    /// Asked outside the lock: the answer may take locks of its own.
    pub(super) fn holdings(&self) -> Vec<Holding> {
        let ask = lock(&self.holdings).clone();
        ask.map_or_else(Vec::new, |holdings| holdings())
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("phase", &self.phase()).finish_non_exhaustive()
    }
}
