//! Promise 7: stopping loses nothing.

use std::time::Duration;

use kappa_actors::pipeline::Idle;
use kappa_actors::testing::memory::warehouse::{Fault, Moment};
use tokio::time::Instant;

use super::rig::*;
use super::windows::is_kept;
use super::world::World;

#[tokio::test(start_paused = true)]
async fn a_stop_settles_events_in_flight_and_leaves_only_finals() {
    within(async {
        let world = World::default();
        let rig = Rig::open(&world, plan()).await;
        world.log.append((1..=50).flat_map(|number| [order(number), invalid(), user(number)]));
        world.log.until_outstanding(150).await;
        assert!(world.log.acknowledged().len() < 150, "there is something to settle");
        rig.stop().await;
        assert_eq!(world.log.acknowledged().len(), 150);
        assert_eq!(world.written("orders"), each("o", 1..=50, 1));
        assert!(world.archive.names().iter().all(is_kept));
        assert_eq!(world.read_archive().await.len(), 100);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn events_in_a_stuck_sink_are_returned_in_time_and_come_to_the_next_pipeline() {
    within(async {
        let world = World::default();
        let rig = Rig::until_idle(&world, plan()).await;
        let gate = world.warehouse.hold("orders", Moment::BeforeCommit);
        world.log.append(orders(1..=5).into_iter().chain([user(1), invalid()]));
        gate.reached().await;
        until(|| world.log.acknowledged().len() == 2).await;
        let (before, timeout) = (Instant::now(), Duration::from_secs(5));
        let stopped = rig.pipeline.stop(timeout).await;
        assert_eq!((stopped.given_back, stopped.archive_closed), (5, false));
        assert!(before.elapsed() < timeout + Duration::from_secs(1), "{:?}", before.elapsed());
        assert_eq!(rig.board.counters().given_back.get(), 5);
        assert!(world.log.outstanding().is_empty());
        assert_eq!(world.log.acknowledged().len(), 2);
        drop(gate);

        let rig = Rig::until_idle(&world, plan()).await;
        rig.finish().await;
        assert_eq!(world.warehouse.rows("orders").len(), 5);
        assert_eq!(world.written("users"), each("u", 1..=1, 1), "it was acknowledged");
        assert_eq!(world.log.acknowledged().len(), 7);
        assert!(world.archive.names().iter().all(is_kept));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_with_a_sink_down_returns_its_waiting_events() {
    within(async {
        let world = World::default();
        let rig = Rig::open(&world, plan()).await;
        world.warehouse.fail("orders", Fault::Unavailable);
        world.log.append(orders(1..=5));
        world.log.until_outstanding(5).await;
        let stopped = rig.pipeline.stop(Duration::from_secs(5)).await;
        assert_eq!(stopped.given_back, 5);
        assert!(world.log.acknowledged().is_empty());
        world.warehouse.mend("orders");
        Rig::until_idle(&world, plan()).await.finish().await;
        assert_eq!(world.written("orders"), each("o", 1..=5, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_without_any_time_gives_back_everything() {
    within(async {
        let world = World::default();
        let rig = Rig::open(&world, plan()).await;
        world.log.append(orders(1..=300));
        world.log.until_outstanding(300).await;
        let stopped = rig.pipeline.stop(Duration::ZERO).await;
        assert_eq!(stopped.given_back, 300);
        assert!(world.log.outstanding().is_empty());
        Rig::until_idle(&world, plan()).await.finish().await;
        assert_eq!(world.warehouse.rows("orders").len(), 300);
        assert_eq!(world.read_archive().await, each("o", 1..=300, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_acknowledgements_that_fail_for_a_while() {
    within(async {
        let world = World::default();
        let rig = Rig::open(&world, plan()).await;
        world.log.append(orders(1..=5));
        world.log.until_outstanding(5).await;
        world.log.fail_acknowledgements(10);
        rig.stop().await;
        assert_eq!(world.leases(), 5);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_log_with_an_end_is_idle_behind_it() {
    within(async {
        let world = World::default();
        world.log.append(orders(1..=5));
        world.log.end();
        let rig = Rig::open(&world, plan()).await;
        rig.finish().await;
        assert_eq!(world.written("orders"), each("o", 1..=5, 1));
        assert_eq!(world.log.acknowledged().len(), 5);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_does_not_know_its_backlog_is_idle_after_a_quiet_period() {
    within(async {
        let world = World::default();
        world.log.hide_backlog();
        let mut rig = Rig::until_idle(&world, plan()).await;
        let (log, start) = (world.log.clone(), Instant::now());
        let late = QUIET_PERIOD * 9 / 10;
        tokio::spawn(async move {
            tokio::time::sleep(late).await;
            log.append(orders(1..=5));
        });
        assert_eq!(rig.pipeline.idle().await, Ok(Idle::QuietFor(QUIET_PERIOD)));
        assert!(start.elapsed() >= late + QUIET_PERIOD, "idle after {:?}", start.elapsed());
        rig.stop().await;
        assert_eq!(world.written("orders"), each("o", 1..=5, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_idle_while_anything_is_unacknowledged() {
    within(async {
        let world = World::default();
        let gate = world.warehouse.hold("orders", Moment::AfterCommit);
        let mut rig = Rig::until_idle(&world, plan()).await;
        world.log.append(orders(1..=5));
        gate.reached().await;
        let idle = tokio::time::timeout(Duration::from_secs(60), rig.pipeline.idle()).await;
        assert!(idle.is_err(), "idle with five rows in the air");
        drop(gate);
        rig.finish().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_acknowledgements_is_reported_and_returns_their_events() {
    within(async {
        let world = World::default();
        world.panic_at_acknowledgements();
        let mut rig = Rig::until_idle(&world, plan()).await;
        world.log.append(orders(1..=5));
        let seen = rig.pipeline.idle().await.unwrap_err();
        assert!(seen.to_string().contains("acknowledgements"), "{seen}");
        assert_eq!(
            rig.pipeline.idle().await.unwrap_err(),
            seen,
            "a second call gets the same error"
        );
        assert_eq!(rig.pipeline.failed().await, seen);
        let before = Instant::now();
        let stopped = rig.pipeline.stop(HOUR).await;
        assert_eq!((stopped.given_back, stopped.archive_closed), (5, false));
        assert!(before.elapsed() < Duration::from_secs(1), "nothing is waited for");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_root_that_ended_may_be_asked_about_again() {
    within(async {
        let world = World::default();
        let mut plan = plan();
        plan.actors.supervisor.restart = restart(0);
        plan.actors.router.restart = restart(0);
        let mut rig = Rig::until_idle(&world, plan).await;
        rig.kill("kappa/intake/router");
        world.log.append(orders(1..=5));
        let failed = rig.pipeline.failed().await;
        assert_eq!(rig.pipeline.failed().await, failed);
        assert_eq!(rig.pipeline.idle().await, Err(failed));
        assert_eq!(rig.pipeline.stop(HOUR).await.given_back, 5);
    })
    .await;
}
