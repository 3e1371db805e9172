//! Stopping loses nothing.

use std::time::{Duration, Instant};

use kappa_actors::vitals::DaemonState;
use rusqlite::Connection;
use rustix::process::Signal;

use crate::support::{Daemon, Fate, Oracle, Publisher, Scene, generated};

const ORDERS_ARE_DOWN: &str = "
    faults = { enabled = true, fail = { sink = 'writer.orders', for = '1h' } }
    actors.archive_window.flush_interval = '50ms'
";

/// A daemon that has published events in hand and cannot store the orders among them.
fn stuck(scene: &Scene, oracle: &mut Oracle) -> Daemon {
    let publisher = Publisher::open(&scene.data_dir());
    oracle.publish(&publisher, generated(30).take(2_000), 500);
    let daemon = scene.start();
    let valid = oracle.count(|fate| fate == Fate::Stored);
    daemon.await_status("all but the orders to be stored", |status| {
        let degraded = status.state == DaemonState::Degraded;
        (degraded && status.counters.archived == valid && status.counters.dead_lettered > 0)
            .then_some(())
    });
    daemon
}

/// The number behind `name=` in the last line that a daemon logged.
fn last_words(scene: &Scene, name: &str) -> u64 {
    let log = scene.log();
    let last = log.lines().last().unwrap();
    let value = last.split(&format!("{name}=")).nth(1).unwrap_or_else(|| panic!("{last}"));
    value.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_daemon_stopped_under_load_settles_or_gives_back_all_it_holds() {
    let scene = Scene::new("");
    let publisher = Publisher::open(&scene.data_dir());
    let mut oracle = Oracle::default();
    oracle.publish(&publisher, generated(31).take(20_000), 2_000);
    let daemon = scene.start();
    daemon.await_status("the load", |status| (status.counters.received > 0).then_some(()));
    daemon.stop();
    let settled = last_words(&scene, "acknowledged");
    assert_eq!(settled + publisher.backlog(), oracle.events() as u64);
    assert!(scene.log().lines().last().unwrap().contains("archive_closed=true"));
    scene.run_until_idle();
    oracle.check(&scene);
}

#[test]
fn a_terminal_that_hangs_up_drains_the_daemon() {
    let scene = Scene::new("");
    let publisher = Publisher::open(&scene.data_dir());
    let mut oracle = Oracle::default();
    oracle.publish(&publisher, generated(34).take(5_000), 1_000);
    let mut daemon = scene.start();
    daemon.await_status("the load", |status| (status.counters.received > 0).then_some(()));
    daemon.signal(Signal::HUP);
    daemon.ends_with(0);
    assert!(scene.log().lines().last().unwrap().contains("archive_closed=true"));
    scene.run_until_idle();
    oracle.check(&scene);
}

#[test]
fn a_daemon_with_a_sink_down_stops_in_time_and_counts_the_returned_events() {
    for sink in ["writer.orders", "archive", "dead-letter"] {
        for fault in ["fail", "slow"] {
            stops_in_time_with(sink, fault);
        }
    }
}

fn stops_in_time_with(sink: &str, fault: &str) {
    let scene = Scene::new(&format!(
        "drain_timeout = '500ms'
        faults = {{ enabled = true, {fault} = {{ sink = '{sink}', for = '1h' }} }}
        actors.archive_window.flush_interval = '50ms'",
    ));
    let publisher = Publisher::open(&scene.data_dir());
    let mut oracle = Oracle::default();
    oracle.publish(&publisher, generated(32).take(1_000), 500);
    let daemon = scene.start();
    daemon.await_status("some to be stored", |status| {
        (status.counters.rows.get("users") > Some(&100)).then_some(())
    });
    let begin = Instant::now();
    daemon.stop();
    assert!(begin.elapsed() < Duration::from_secs(6), "it took {:?}", begin.elapsed());
    let left = publisher.backlog();
    assert!(left > 0 && last_words(&scene, "given_back") == left, "{left} are left");
    scene.configure("");
    scene.run_until_idle();
    oracle.check(&scene);
}

#[test]
fn a_second_signal_ends_the_daemon_at_once_and_loses_nothing() {
    let scene = Scene::new(&format!("drain_timeout = '1h'\n{ORDERS_ARE_DOWN}"));
    let mut oracle = Oracle::default();
    let mut daemon = stuck(&scene, &mut oracle);
    daemon.signal(Signal::TERM);
    daemon
        .await_status("the drain", |status| (status.state == DaemonState::Draining).then_some(()));
    daemon.signal(Signal::INT);
    daemon.ends_with(1);
    scene.configure("");
    scene.run_until_idle();
    oracle.check(&scene);
}

/// Another process at work on a file may keep it locked for as long as it likes.
fn stops_in_time_with_a_locked(file: &str) {
    let scene = Scene::new("drain_timeout = '1s'");
    let publisher = Publisher::open(&scene.data_dir());
    let mut oracle = Oracle::default();
    let daemon = scene.start();
    let other = Connection::open(scene.data_dir().join(file)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    oracle.publish(&publisher, generated(33).take(500), 500);
    daemon.await_status("events in hand", |status| {
        (status.counters.in_flight_messages == 500).then_some(())
    });
    let begin = Instant::now();
    daemon.stop();
    assert!(begin.elapsed() < Duration::from_secs(8), "it took {:?}", begin.elapsed());
    assert_eq!(last_words(&scene, "given_back"), 500);
    other.execute_batch("ROLLBACK").unwrap();
    scene.run_until_idle();
    oracle.check(&scene);
}

#[test]
fn a_locked_warehouse_does_not_keep_the_daemon_from_stopping() {
    stops_in_time_with_a_locked("warehouse.db");
}

#[test]
fn a_locked_subscription_does_not_keep_the_daemon_from_stopping() {
    stops_in_time_with_a_locked("subscriptions.db");
}
