//! Several commits to one table in flight at a time: each is a batch of its own, independent of the others.

use std::time::Duration;

use kappa_actors::testing::memory::warehouse::{Fault, Gate, Moment};
use kappa_actors::vitals::DaemonState;

use super::rig::*;
use super::world::World;

const WRITER: &str = "kappa/warehouse/writer.orders";

const MINUTE: Duration = Duration::from_secs(60);

/// Has orders 1 to 3 on their way to the warehouse, each in a commit of its own, which `gate` holds.
async fn three_on_their_way(world: &World, max_attempts: u32) -> (Rig, Gate) {
    let mut plan = plan();
    plan.actors.reader.max_attempts = max_attempts;
    // An event that panics the warehouse is to blame, without further proof.
    plan.actors.reader.panic_grace = Duration::ZERO;
    plan.processors[0].writer.max_batch_rows = 1;
    // One more than are on their way: the writer goes on with its mailbox.
    plan.processors[0].writer.max_in_flight = 4;
    let rig = Rig::until_idle(world, plan).await;
    let gate = world.warehouse.hold("orders", Moment::BeforeCommit);
    for number in 1..=3 {
        world.log.append([order(number)]);
        until(|| world.writing("orders") == number).await;
    }
    (rig, gate)
}

#[tokio::test(start_paused = true)]
async fn as_many_commits_are_on_their_way_as_the_settings_say() {
    for allowed in [1, 3] {
        within(async {
            let world = World::default();
            let mut plan = plan();
            plan.processors[0].writer.max_batch_rows = 1;
            plan.processors[0].writer.max_in_flight = allowed;
            plan.actors.archive_window.flush_bytes = 1;
            let rig = Rig::until_idle(&world, plan).await;
            let gate = world.warehouse.hold("orders", Moment::BeforeCommit);
            for number in 1..=5 {
                world.log.append([order(number)]);
                // The other sink has it, so this one has finished its part too.
                until(|| world.archived().len() == number).await;
                assert_eq!(world.writing("orders"), number.min(allowed));
            }
            drop(gate);
            rig.finish().await;
            assert_eq!(world.written("orders"), each("o", 1..=5, 1));
            assert_eq!(world.leases(), 5);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn commits_that_fail_together_are_written_together_after_one_pause() {
    within(async {
        let world = World::default();
        let (mut rig, gate) = three_on_their_way(&world, 3).await;
        world.warehouse.fail("orders", Fault::Unavailable);
        drop(gate);
        rig.degraded_by(WRITER).await;
        until(|| world.warehouse.writes("orders") == 3).await;
        world.log.append([order(4)]);
        until(|| world.warehouse.writes("orders") == 4).await;
        world.warehouse.mend("orders");
        rig.pipeline.idle().await.unwrap();
        assert_eq!(world.warehouse.writes("orders"), 5, "all that failed go in one");
        let board = rig.stop().await;
        assert_eq!(world.written("orders"), each("o", 1..=4, 1));
        assert_eq!(board.find(WRITER).unwrap().restarts(), 0);
        assert_eq!(board.counters().redelivered.get(), 0, "no claim was dropped");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn commits_on_their_way_end_with_their_writer_and_their_events_come_again() {
    within(async {
        let world = World::default();
        let (rig, gate) = three_on_their_way(&world, 3).await;
        rig.kill(WRITER);
        world.log.append(orders(4..=5));
        rig.restarted(WRITER, 1).await;
        drop(gate);
        rig.finish().await;
        assert_eq!(world.written("orders"), each("o", 1..=5, 1), "none was left to itself");
        assert_eq!(world.leases(), 5);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn of_commits_on_their_way_only_that_which_panics_is_suspect() {
    within(async {
        let world = World::default();
        let (rig, gate) = three_on_their_way(&world, 1).await;
        world.panic_after_commit("orders", 1);
        drop(gate);
        rig.finish().await;
        assert_eq!(world.dead_letters().len(), 1);
        assert_eq!(world.warehouse.rows("orders").len(), 3);
        assert_eq!(world.leases(), 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_commit_stays_in_trouble_while_other_commits_succeed() {
    within(async {
        let world = World::default();
        let mut plan = plan();
        let writer = &mut plan.processors[0].writer;
        (writer.max_batch_rows, writer.max_in_flight) = (1, 4);
        (writer.retry_backoff, writer.max_retry_backoff) = (MINUTE, MINUTE);
        let mut rig = Rig::until_idle(&world, plan).await;
        let gate = world.warehouse.hold("orders", Moment::BeforeCommit);
        world.log.append([order(1)]);
        until(|| world.writing("orders") == 1).await;
        world.fail_writes("orders", 1);
        world.log.append([order(2)]);
        rig.degraded_by(WRITER).await;
        // Sent before, and answered after the failure.
        drop(gate);
        until(|| world.written("orders").len() == 1).await;
        tokio::time::sleep(MINUTE / 2).await;
        assert_eq!(rig.degraded_by(WRITER).await, 1, "the other waits still");
        rig.pipeline.idle().await.unwrap();
        assert_eq!(rig.board.snapshot().state, DaemonState::Running);
        rig.stop().await;
        assert_eq!(world.written("orders"), each("o", 1..=2, 1));
    })
    .await;
}
