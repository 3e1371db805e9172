//! Promise 8: a broken sink is waited for, not crashed on; and so is a broken log.

use std::time::Duration;

use kappa_actors::testing::memory::warehouse::{Fault, Moment};
use kappa_actors::vitals::DaemonState;

use super::rig::*;
use super::world::World;

const WRITER: &str = "kappa/warehouse/writer.orders";

#[tokio::test(start_paused = true)]
async fn a_warehouse_that_is_unavailable_is_waited_for_by_name() {
    within(async {
        let world = World::default();
        let mut rig = Rig::until_idle(&world, plan()).await;
        world.warehouse.fail("orders", Fault::Unavailable);
        world.log.append(orders(1..=5).into_iter().chain([user(1)]));
        assert_eq!(rig.degraded_by(WRITER).await, 5);
        tokio::time::advance(Duration::from_secs(60)).await;
        until(|| world.warehouse.writes("orders") > 5).await;
        until(|| world.log.acknowledged().len() == 1).await;
        world.warehouse.mend("orders");
        rig.pipeline.idle().await.unwrap();
        assert_eq!(rig.board.snapshot().state, DaemonState::Running);
        let board = rig.stop().await;
        assert_eq!(board.find(WRITER).unwrap().restarts(), 0);
        assert_eq!(world.written("orders"), each("o", 1..=5, 1));
        assert_eq!(world.written("users"), each("u", 1..=1, 1));
        assert_eq!(board.counters().redelivered.get(), 0, "no claim was dropped");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_table_is_made_again() {
    within(async {
        let world = World::default();
        let rig = Rig::until_idle(&world, plan()).await;
        world.warehouse.drop_table("orders");
        world.log.append(orders(1..=5));
        let board = rig.finish().await;
        assert_eq!(world.warehouse.rows("orders").len(), 5);
        assert_eq!(board.find(WRITER).unwrap().restarts(), 0);
        assert!(world.dead_letters().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_archive_that_cannot_be_written_stops_acknowledgements_and_nothing_else() {
    within(async {
        let world = World::default();
        let mut rig = Rig::until_idle(&world, plan()).await;
        world.archive.set_unavailable(true);
        world.log.append(orders(1..=5));
        assert_eq!(rig.degraded_by("kappa/archive/window.").await, 5);
        until(|| world.written("orders").len() == 5).await;
        assert!(world.log.acknowledged().is_empty());
        world.archive.set_unavailable(false);
        rig.pipeline.idle().await.unwrap();
        // The recovery, too, has found it gone.
        until(|| rig.board.snapshot().state == DaemonState::Running).await;
        rig.stop().await;
        assert_eq!(world.archived(), each("o", 1..=5, 1));
        assert_eq!(world.written("orders"), each("o", 1..=5, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn parts_that_fail_one_after_another_are_each_stored_once() {
    within(async {
        let world = World::default();
        let mut plan = plan();
        plan.actors.archive_window.flush_bytes = 1;
        plan.actors.reader.max_batch_events = 1;
        let rig = Rig::until_idle(&world, plan).await;
        for round in 0..5 {
            world.archive.lose_answers(round);
            let first = round * 4 + 1;
            world.log.append(orders(first..=first + 3));
            until(|| world.leases() == first + 3).await;
        }
        rig.stop().await;
        assert_eq!(world.read_archive().await, each("o", 1..=20, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_part_whose_answer_was_lost_is_stored_once() {
    within(async {
        let world = World::default();
        let rig = Rig::until_idle(&world, plan()).await;
        world.archive.lose_answers(1);
        world.log.append(orders(1..=5));
        rig.finish().await;
        assert_eq!(world.read_archive().await, each("o", 1..=5, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_is_asked_again() {
    within(async {
        let world = World::default();
        let mut rig = Rig::until_idle(&world, plan()).await;
        world.log.fail_pulls(usize::MAX);
        world.log.append(orders(1..=5));
        rig.degraded_by("event log").await;
        world.log.fail_pulls(0);
        world.log.all_acknowledged().await;
        rig.pipeline.idle().await.unwrap();
        assert_eq!(rig.board.snapshot().state, DaemonState::Running);
        let board = rig.stop().await;
        assert_eq!(world.written("orders"), each("o", 1..=5, 1));
        assert_eq!(board.find("kappa/intake/reader").unwrap().restarts(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_that_fail_are_repeated_until_they_are_taken() {
    within(async {
        let world = World::default();
        world.log.fail_acknowledgements(5);
        let rig = Rig::until_idle(&world, plan()).await;
        world.log.append(orders(1..=5));
        assert_eq!(rig.degraded_by("event log (acknowledgement)").await, 5);
        rig.finish().await;
        assert_eq!(world.leases(), 5);
        assert_eq!(world.written("orders"), each("o", 1..=5, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_again_in_flight_makes_no_second_row() {
    within(async {
        let world = World::default();
        let gate = world.warehouse.hold("orders", Moment::BeforeCommit);
        let rig = Rig::until_idle(&world, plan()).await;
        let ids = world.log.append([order(1)]);
        gate.reached().await;
        assert!(world.log.redeliver(&ids[0]));
        until(|| world.log.attempts(&ids[0]) == 2).await;
        drop(gate);
        let board = rig.finish().await;
        assert_eq!(world.written("orders"), each("o", 1..=1, 1));
        assert_eq!(world.archived(), each("o", 1..=1, 1));
        assert_eq!(world.leases(), 2, "both leases are acknowledged");
        assert_eq!(board.counters().received.get(), 1);
    })
    .await;
}
