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
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::vitals::OnLoan;

    #[test]
    fn a_restarted_actor_goes_on_with_its_counts() {
        let board = Board::new();
        let first = board.actor("kappa/warehouse/writer.orders", "writer");
        first.handled(500);
        first.enqueued();
        first.trouble("disk full", 3);
        first.crashed("index out of bounds");
        let second = board.actor("kappa/warehouse/writer.orders", "writer");
        second.set_state(ActorState::Running);
        second.dequeued();
        second.handled(1);

        let snapshot = board.snapshot();
        let [actor] = &snapshot.actors[..] else { panic!("{snapshot:?}") };
        assert_eq!((actor.events, actor.restarts, actor.mailbox), (501, 1, 0));
        assert_eq!(actor.state, ActorState::Running);
        assert_eq!(actor.last_error.as_ref().unwrap().error, "index out of bounds");
        assert_eq!(snapshot.reasons, []);
    }

    #[test]
    fn a_sink_in_trouble_degrades_the_daemon_until_it_recovers() {
        let board = Board::new();
        let writer = board.actor("kappa/warehouse/writer.orders", "writer");
        writer.trouble("permission revoked", 7);
        assert_eq!(board.snapshot().state, DaemonState::Starting);
        board.set_phase(Phase::Running);
        board.trouble("event log", "connection refused", 0);

        let since = writer.current_trouble().unwrap().since;
        writer.trouble("still revoked", 9);
        assert_eq!(writer.current_trouble().unwrap().since, since);
        let snapshot = board.snapshot();
        assert_eq!(snapshot.state, DaemonState::Degraded);
        let [log, sink] = &snapshot.reasons[..] else { panic!("{snapshot:?}") };
        assert_eq!(log.source, "event log");
        assert_eq!((&*sink.source, sink.waiting_events), (writer.path(), 9));
        assert_eq!(writer.last_error().as_deref(), Some("still revoked"));

        writer.recovered();
        assert_eq!(board.snapshot().state, DaemonState::Degraded);
        board.recovered("event log");
        assert_eq!(board.snapshot().state, DaemonState::Running);
        board.set_phase(Phase::Draining);
        assert_eq!(board.snapshot().state, DaemonState::Draining);
    }

    #[test]
    fn a_parent_comes_before_its_children_and_removed_actors_are_gone() {
        let board = Board::new();
        for path in ["kappa/archive-x", "kappa/archive/window.1", "kappa/archive", "kappa"] {
            board.actor(path, "any");
        }
        assert_eq!(
            board.paths(),
            ["kappa", "kappa/archive", "kappa/archive/window.1", "kappa/archive-x"]
        );
        board.remove("kappa/archive/window.1");
        assert_eq!(board.paths(), ["kappa", "kappa/archive", "kappa/archive-x"]);
        assert!(board.find("kappa/archive/window.1").is_none());
    }

    #[test]
    fn windows_share_a_series_whose_counts_never_fall() {
        let board = Board::new();
        let closed = board.actor("kappa/archive/window.20260217T1430Z", "window");
        let open = board.actor("kappa/archive/window.20260217T1435Z", "window");
        board.actor("kappa/warehouse/writer.window.1", "writer");
        [&closed, &open].iter().for_each(|window| window.set_state(ActorState::Running));
        closed.handled(5);
        open.handled(2);
        closed.crashed("panicked");
        board.remove(closed.path());
        let all = board.actor_series();
        let windows = &all["kappa/archive/window"];
        assert_eq!((windows.events, windows.restarts, windows.running), (7, 1, 1));
        assert_eq!(all.len(), 2, "{all:?}");
    }

    #[test]
    fn a_table_is_behind_by_the_oldest_event_that_may_become_its_row() {
        let board = Board::new();
        let now = Timestamp::now();
        let before = |seconds| now.before(Duration::from_secs(seconds));
        let behind = |unrouted, orders, users| {
            let tables = vec![("orders".to_owned(), orders), ("users".to_owned(), users)];
            let on_loan = OnLoan { holdings: Vec::new(), unrouted, tables };
            board.set_on_loan(Box::new(move || on_loan.clone()));
            let (_, tables) = board.holdings_and_freshness(now);
            tables.iter().map(|table| table.behind_seconds).collect::<Vec<_>>()
        };
        board.table("orders", None);
        board.table("users", None);
        assert_eq!(behind(None, Some(before(3)), None), [None, None], "the log has not answered");
        board.log_is_empty(now);
        assert_eq!(behind(None, Some(before(3)), None), [Some(3.0), Some(0.0)]);
        assert_eq!(behind(Some(before(5)), Some(before(3)), None), [Some(5.0), Some(5.0)]);
        // The rest of the log is unread: it may be anyone's.
        board.log_was_read(before(9));
        assert_eq!(behind(None, Some(before(30)), None), [Some(30.0), Some(9.0)]);
    }

    #[test]
    fn a_backlog_that_is_asked_after_the_counters_replaces_the_noted_one() {
        let board = Board::new();
        let noted = crate::port::Backlog { messages: Some(33_009), oldest: Some(Timestamp::now()) };
        board.counters().set_backlog(noted);
        let mut snapshot = board.snapshot();
        assert_eq!(snapshot.counters.backlog, Some(33_009));
        snapshot.with_backlog(crate::port::Backlog { messages: Some(0), oldest: None });
        let counters = &snapshot.counters;
        assert_eq!((counters.backlog, counters.backlog_age_seconds), (Some(0), Some(0.0)));
        assert_eq!(counters.oldest_unacknowledged_seconds, None);
    }

    #[test]
    fn a_kill_is_taken_once() {
        let vitals = Board::new().actor("kappa/intake/router", "router");
        assert!(!vitals.take_kill());
        vitals.kill();
        assert!(vitals.take_kill());
        assert!(!vitals.take_kill());
    }

    #[test]
    fn a_snapshot_has_counters_holdings_and_rates_and_survives_json() {
        let board = Board::new();
        board.set_instance("host-1");
        board.warn("fault injection is on");
        board.counters().received.add(10);
        board.counters().rows("orders").add(4);
        board.counters().rows("orders").add(2);
        board.counters().set_backlog(crate::port::Backlog {
            messages: Some(3),
            oldest: Some(Timestamp::from_micros(0)),
        });
        board.table("orders", Some(Duration::from_secs(60)));
        let oldest = Timestamp::now().before(Duration::from_secs(5));
        board.set_on_loan(Box::new(move || OnLoan {
            holdings: vec![Holding { duty: "archive".into(), messages: 2, bytes: 800 }],
            unrouted: None,
            tables: vec![("orders".into(), Some(oldest))],
        }));
        let reader = board.actor("kappa/intake/reader", "reader");
        let start = Instant::now();
        let now = Timestamp::now();
        board.sample_at(start, now);
        reader.handled(20);
        board.sample_at(start + Duration::from_secs(2), now);

        let snapshot = board.snapshot();
        assert_eq!(snapshot.counters.rows["orders"], 6);
        assert_eq!(snapshot.counters.backlog, Some(3));
        assert!(snapshot.counters.oldest_unacknowledged_seconds.unwrap() > 1e9);
        assert!(snapshot.counters.backlog_age_seconds.unwrap() < 60.0);
        assert_eq!(snapshot.holdings[0].bytes, 800);
        assert_eq!(snapshot.actors[0].events_per_second, 10.0);
        let json = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), snapshot);
    }
}
