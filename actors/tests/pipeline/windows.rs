//! Windows: few are open, and all are composed, whichever actor dies.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use kappa_actors::archive::{
    Compression, FinalName, Incarnation, IndexName, LineFormat, ManifestName, Part, Window,
    store_part, unfinished,
};
use kappa_actors::message::{Lease, Message};
use kappa_actors::port::ArchiveStore;
use kappa_actors::time::Timestamp;
use kappa_actors::vitals::Board;

use super::crashes::window_path;
use super::rig::*;
use super::world::World;

#[expect(clippy::ptr_arg, reason = "passed to iterators over names")]
fn is_final(name: &String) -> bool {
    name.parse::<FinalName>().is_ok()
}

#[expect(clippy::ptr_arg, reason = "passed to iterators over names")]
fn is_index(name: &String) -> bool {
    name.parse::<IndexName>().is_ok()
}

/// Whether nothing is unfinished.
pub(crate) fn is_kept(name: &String) -> bool {
    is_final(name) || is_index(name)
}

/// Whether nothing but finals and as many indexes is left, one of each for each manifest.
fn is_closed(names: &[String], finals: usize) -> bool {
    let count = |is: fn(&String) -> bool| names.iter().filter(|name| is(name)).count();
    names.len() == 2 * finals && count(is_index) == finals && count(is_final) == finals
}

/// The most windows that were open at a time.
fn most_open(world: &World, board: &Arc<Board>) -> Arc<AtomicUsize> {
    let most = Arc::new(AtomicUsize::new(0));
    let (seen, board): (_, Weak<Board>) = (Arc::clone(&most), Arc::downgrade(board));
    world.at_put(move || {
        let Some(board) = board.upgrade() else { return };
        let open = board.paths().iter().filter(|path| path.contains("/window.")).count();
        seen.fetch_max(open, Ordering::Relaxed);
    });
    most
}

#[tokio::test(start_paused = true)]
async fn many_windows_are_sealed_a_few_at_a_time() {
    within(async {
        let world = World::default();
        let mut plan = plan();
        plan.actors.archive_window.max_open = 2;
        // None of them is over by the clock: only a window that waits for a place can have one closed.
        plan.actors.archive_window.grace = 10_000 * HOUR;
        let rig = Rig::until_idle(&world, plan).await;
        let most = most_open(&world, &rig.board);
        world.log.append((1..=200).map(|number| {
            let window = (number % 40) as u32 * 301;
            published(order(number), Duration::from_secs(window.into()))
        }));
        let before = tokio::time::Instant::now();
        rig.finish().await;
        assert!(before.elapsed() < Duration::from_secs(1), "no tick was waited for");
        assert_eq!(most.load(Ordering::Relaxed), 2);
        assert_eq!(world.archived(), each("o", 1..=200, 1));
        assert_eq!(world.read_archive().await, each("o", 1..=200, 1));
        let names = world.archive.names();
        let finals = names.iter().filter(|name| is_final(name)).count();
        assert!(is_closed(&names, finals), "{names:?}");
        assert!(finals >= 40, "{finals}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_late_event_makes_another_manifest() {
    within(async {
        let world = World::default();
        let mut plan = plan();
        plan.actors.archive_window.grace = Duration::ZERO;
        plan.actors.archive_window.flush_bytes = 1;
        let rig = Rig::open(&world, plan).await;
        for number in 1..=2 {
            world.log.append([published(order(number), HOUR)]);
            world.archive.wait_until(|names| is_closed(names, number)).await;
            until(|| window_path(&rig).is_none()).await;
        }
        let manifest = |name: &String| name.parse::<FinalName>().unwrap().manifest.to_string();
        let mut names = world.archive.names();
        names.retain(is_final);
        let manifests: BTreeSet<_> = names.iter().map(manifest).collect();
        assert_eq!(manifests.len(), 2);
        rig.stop().await;
        assert_eq!(world.read_archive().await, each("o", 1..=2, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn parts_of_a_window_that_died_are_composed_by_its_next_life() {
    within(async {
        let world = World::default();
        let mut plan = plan();
        plan.actors.archive_window.flush_bytes = 1;
        // Only the window itself finishes its parts.
        plan.archive.as_mut().unwrap().exclusive = false;
        let rig = Rig::open(&world, plan).await;
        world.log.append([published(order(1), HOUR)]);
        until(|| world.archived().len() == 1).await;
        let path = window_path(&rig).unwrap();
        rig.kill(&path);
        world.log.append([published(order(2), HOUR)]);
        rig.restarted(&path, 1).await;
        until(|| world.archived().len() == 2).await;
        rig.stop().await;
        assert!(world.archive.names().iter().all(is_kept), "{:?}", world.archive.names());
        assert_eq!(world.read_archive().await, each("o", 1..=2, 1));
    })
    .await;
}

/// A part that a daemon left which was killed.
async fn leave_a_part(archive: &dyn ArchiveStore, number: usize) {
    let publish_time = Timestamp::from_micros(0);
    let mut part = Part::new(LineFormat::Payload, Compression::None);
    part.append(&Message {
        id: "1".into(),
        payload: order(number).payload,
        publish_time,
        attributes: None,
        ordering_key: "".into(),
        attempt: None,
        archived: false,
        suspect: None,
        lease: Lease(1),
    });
    let part = part.encode().unwrap();
    let (window, incarnation) = (Window::of(publish_time), Incarnation::random());
    store_part(archive, window, &incarnation, 0, &part).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_another_left_unfinished_is_finished_at_the_start() {
    within(async {
        let world = World::default();
        leave_a_part(&world.archive, 1).await;
        leave_a_part(&world.archive, 2).await;
        let rig = Rig::open(&world, plan()).await;
        world.archive.wait_until(|names| is_closed(names, 2)).await;
        rig.stop().await;
        assert_eq!(world.read_archive().await, each("o", 1..=2, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn beside_other_writers_only_windows_silent_for_the_grace_are_finished() {
    within(async {
        let world = World::default();
        leave_a_part(&world.archive, 1).await;
        let mut plan = plan();
        plan.archive.as_mut().unwrap().exclusive = false;
        plan.actors.archive_window.grace = Duration::from_secs(60);
        let (start, rig) = (tokio::time::Instant::now(), Rig::open(&world, plan).await);
        world.archive.wait_until(|names| is_closed(names, 1)).await;
        let silent = start.elapsed();
        assert!(silent >= Duration::from_secs(60), "finished after {silent:?}");
        rig.stop().await;
        assert_eq!(world.read_archive().await, each("o", 1..=1, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_cannot_be_read_keeps_no_other_window_from_being_finished() {
    within(async {
        let world = World::default();
        leave_a_part(&world.archive, 1).await;
        let left = unfinished(&world.archive).await.unwrap();
        let name = ManifestName {
            window: Window::of(Timestamp::from_micros(-1)),
            incarnation: left[0].incarnation.clone(),
            turn: 0,
        };
        world.archive.put_if_absent(&name.to_string(), "{".into()).await.unwrap();
        let rig = Rig::open(&world, plan()).await;
        rig.degraded_by("kappa/archive/recovery").await;
        let only_it = |names: &[String]| names.iter().filter(|name| !is_kept(name)).count() == 1;
        world.archive.wait_until(only_it).await;
        let stopped = rig.pipeline.stop(HOUR).await;
        assert!(!stopped.archive_closed);
        assert_eq!(stopped.given_back, 0);
        assert!(world.archive.names().contains(&name.to_string()), "only a person can decide");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_window_that_comes_again_after_its_close_has_one_life_at_a_time() {
    within(async {
        let world = World::default();
        let mut plan = plan();
        plan.actors.archive_window.max_open = 1;
        plan.actors.archive_window.grace = 10_000 * HOUR;
        let rig = Rig::until_idle(&world, plan).await;
        // Two windows take turns for the only place: each closes and comes again, over and over.
        for round in 0..50 {
            let ages = [HOUR, 2 * HOUR];
            let events = (0..4).map(|one| published(order(round * 4 + one), ages[one % 2]));
            world.log.append(events);
            if let Some(path) = window_path(&rig) {
                rig.kill(&path);
            }
            until(|| world.archived().len() >= round * 2).await;
        }
        rig.finish().await;
        assert_eq!(world.read_archive().await, each("o", 0..=199, 1));
        assert!(world.archive.names().iter().all(is_kept));
    })
    .await;
}
