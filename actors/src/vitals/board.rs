//! The board: every actor of one pipeline, its counters and its phase.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::actor::{Trouble, Vitals};
use super::announcer::{Announcement, Announcer};
use super::calls::Calls;
use super::counters::Counters;
use super::lock;
use super::read_mark::ReadMark;
use super::series::{self, AllSeries};
use super::snapshot::Snapshot;
use super::table::{Freshness, Missed, TableMeter};
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

/// The messages on loan at one moment, by the work that waits for them.
#[derive(Clone, Debug, Default)]
pub struct OnLoan {
    /// What each duty holds of the permits.
    pub holdings: Vec<Holding>,
    /// Publish time of the oldest event whose tables are not known yet.
    pub unrouted: Option<Timestamp>,
    /// Each table with the publish time of the oldest event that is to become its rows.
    pub tables: Vec<(String, Option<Timestamp>)>,
}

/// Returns the messages on loan at the moment of the call.
pub type AskOnLoan = Box<dyn Fn() -> OnLoan + Send + Sync>;

/// The actors of one pipeline. Pipelines side by side have a board each.
pub struct Board {
    started: Instant,
    phase: AtomicU8,
    counters: Counters,
    instance: Mutex<String>,
    actors: Mutex<BTreeMap<String, Arc<Vitals>>>,
    troubles: Mutex<BTreeMap<String, Trouble>>,
    /// Of callers that are no actors.
    calls: Mutex<BTreeMap<&'static str, Arc<Calls>>>,
    stalls: Mutex<BTreeMap<&'static str, Trouble>>,
    warnings: Mutex<Vec<String>>,
    on_loan: Mutex<Option<Arc<AskOnLoan>>>,
    tables: Mutex<BTreeMap<String, Arc<TableMeter>>>,
    read_mark: ReadMark,
    /// Counts of actors that are gone.
    gone: Mutex<AllSeries>,
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
            calls: Mutex::default(),
            stalls: Mutex::default(),
            warnings: Mutex::default(),
            on_loan: Mutex::default(),
            tables: Mutex::default(),
            read_mark: ReadMark::default(),
            gone: Mutex::default(),
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

    /// Strikes an actor that is gone for good, such as a closed window's. Its counts stay in the totals
    /// of its kind.
    pub fn remove(&self, path: &str) {
        let mut gone = lock(&self.gone);
        if let Some(vitals) = lock(&self.actors).remove(path) {
            series::add_gone(&mut gone, &vitals);
        }
    }

    /// Totals of the actors by their label in metrics, see [`series_of`](super::series_of).
    #[must_use]
    pub fn actor_series(&self) -> AllSeries {
        // Held: an actor that is removed meanwhile counts once.
        let gone = lock(&self.gone);
        let mut all = gone.clone();
        self.entries().iter().for_each(|vitals| series::add(&mut all, vitals));
        all
    }

    /// The measurements of a table, registered at the first call. `objective` limits how far its rows may
    /// be behind.
    pub fn table(&self, name: &str, objective: Option<Duration>) -> Arc<TableMeter> {
        let mut tables = lock(&self.tables);
        let meter =
            tables.entry(name.to_owned()).or_insert_with(|| Arc::new(TableMeter::new(objective)));
        Arc::clone(meter)
    }

    /// The measurements of all tables.
    #[must_use]
    pub fn tables(&self) -> BTreeMap<String, Arc<TableMeter>> {
        lock(&self.tables).clone()
    }

    /// Notes that messages were read from the log, the newest of them published at this time.
    pub fn log_was_read(&self, newest: Timestamp) {
        self.read_mark.read_up_to(newest);
    }

    /// Notes that the log had nothing to hand out at this time.
    pub fn log_is_empty(&self, now: Timestamp) {
        self.read_mark.found_empty(now);
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

    /// The calls on backends of a caller that is no actor, by the name that status shows.
    pub fn calls(&self, what: &'static str) -> Arc<Calls> {
        Arc::clone(lock(&self.calls).entry(what).or_default())
    }

    /// All callers that are no actors.
    pub(super) fn callers(&self) -> Vec<(&'static str, Arc<Calls>)> {
        lock(&self.calls).iter().map(|(&what, calls)| (what, Arc::clone(calls))).collect()
    }

    /// Notes that `what`, which is no actor, hangs.
    pub(super) fn stall(&self, what: &'static str, trouble: Trouble) {
        lock(&self.stalls).insert(what, trouble);
    }

    /// `what` does not hang any more.
    pub(super) fn stall_over(&self, what: &str) {
        lock(&self.stalls).remove(what);
    }

    /// Adds a warning that stays in status for as long as the daemon runs.
    pub fn warn(&self, text: impl Into<String>) {
        lock(&self.warnings).push(text.into());
    }

    /// Registers the function that counts the messages on loan. Called for each snapshot.
    pub fn set_on_loan(&self, ask: AskOnLoan) {
        *lock(&self.on_loan) = Some(Arc::new(ask));
    }

    /// Reads every actor's count for its rate over a minute, and how far each table is behind. To be
    /// called each second.
    pub fn sample(&self) {
        self.sample_at(Instant::now(), Timestamp::now());
    }

    pub(super) fn sample_at(&self, clock: Instant, now: Timestamp) {
        for vitals in self.entries() {
            vitals.sample(clock);
        }
        let tables = self.tables();
        for (name, behind) in self.behind(now).1 {
            if let Some(meter) = tables.get(&name) {
                meter.sample(clock, now, behind);
            }
        }
    }

    /// Logs the faults and missed objectives that began or ended since the last call, and each minute
    /// those that last. To be called each second: a shorter fault may pass unlogged.
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
        let mut others = lock(&self.troubles).clone();
        let stalls = lock(&self.stalls).clone();
        others.extend(stalls.into_iter().map(|(what, stall)| (what.to_owned(), stall)));
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

    /// Returns the holders of memory, and how far each table is behind: `None` before the log has
    /// answered.
    fn behind(&self, now: Timestamp) -> (Vec<Holding>, Vec<(String, Option<Duration>)>) {
        // In the order of an event's way: one that moves on meanwhile is seen in either place.
        let all_read_before = self.read_mark.all_read_before(now);
        // Asked outside the lock: the answer may take locks of its own.
        let ask = lock(&self.on_loan).clone();
        let OnLoan { holdings, unrouted, tables } = ask.map_or_else(OnLoan::default, |ask| ask());
        let behind = |oldest: Option<Timestamp>| {
            let waiting = oldest.into_iter().chain(unrouted);
            Some(waiting.fold(all_read_before?, Timestamp::min).age_at(now))
        };
        let tables = tables.into_iter().map(|(name, oldest)| (name, behind(oldest))).collect();
        (holdings, tables)
    }

    /// Returns the holders of memory, and the freshness of each table.
    pub(super) fn holdings_and_freshness(&self, now: Timestamp) -> (Vec<Holding>, Vec<Freshness>) {
        let (holdings, behind) = self.behind(now);
        let meters = self.tables();
        let report = |(name, behind): (String, Option<Duration>)| {
            Some(meters.get(&name)?.report(&name, now, behind))
        };
        (holdings, behind.into_iter().filter_map(report).collect())
    }

    /// The tables whose objectives are missed.
    pub(super) fn missed_objectives(&self) -> Vec<(String, Missed)> {
        let tables = self.tables();
        tables.into_iter().filter_map(|(name, meter)| Some((name, meter.missed()?))).collect()
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("phase", &self.phase()).finish_non_exhaustive()
    }
}
