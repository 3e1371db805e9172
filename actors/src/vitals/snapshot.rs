//! The board at one moment, in the form that `GET /status` answers.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::actor::ActorState;
use super::board::{Board, Holding, Phase};
use super::table::Freshness;
use crate::port::Backlog;
use crate::time::Timestamp;

/// The state of the daemon as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DaemonState {
    /// Not yet taking events.
    Starting,
    /// All is well.
    Running,
    /// Something is waited for; the reasons name it.
    Degraded,
    /// Ending: nothing more is taken.
    Draining,
}

impl fmt::Display for DaemonState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
        })
    }
}

/// Why the daemon is degraded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// The part that waits: an actor's path, or another name.
    pub source: String,
    /// The answer of the other side.
    pub reason: String,
    /// When it began, RFC 3339.
    pub since: String,
    /// How long it has lasted.
    pub for_seconds: f64,
    /// Events that wait for it to pass.
    pub waiting_events: u64,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, reason, for_seconds, waiting_events, .. } = self;
        write!(f, "{source}: {reason} (for {for_seconds:.0} s, {waiting_events} events wait)")
    }
}

/// An actor's last error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// When it happened, RFC 3339.
    pub at: String,
    /// Its error.
    pub error: String,
}

/// One actor of the tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActorReport {
    /// Its path, such as `kappa/warehouse/writer.orders`.
    pub path: String,
    /// Its role, as in `writer`.
    pub kind: String,
    /// Its state.
    pub state: ActorState,
    /// How often it was started again.
    pub restarts: u64,
    /// Its last error, if it ever had one.
    pub last_error: Option<LastError>,
    /// Messages that wait in its mailbox.
    pub mailbox: u64,
    /// Events handled, over all its lives.
    pub events: u64,
    /// Mean rate over the last minute.
    pub events_per_second: f64,
}

/// Dead letters of one stage and class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassReport {
    /// Where their events' ways ended.
    pub stage: String,
    /// The class of the fault.
    pub class: String,
    /// How many were stored.
    pub letters: u64,
}

/// The counters, see [`super::Counters`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each has the name of its counter")]
pub struct CounterReport {
    pub received: u64,
    pub acked: u64,
    pub redelivered: u64,
    pub invalid: u64,
    pub rows: BTreeMap<String, u64>,
    pub rows_superseded: BTreeMap<String, u64>,
    pub archived: u64,
    pub dead_lettered: u64,
    /// Dead letters stored, by stage and class; together they are `dead_lettered`.
    #[serde(default)]
    pub dead_letters: Vec<ClassReport>,
    /// Dead letters purged because of their age.
    #[serde(default)]
    pub letters_purged: u64,
    pub unrouted: u64,
    pub given_back: u64,
    pub lost_acknowledgements: u64,
    pub in_flight_messages: u64,
    pub in_flight_bytes: u64,
    /// Messages not acknowledged in the log; null if the log does not know.
    pub backlog: Option<u64>,
    /// Age of the oldest of them; null if there is none or the log does not know.
    pub oldest_unacknowledged_seconds: Option<f64>,
    /// How long before this answer the log gave these two; null before the first time.
    pub backlog_age_seconds: Option<f64>,
}

/// The contents of status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// How fresh each table is.
    pub freshness: Vec<Freshness>,
    /// The daemon's version.
    pub version: String,
    /// The daemon's name.
    pub instance: String,
    /// Its state.
    pub state: DaemonState,
    /// The troubles that the daemon waits out, also while starting and draining.
    pub reasons: Vec<Reason>,
    /// Warnings for the operator, for as long as the daemon runs.
    pub warnings: Vec<String>,
    /// Since its start.
    pub uptime_seconds: f64,
    /// Its counters.
    pub counters: CounterReport,
    /// The holders of the memory budget, by duty.
    pub holdings: Vec<Holding>,
    /// The tree, a parent before its children.
    pub actors: Vec<ActorReport>,
}

impl Snapshot {
    pub(super) fn of(board: &Board) -> Self {
        let now = Timestamp::now();
        let reasons: Vec<Reason> = board
            .all_troubles()
            .into_iter()
            .map(|(source, trouble)| Reason {
                source,
                reason: trouble.reason,
                since: trouble.since.to_string(),
                for_seconds: trouble.since.age_at(now).as_secs_f64(),
                waiting_events: trouble.waiting,
            })
            .collect();
        let state = match board.phase() {
            Phase::Starting => DaemonState::Starting,
            Phase::Draining => DaemonState::Draining,
            Phase::Running if reasons.is_empty() => DaemonState::Running,
            Phase::Running => DaemonState::Degraded,
        };
        let counters = CounterReport::of(board, now);
        let (holdings, freshness) = board.holdings_and_freshness(now);
        Self {
            freshness,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: board.instance(),
            state,
            reasons,
            warnings: board.warnings(),
            uptime_seconds: board.uptime_seconds(),
            counters,
            holdings,
            actors: board.entries().iter().map(|vitals| vitals.report()).collect(),
        }
    }
}

impl Snapshot {
    /// Shows the backlog as the log gives it after this snapshot was taken, in place of the one that was
    /// noted last: no message that the counters here call acknowledged is in it.
    pub fn with_backlog(&mut self, backlog: Backlog) {
        let now = Timestamp::now();
        self.counters.set_backlog(backlog, now, now);
    }
}

impl CounterReport {
    fn of(board: &Board, now: Timestamp) -> Self {
        let counters = board.counters();
        let letters = counters.letters_by_class().into_iter();
        let dead_letters: Vec<_> = letters
            .map(|((stage, class), letters)| ClassReport {
                stage: stage.to_owned(),
                class: class.to_string(),
                letters,
            })
            .collect();
        let mut report = Self {
            received: counters.received.get(),
            acked: counters.acked.get(),
            redelivered: counters.redelivered.get(),
            invalid: counters.invalid.get(),
            rows: counters.rows_by_table(),
            rows_superseded: counters.rows_superseded_by_table(),
            archived: counters.archived.get(),
            dead_lettered: dead_letters.iter().map(|class| class.letters).sum(),
            dead_letters,
            letters_purged: counters.letters_purged.get(),
            unrouted: counters.unrouted.get(),
            given_back: counters.given_back.get(),
            lost_acknowledgements: counters.lost_acknowledgements.get(),
            in_flight_messages: counters.in_flight_messages.get(),
            in_flight_bytes: counters.in_flight_bytes.get(),
            backlog: None,
            oldest_unacknowledged_seconds: None,
            backlog_age_seconds: None,
        };
        if let Some((at, backlog)) = counters.backlog() {
            report.set_backlog(backlog, at, now);
        }
        report
    }

    /// Shows the backlog that the log gave at `at`.
    fn set_backlog(&mut self, backlog: Backlog, at: Timestamp, now: Timestamp) {
        let age = |time: Timestamp| time.age_at(now).as_secs_f64();
        self.backlog = backlog.messages;
        self.oldest_unacknowledged_seconds = backlog.oldest.map(age);
        self.backlog_age_seconds = Some(age(at));
    }
}

#[cfg(test)]
mod tests;
