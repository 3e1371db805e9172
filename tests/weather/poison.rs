//! A poison event harms no other event.

use crate::support::{Daemon, Fate, Oracle, Published, Publisher, Scene, envelope, generated};

/// Events in a batch.
const MAX_BATCH_EVENTS: usize = 20;

/// Events that panic the processor of orders, mixed by `mix` with others that do not.
fn run(poison: usize, mix: impl Fn(Vec<Published>) -> Vec<Published>, commit: usize) {
    let id = |number: usize| format!("poison-{number:05}");
    let ids: Vec<_> = (0..poison).map(id).collect();
    let scene = Scene::new(&format!(
        "actors.reader.max_batch_events = {MAX_BATCH_EVENTS}\n\
         faults = {{ enabled = true, panic_on = {ids:?} }}"
    ));
    let publisher = Publisher::open(&scene.data_dir());
    let mut oracle = Oracle::default();
    let letter =
        |id: &String| Published::new(envelope(id, "order.placed", ""), Fate::Condemned("poison"));
    oracle.publish(&publisher, mix(ids.iter().map(letter).collect()), commit);
    let daemon = scene.start();
    daemon.await_acknowledged(oracle.events());
    only_the_processor_was_restarted(&daemon);
    daemon.stop();
    oracle.check(&scene);
    every_letter_names_actor_and_panic(&scene, poison);
    every_panic_is_a_line_that_names_its_actor(&scene);
}

fn only_the_processor_was_restarted(daemon: &Daemon) {
    for (path, restarts) in daemon.restarts() {
        let is_meant = path == "kappa/processors/processor.orders";
        assert!(is_meant == (restarts > 0), "{path} was restarted {restarts} times");
    }
}

fn every_letter_names_actor_and_panic(scene: &Scene, poison: usize) {
    let letters: i64 = scene
        .warehouse()
        .query_row(
            "SELECT count(*) FROM dead_letters WHERE stage = 'poison' AND attempts = 3 \
             AND actor = 'kappa/processors/processor.orders' AND processor = 'orders' \
             AND event_type = 'order.placed' \
             AND reason = 'panicked: event ' || event_id || ' is listed in faults.panic_on'",
            (),
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(letters, poison as i64);
}

fn every_panic_is_a_line_that_names_its_actor(scene: &Scene) {
    let log = std::fs::read_to_string(scene.log_path()).unwrap();
    let mut panics = log.lines().filter(|line| line.contains("panicked thread=")).peekable();
    assert!(panics.peek().is_some(), "{log}");
    for line in panics {
        assert!(line.contains("life{actor=\"kappa/processors/processor.orders\"}"), "{line}");
        assert!(line.contains("is listed in faults.panic_on"), "{line}");
    }
}

#[test]
fn a_poison_event_becomes_a_dead_letter_and_its_neighbours_rows() {
    run(
        1,
        |poison| generated(4).take(100).chain(poison).chain(generated(5).take(100)).collect(),
        300,
    );
}

#[test]
fn a_thousand_poison_events_in_a_row_become_dead_letters_and_the_daemon_stays_up() {
    let between =
        |poison| generated(4).take(200).chain(poison).chain(generated(5).take(200)).collect();
    run(1_000, between, 2_000);
}

#[test]
fn poison_in_every_batch_spends_no_budget() {
    let scattered = |poison: Vec<Published>| {
        let mut others = generated(6);
        let with_others = |one| {
            std::iter::once(one)
                .chain(others.by_ref().take(MAX_BATCH_EVENTS - 1))
                .collect::<Vec<_>>()
        };
        poison.into_iter().flat_map(with_others).collect()
    };
    run(40, scattered, 10_000);
}
