//! A sink that never answers is a failure: the daemon reports it, restarts the actor, and ends with an
//! error if that does not help. Nothing is lost.

use kappa_actors::vitals::{DaemonState, Reason};

use crate::support::{Oracle, Publisher, Scene, generated};

/// Degraded after 1 s, restarted after 2 s, ended after 6 s.
const SOON: &str = "
    actors.archive_window.flush_interval = '50ms'
    actors.watchdog = { degraded_after = '1s', restart_after = '2s', exit_after = '6s' }";

fn with_hang(watchdog: &str, sink: &str, lasting: &str) -> Scene {
    let fault = format!("{{ enabled = true, hang = {{ sink = '{sink}', for = '{lasting}' }} }}");
    Scene::new(&format!("{watchdog}\nfaults = {fault}"))
}

fn a_sink_that_hangs_for_a_while(sink: &str, path: &str) {
    let patient = SOON.replace("'6s'", "'1h'");
    let scene = with_hang(&patient, sink, "3s");
    let mut oracle = Oracle::default();
    oracle.publish(&Publisher::open(&scene.data_dir()), generated(70).take(1_000), 500);
    let daemon = scene.start();
    daemon.await_status("the hang", |status| {
        let is_it = |reason: &&Reason| reason.source.starts_with(path);
        let reason = status.reasons.iter().find(is_it)?;
        assert_eq!(status.state, DaemonState::Degraded);
        assert!(reason.reason.contains(" has no answer for "), "{reason}");
        assert!(reason.waiting_events > 0, "{reason}");
        Some(())
    });
    let (code, reasons) = daemon.get("/readyz");
    assert!(code == 503 && reasons.contains("has no answer"), "{code}: {reasons}");
    daemon.await_status("the restart", |status| {
        let actor = status.actors.iter().find(|actor| actor.path.starts_with(path))?;
        (actor.restarts > 0).then_some(())
    });
    daemon.await_acknowledged(oracle.events());
    daemon.await_status("the end of the hang", |status| {
        (status.state == DaemonState::Running).then_some(())
    });
    daemon.stop();
    oracle.check(&scene);
    let log = scene.log();
    let line = |words: &str| {
        let line = log.lines().find(|line| line.contains(words) && line.contains(path));
        line.unwrap_or_else(|| panic!("no {words:?} in {log}")).to_owned()
    };
    assert!(line("degraded").contains(" WARN "), "{log}");
    assert!(line("actor died, and starts again").contains("has no answer for"), "{log}");
    assert!(line("recovered").contains(" INFO "), "{log}");
}

#[test]
fn a_writer_whose_write_hangs_is_restarted_and_every_row_is_there_once() {
    a_sink_that_hangs_for_a_while("writer.orders", "kappa/warehouse/writer.orders");
}

#[test]
fn a_window_whose_part_hangs_is_restarted_and_every_line_is_there() {
    a_sink_that_hangs_for_a_while("archive", "kappa/archive/window.");
}

#[test]
fn a_dead_letter_actor_whose_write_hangs_is_restarted_and_every_letter_is_there() {
    a_sink_that_hangs_for_a_while("dead-letter", "kappa/dead-letter/dead-letter");
}

#[test]
fn a_hang_that_restarts_do_not_end_ends_the_daemon_with_an_error_and_loses_nothing() {
    let scene = with_hang(SOON, "writer.orders", "1h");
    let mut oracle = Oracle::default();
    oracle.publish(&Publisher::open(&scene.data_dir()), generated(71).take(1_000), 500);
    let mut daemon = scene.start();
    daemon.await_status("the restart", |status| {
        let writer = status.actors.iter().find(|it| it.path.ends_with("/writer.orders"))?;
        (writer.restarts > 0).then_some(())
    });
    daemon.ends_with(1);
    let log = scene.log();
    let last = log.lines().last().unwrap();
    let error = "error: kappa/warehouse/writer.orders hangs for 6s: write has no answer for ";
    assert!(last.starts_with(error), "{last}");
    scene.configure("");
    scene.run_until_idle();
    oracle.check(&scene);
}
