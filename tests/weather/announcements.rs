//! Faults are logged, and `run --until-idle` can end at a deadline or fail on dead letters.

use crate::support::{Fate, Oracle, Published, Publisher, Scene, generated};

#[test]
fn a_fault_of_a_sink_is_logged_when_it_begins_and_when_it_is_over() {
    let scene =
        Scene::new("faults = { enabled = true, fail = { sink = 'writer.orders', for = '3s' } }");
    let mut oracle = Oracle::default();
    oracle.publish(&Publisher::open(&scene.data_dir()), generated(60).take(300), 300);
    scene.run_until_idle();
    oracle.check(&scene);
    let log = scene.log();
    let of_orders = |words: &str| {
        let line = |line: &&str| line.contains(words) && line.contains("writer.orders");
        log.lines().find(line).unwrap_or_else(|| panic!("no {words:?} in {log}")).to_owned()
    };
    let began = of_orders("degraded");
    assert!(began.contains(" WARN ") && began.contains("waiting="), "{began}");
    let over = of_orders("recovered");
    assert!(over.contains(" INFO ") && over.contains("seconds="), "{over}");
}

#[test]
fn a_deadline_ends_a_run_that_does_not_become_idle() {
    let scene = Scene::new(
        "drain_timeout = '100ms'
        faults = { enabled = true, fail = { sink = 'writer.orders', for = '1h' } }",
    );
    let mut oracle = Oracle::default();
    oracle.publish(&Publisher::open(&scene.data_dir()), generated(61).take(100), 100);
    let (code, shown) = scene.run(&["run", "--until-idle", "--deadline", "2s"]);
    assert_eq!(code, Some(1), "{shown}");
    let error = shown.lines().find(|line| line.starts_with("error: ")).unwrap_or(&shown);
    for words in ["not idle after 2s", "events are not acknowledged", "writer.orders"] {
        assert!(error.contains(words), "no {words:?} in {error}");
    }
    scene.configure("");
    let (code, shown) = scene.run(&["run", "--until-idle", "--deadline", "5m"]);
    assert_eq!(code, Some(0), "{shown}");
    oracle.check(&scene);
}

#[test]
fn dead_letters_are_counted_at_the_end_and_fail_a_run_that_asks_for_it() {
    let scene = Scene::new("");
    let publisher = Publisher::open(&scene.data_dir());
    let strict = ["run", "--until-idle", "--fail-on-dead-letters"];
    publisher.publish(&[Published::new("no JSON", Fate::Invalid)]);
    let (code, shown) = scene.run(&strict);
    assert_eq!(code, Some(1), "{shown}");
    for words in ["dead_letters=1", "events became dead letters: 1", "kappa dead-letters list"] {
        assert!(shown.contains(words), "no {words:?} in {shown}");
    }
    let (code, shown) = scene.run(&strict);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("dead_letters=0"), "{shown}");
}
