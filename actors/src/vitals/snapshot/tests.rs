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
