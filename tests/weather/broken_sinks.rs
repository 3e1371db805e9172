//! A broken sink is waited for and reported, and no event is lost.

use std::fs;

use kappa_actors::vitals::{DaemonState, Snapshot};

use crate::support::{Daemon, Fate, Oracle, Published, Publisher, Scene, envelope, generated};

/// Stores promptly, so that the fault is met while it lasts.
const PROMPT: &str = "actors.archive_window.flush_interval = '50ms'";

fn with_fault(fault: &str) -> Scene {
    Scene::new(&format!("{PROMPT}\nfaults = {{ enabled = true, {fault} }}"))
}

/// The sources that the daemon waits for.
fn troubles(status: &Snapshot) -> Vec<&str> {
    status.reasons.iter().map(|reason| &*reason.source).collect()
}

fn await_degraded(daemon: &Daemon, by: &str) {
    daemon.await_status(&format!("trouble with {by}"), |status| {
        let sources = troubles(status);
        let is_meant = sources.iter().any(|source| source.starts_with(by));
        is_meant.then(|| assert_eq!(status.state, DaemonState::Degraded))
    });
}

fn a_sink_that_fails_for_a_while(sink: &str, path: &str) {
    let scene = with_fault(&format!("fail = {{ sink = '{sink}', for = '4s' }}"));
    let publisher = Publisher::open(&scene.data_dir());
    let mut oracle = Oracle::default();
    oracle.publish(&publisher, generated(10).take(2_000), 500);
    let daemon = scene.start();
    await_degraded(&daemon, path);
    let (code, reasons) = daemon.get("/readyz");
    assert!(code == 503 && reasons.contains(path), "{code}: {reasons}");
    assert_eq!(daemon.get("/livez").0, 200);
    oracle.publish(&publisher, generated(11).take(1_000), 500);
    daemon.await_acknowledged(oracle.events());
    daemon.await_status("the end of the trouble", |status| {
        (status.state == DaemonState::Running).then_some(())
    });
    assert_eq!(daemon.get("/readyz").0, 200);
    assert!(daemon.restarts().values().all(|restarts| *restarts == 0));
    daemon.stop();
    oracle.check(&scene);
}

#[test]
fn a_table_that_cannot_be_written_for_a_while_is_waited_for() {
    a_sink_that_fails_for_a_while("writer.orders", "kappa/warehouse/writer.orders");
}

#[test]
fn an_archive_that_cannot_be_written_for_a_while_is_waited_for() {
    a_sink_that_fails_for_a_while("archive", "kappa/archive/window.");
}

#[test]
fn dead_letters_that_cannot_be_written_for_a_while_are_waited_for() {
    a_sink_that_fails_for_a_while("dead-letter", "kappa/dead-letter/dead-letter");
}

#[test]
fn a_slow_sink_keeps_no_other_waiting() {
    let scene = with_fault("slow = { sink = 'writer.orders', for = '5s' }");
    let publisher = Publisher::open(&scene.data_dir());
    let mut oracle = Oracle::default();
    oracle.publish(&publisher, generated(12).take(1_000), 500);
    let daemon = scene.start();
    let valid = oracle.count(|fate| fate == Fate::Stored);
    let rows = daemon.await_status("everything to be archived", |status| {
        let rows = &status.counters.rows;
        let others = ["users", "products", "other"].iter().all(|table| rows.get(*table) > Some(&0));
        (status.counters.archived == valid && others).then(|| rows.get("orders").copied())
    });
    assert_eq!(rows.unwrap_or_default(), 0, "rows of the slow sink");
    daemon.await_acknowledged(oracle.events());
    daemon.stop();
    oracle.check(&scene);
}

#[test]
fn a_refused_row_becomes_a_dead_letter_and_takes_no_other_with_it() {
    let scene = Scene::new("");
    scene.run_until_idle();
    scene
        .warehouse()
        .execute_batch(
            "CREATE TRIGGER refusing BEFORE INSERT ON orders WHEN NEW.event_id LIKE 'refused-%' \
             BEGIN SELECT RAISE(ABORT, 'no such customer'); END",
        )
        .unwrap();
    let refused = (0..50).map(|number| {
        let event = envelope(&format!("refused-{number}"), "order.placed", "");
        Published::new(event, Fate::Condemned("write"))
    });
    let with_others = refused
        .zip(0..)
        .flat_map(|(one, seed)| std::iter::once(one).chain(generated(1_000 + seed).take(40)));
    let publisher = Publisher::open(&scene.data_dir());
    let mut oracle = Oracle::default();
    oracle.publish(&publisher, with_others, 1_000);
    scene.run_until_idle();
    oracle.check(&scene);
    let named: i64 = scene
        .warehouse()
        .query_row(
            "SELECT count(*) FROM dead_letters WHERE reason LIKE '%no such customer%' \
             AND actor = 'kappa/warehouse/writer.orders' AND event_id LIKE 'refused-%'",
            (),
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(named, 50);
}

#[test]
fn a_dropped_table_is_made_again() {
    let scene = Scene::new("");
    let publisher = Publisher::open(&scene.data_dir());
    let mut oracle = Oracle::default();
    let daemon = scene.start();
    scene.warehouse().execute_batch("DROP TABLE orders; DROP TABLE dead_letters").unwrap();
    oracle.publish(&publisher, generated(15).take(500), 500);
    daemon.await_acknowledged(oracle.events());
    daemon.stop();
    oracle.check(&scene);
}

#[test]
fn an_archive_that_was_moved_away_is_waited_for() {
    let scene = Scene::new(PROMPT);
    let publisher = Publisher::open(&scene.data_dir());
    let mut oracle = Oracle::default();
    let daemon = scene.start();
    let (archive, elsewhere) = (scene.data_dir().join("archive"), scene.root().join("elsewhere"));
    fs::rename(&archive, &elsewhere).unwrap();
    oracle.publish(&publisher, generated(16).take(500), 500);
    await_degraded(&daemon, "kappa/archive/window.");
    fs::rename(&elsewhere, &archive).unwrap();
    daemon.await_acknowledged(oracle.events());
    daemon.stop();
    oracle.check(&scene);
}

/// Every file of the daemon is full: the warehouse, the archive, and its own notes.
#[test]
fn a_full_disk_is_waited_for_until_there_is_room() {
    let scene = Scene::new(PROMPT);
    let publisher = Publisher::open(&scene.data_dir());
    let mut oracle = Oracle::default();
    let daemon = scene.start();
    oracle.publish(&publisher, generated(13).take(200), 100);
    daemon.await_acknowledged(oracle.events());
    daemon.limit_file_size(Some(50_000));
    oracle.publish(&publisher, generated(14).take(3_000), 500);
    await_degraded(&daemon, "kappa/warehouse/writer.");
    await_degraded(&daemon, "kappa/archive/window.");
    assert_eq!(daemon.get("/livez").0, 200);
    daemon.limit_file_size(None);
    daemon.await_acknowledged(oracle.events());
    assert!(daemon.restarts().values().all(|restarts| *restarts == 0));
    daemon.stop();
    oracle.check(&scene);
}
