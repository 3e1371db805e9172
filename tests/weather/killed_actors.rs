//! A dying actor stops no other actor, and no event is lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kappa_actors::vitals::{ActorState, Snapshot};

use crate::support::{Daemon, Oracle, Published, Publisher, Scene, await_that, generated};

/// Small batches: events in hand are tried again one by one. A kill does not count against the events in hand,
/// however often it happens. Recovery looks once a `grace`.
const CONFIGURATION: &str = r#"
    faults.enabled = true
    actors.reader.max_batch_events = 50
    actors.reader.max_attempts = 1000
    actors.archive_window = { grace = "1s", flush_interval = "100ms" }
"#;

/// One of every kind, by how their paths end.
const ACTORS: [&str; 13] = [
    "intake/reader",
    "intake/parser.0",
    "intake/parser.1",
    "intake/router",
    "processors/processor.orders",
    "processors/processor.other",
    "warehouse/writer.orders",
    "warehouse/writer.users",
    "archive/keeper",
    "archive/recovery",
    "archive/window.",
    "dead-letter/dead-letter",
    "status/http",
];

#[test]
fn an_actor_of_any_kind_killed_under_load_is_restarted_alone_and_nothing_is_lost() {
    let scene = Scene::new(CONFIGURATION);
    let enough = AtomicBool::new(false);
    let mut oracle = Oracle::default();
    let daemon = scene.start();
    let published = thread::scope(|threads| {
        let publisher = threads.spawn(|| publish_until(&enough, &scene));
        for _ in 0..2 {
            ACTORS.iter().for_each(|actor| kill_one(&daemon, actor));
        }
        enough.store(true, Ordering::Relaxed);
        publisher.join().unwrap()
    });
    oracle.remember(published);
    daemon.await_acknowledged(oracle.events());
    daemon.stop();
    oracle.check(&scene);
}

#[test]
fn a_group_whose_supervisor_dies_starts_afresh_and_nothing_is_lost() {
    let scene = Scene::new(CONFIGURATION);
    let enough = AtomicBool::new(false);
    let mut oracle = Oracle::default();
    let daemon = scene.start();
    let published = thread::scope(|threads| {
        let publisher = threads.spawn(|| publish_until(&enough, &scene));
        for child in ["intake/router", "processors/processor.orders", "archive/keeper"] {
            kill_group(&daemon, child);
        }
        for child in ["warehouse/writer.orders", "dead-letter/dead-letter", "status/http"] {
            kill_group(&daemon, child);
        }
        enough.store(true, Ordering::Relaxed);
        publisher.join().unwrap()
    });
    oracle.remember(published);
    daemon.await_acknowledged(oracle.events());
    daemon.stop();
    oracle.check(&scene);
}

/// Kills the supervisor of an actor: it dies when it hears of the actor's own death.
fn kill_group(daemon: &Daemon, child: &str) {
    let (group, _) = child.split_once('/').unwrap();
    let group = format!("kappa/{group}");
    let before = daemon.restarts()[&group];
    daemon.kill_actor(&group);
    daemon.kill_actor(&format!("kappa/{child}"));
    daemon.await_status(&format!("{group} to be restarted"), |status| {
        let again = restarts(status)[&group] > before;
        (again && running(status, child).is_some()).then_some(())
    });
}

#[test]
fn a_spent_budget_ends_the_daemon_with_an_error_and_loses_nothing() {
    let scene = Scene::new(
        "faults.enabled = true
        actors.reader.restart = { budget = 2, window = '60s', backoff = '1ms', max_backoff = '1ms' }
        actors.supervisor.restart = { budget = 1, window = '60s', backoff = '1ms', max_backoff = '1ms' }",
    );
    let publisher = Publisher::open(&scene.data_dir());
    let mut oracle = Oracle::default();
    oracle.publish(&publisher, generated(7).take(5_000), 1_000);
    let mut daemon = scene.start();
    daemon.kill_actor_until_the_end("kappa/intake/reader", 1);
    let log = scene.log();
    let last = log.lines().last().unwrap();
    assert!(last.starts_with("error: kappa/intake was restarted 1 times"), "{last}");
    scene.run_until_idle();
    oracle.check(&scene);
}

/// Publishes for as long as it is not enough: with every few events it waits until they were
/// taken, so that there is load and no flood.
fn publish_until(enough: &AtomicBool, scene: &Scene) -> Vec<Published> {
    let publisher = Publisher::open(&scene.data_dir());
    let mut events = generated(3);
    let mut published = Vec::new();
    while !enough.load(Ordering::Relaxed) {
        let few: Vec<_> = events.by_ref().take(100).collect();
        publisher.publish(&few);
        published.extend(few);
        await_that("the daemon to keep up", || (publisher.backlog() < 500).then_some(()));
    }
    published
}

/// Kills one actor, and checks that it is back, and that no other was started again.
fn kill_one(daemon: &Daemon, actor: &str) {
    let path = daemon.await_status(actor, |status| running(status, actor));
    let before = daemon.restarts();
    daemon.kill_actor(&path);
    let what = format!("{path} to be restarted");
    // A window that closes before its next message is gone with the order.
    let after = daemon.await_status(&what, |status| {
        let after = restarts(status);
        let again = after.get(&path).is_none_or(|restarts| *restarts > before[&path]);
        (again && running(status, actor).is_some()).then_some(after)
    });
    for (other, restarts) in after.iter().filter(|(other, _)| **other != path) {
        let before = before.get(other).unwrap_or(&0);
        assert_eq!(restarts, before, "restarts of {other} when {path} was killed");
    }
}

fn restarts(status: &Snapshot) -> BTreeMap<String, u64> {
    status.actors.iter().map(|actor| (actor.path.clone(), actor.restarts)).collect()
}

/// The path of the running actor that is meant.
fn running(status: &Snapshot, actor: &str) -> Option<String> {
    let meant = format!("kappa/{actor}");
    let found = status.actors.iter().find(|found| {
        let is_meant =
            found.path == meant || meant.ends_with('.') && found.path.starts_with(&meant);
        is_meant && found.state == ActorState::Running
    });
    found.map(|found| found.path.clone())
}
