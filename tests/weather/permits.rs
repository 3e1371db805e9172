//! No timer may hold the permits that everyone waits for.

use crate::support::{Fate, Oracle, Published, Publisher, Scene, envelope, generated};

/// Timers of which a test has time for two.
const TIMERS: &str = "
    actors.archive_window.flush_interval = '1h'
    actors.writer.max_delay = '60s'
    actors.dead_letter.max_delay = '60s'
";

#[test]
fn permits_for_less_than_a_part_wait_for_no_timer() {
    let scene = Scene::new(&format!("{TIMERS}\nactors.reader.max_outstanding_messages = 50"));
    let publisher = Publisher::open(&scene.data_dir());
    let mut oracle = Oracle::default();
    oracle.publish(&publisher, generated(40).take(1_000), 1_000);
    let daemon = scene.start();
    // The last few leave permits to spare, so that they may wait for more.
    daemon.await_status("all but the last to be acknowledged", |status| {
        (status.counters.acked >= 951).then_some(())
    });
    daemon.stop();
    oracle.check(&scene);
}

#[test]
fn an_event_larger_than_all_permits_is_taken_alone() {
    let scene = Scene::new(&format!("{TIMERS}\nactors.reader.max_outstanding_bytes = 20_000"));
    let publisher = Publisher::open(&scene.data_dir());
    let large = |number: usize| {
        let text = format!(r#","data":{{"text":"{}"}}"#, "x".repeat(1_000_000));
        Published::new(envelope(&format!("large-{number}"), "cart.seen", &text), Fate::Stored)
    };
    let mut oracle = Oracle::default();
    for number in 0..4 {
        let events =
            generated(41 + number as u64).take(100).chain([large(number), large(number + 4)]);
        oracle.publish(&publisher, events, 200);
    }
    scene.run_until_idle();
    oracle.check(&scene);
}
