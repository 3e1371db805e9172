//! A daemon that is killed loses nothing, and nothing comes twice into a table.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rand::RngExt as _;

use crate::support::{Daemon, Oracle, Published, Publisher, Scene, await_that, generated};

const KILLS: usize = 50;

/// A start takes a few hundred milliseconds: some are killed before they have done anything.
const LONGEST_LIFE: Duration = Duration::from_millis(900);

#[test]
fn a_daemon_killed_fifty_times_while_others_publish_loses_nothing() {
    // Parts, manifests and finals are under way at any time.
    let scene = Scene::new("actors.archive_window = { flush_interval = '50ms', grace = '1s' }");
    drop(Publisher::open(&scene.data_dir()));
    let enough = AtomicBool::new(false);
    let mut oracle = Oracle::default();
    thread::scope(|threads| {
        let publishers: Vec<_> = [20, 21]
            .map(|seed| {
                threads.spawn({
                    let (enough, scene) = (&enough, &scene);
                    move || publish_until(enough, scene, seed)
                })
            })
            .into();
        for _ in 0..KILLS {
            let daemon = Daemon::spawn(&scene, scene.command(&["run"]));
            // Not to wait for anything: the moment is the fault.
            thread::sleep(rand::rng().random_range(Duration::ZERO..LONGEST_LIFE));
            daemon.kill_9();
        }
        enough.store(true, Ordering::Relaxed);
        publishers.into_iter().for_each(|one| oracle.remember(one.join().unwrap()));
    });
    let left = Publisher::open(&scene.data_dir()).backlog();
    assert!(left < oracle.events() as u64, "none of the lives achieved anything");
    scene.run_until_idle();
    oracle.check(&scene);
}

/// Publishes a few events at a time, as long as it is not enough and not too many wait.
fn publish_until(enough: &AtomicBool, scene: &Scene, seed: u64) -> Vec<Published> {
    let publisher = Publisher::open(&scene.data_dir());
    let mut events = generated(seed);
    let mut published = Vec::new();
    while !enough.load(Ordering::Relaxed) {
        let few: Vec<_> = events.by_ref().take(30).collect();
        publisher.publish(&few);
        published.extend(few);
        await_that("a daemon that takes events", || {
            let may_go_on = enough.load(Ordering::Relaxed) || publisher.backlog() < 2_000;
            may_go_on.then_some(())
        });
    }
    published
}
