//! Promises 3 and 6: a crash costs only the events in the crashed actor, and restarts have a budget.

use kappa_actors::message::NewMessage;

use super::rig::*;
use super::world::World;

const WRITER: &str = "kappa/warehouse/writer.orders";

#[tokio::test(start_paused = true)]
async fn a_crashed_writer_gets_only_its_own_events_again() {
    within(async {
        let world = World::default();
        let mut plan = plan();
        // All other sinks store at once.
        plan.processors[1].writer.max_batch_rows = 1;
        plan.actors.archive_window.flush_bytes = 1;
        let rig = Rig::open(&world, plan).await;
        world.log.append(orders(1..=3).into_iter().chain([user(1), user(2)]));
        until(|| world.archived().len() == 5 && world.written("users").len() == 2).await;
        rig.kill(WRITER);
        world.log.append([order(4)]);
        rig.restarted(WRITER, 1).await;
        rig.stop().await;

        assert_eq!(world.written("orders"), each("o", 1..=4, 1), "none was written before");
        assert_eq!(world.written("users"), each("u", 1..=2, 1));
        let mut archived = each("o", 1..=4, 1);
        archived.extend(each("u", 1..=2, 1));
        assert_eq!(world.archived(), archived);
        assert_eq!(world.leases(), 6, "each message was handed out and acknowledged once");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn rows_committed_by_a_writer_that_died_of_it_come_again_to_their_table_alone() {
    within(async {
        let world = World::default();
        world.panic_after_commit("orders", 1);
        let rig = Rig::until_idle(&world, plan()).await;
        world.log.append(orders(1..=5).into_iter().chain([user(1)]));
        rig.finish().await;

        assert_eq!(world.written("orders"), each("o", 1..=5, 2));
        assert_eq!(world.warehouse.rows("orders").len(), 5);
        assert_eq!(world.written("users"), each("u", 1..=1, 1));
        assert!(world.archived().values().all(|&times| times == 1));
        assert!(world.dead_letters().is_empty());
    })
    .await;
}

/// Kills the actor repeatedly under load. No sink may get an event twice, because no actor dies between storing and
/// settling.
async fn survives(path: &str) {
    let world = World::default();
    let mut plan = plan();
    // Windows and writers hold events for a while, and store them before they are asked to.
    plan.actors.archive_window.flush_bytes = 2_000;
    plan.processors[0].writer.max_batch_rows = 30;
    let mut rig = Rig::until_idle(&world, plan).await;
    let mut published = 0;
    for round in 1..=5 {
        let first = published + 1;
        published += 40;
        let batch = (first..=published).flat_map(|number| [order(number), user(number), invalid()]);
        world.log.append(batch);
        if rig.board.find(path).is_some() {
            rig.kill(path);
            world.log.append([order(1_000 + round), invalid()]);
            rig.restarted(path, round as u64 - 1).await;
        }
        rig.pipeline.idle().await.unwrap();
    }
    assert!(rig.restarts(path) >= 4, "{path} was started again {} times", rig.restarts(path));
    rig.stop().await;
    let mut all_orders = each("o", 1..=published, 1);
    let late = world.written("orders").into_iter().filter(|(id, _)| id.len() > 4);
    all_orders.extend(late.map(|(id, _)| (id, 1)));
    assert_eq!(world.written("orders"), all_orders, "{path}");
    assert_eq!(world.written("users"), each("u", 1..=published, 1), "{path}");
    all_orders.extend(each("u", 1..=published, 1));
    assert_eq!(world.archived(), all_orders, "{path}");
    assert_eq!(world.read_archive().await, all_orders, "{path}");
    let invalid = world.written("dead_letters");
    assert!(invalid.len() >= published && invalid.values().all(|&times| times == 1), "{path}");
    world.log.all_acknowledged().await;
    assert_eq!(world.leases(), world.log.acknowledged().len(), "{path}");
}

#[tokio::test(start_paused = true)]
async fn an_actor_of_every_kind_may_die_under_load() {
    for path in [
        "kappa/intake/reader",
        "kappa/intake/parser.0",
        "kappa/intake/router",
        "kappa/processors/processor.orders",
        WRITER,
        "kappa/archive/keeper",
        "kappa/dead-letter/dead-letter",
    ] {
        within(survives(path)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_that_dies_costs_no_line_and_no_second_row() {
    within(async {
        let world = World::default();
        let mut plan = plan();
        plan.processors[0].writer.max_batch_rows = 1;
        let rig = Rig::open(&world, plan).await;
        world.log.append(orders(1..=3));
        until(|| world.written("orders").len() == 3).await;
        let path = window_path(&rig).unwrap();
        rig.kill(&path);
        world.log.append(orders(4..=5));
        rig.restarted(&path, 1).await;
        rig.stop().await;
        assert_eq!(world.written("orders"), each("o", 1..=5, 1));
        assert_eq!(world.archived(), each("o", 1..=5, 1));
        assert_eq!(world.read_archive().await, each("o", 1..=5, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_on_its_way_when_its_window_dies_is_stored_by_the_next_life() {
    within(async {
        let world = World::default();
        let mut plan = plan();
        plan.actors.archive_window.flush_bytes = 1;
        let rig = Rig::until_idle(&world, plan).await;
        world.log.append([order(1)]);
        until(|| world.archived().len() == 1).await;
        let path = window_path(&rig).unwrap();
        let gate = world.archive.hold();
        world.log.append([order(2)]);
        until(|| world.written("orders").len() == 2).await;
        // It dies over the next events, which it takes while the part waits at the gate.
        rig.kill(&path);
        world.log.append(pairs(3));
        rig.restarted(&path, 1).await;
        gate.open();
        rig.finish().await;
        assert_eq!(world.archived(), each("o", 1..=4, 1));
        assert_eq!(world.read_archive().await, each("o", 1..=4, 1));
        assert_eq!(world.written("orders"), each("o", 1..=4, 1));
    })
    .await;
}

pub(crate) fn window_path(rig: &Rig) -> Option<String> {
    rig.board.paths().into_iter().find(|path| path.contains("/window."))
}

/// More than one event at a time, so that the actor is to blame.
fn pairs(first: usize) -> [NewMessage; 2] {
    [order(first), order(first + 1)]
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_starts_the_whole_group_afresh_and_loses_nothing() {
    within(async {
        let world = World::default();
        let mut plan = plan();
        plan.processors[0].writer.restart = restart(1);
        let rig = Rig::open(&world, plan).await;
        // Held by a neighbour, which goes down with its group.
        world.log.append([user(1)]);
        for (first, restarts) in [(1, 1), (3, 2)] {
            rig.kill(WRITER);
            world.log.append(pairs(first));
            rig.restarted(WRITER, restarts).await;
            // Suspects are written alone, and at once.
            until(|| world.written("orders").len() > first).await;
        }
        assert_eq!(rig.restarts("kappa/warehouse"), 1);
        let board = rig.stop().await;
        assert_eq!(world.written("orders"), each("o", 1..=4, 1));
        assert_eq!(world.written("users"), each("u", 1..=1, 1));
        assert_eq!(board.find("kappa/archive").unwrap().restarts(), 0, "a neighbour");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_spent_root_fails_the_pipeline_which_returns_its_events() {
    within(async {
        let world = World::default();
        let mut dying = plan();
        dying.processors[0].writer.restart = restart(0);
        dying.actors.supervisor.restart = restart(0);
        let mut rig = Rig::open(&world, dying).await;
        rig.kill(WRITER);
        world.log.append(pairs(1));
        let failed = rig.pipeline.failed().await.to_string();
        assert!(failed.contains("kappa/warehouse was restarted 0 times"), "{failed}");
        assert!(failed.contains("killed by fault injection"), "{failed}");
        let before = tokio::time::Instant::now();
        let stopped = rig.pipeline.stop(HOUR).await;
        assert_eq!((stopped.given_back, stopped.archive_closed), (2, false));
        assert!(before.elapsed() < HOUR, "there is no actor left to wait for");
        assert!(world.log.outstanding().is_empty());

        Rig::until_idle(&world, plan()).await.finish().await;
        assert_eq!(world.written("orders"), each("o", 1..=2, 1));
        assert_eq!(world.log.acknowledged().len(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_root_that_fails_while_draining_ends_the_drain() {
    within(async {
        let world = World::default();
        let mut dying = plan();
        dying.processors[0].writer.restart = restart(0);
        dying.actors.supervisor.restart = restart(0);
        let rig = Rig::open(&world, dying).await;
        world.log.append(pairs(1));
        until(|| rig.board.find("kappa/processors/processor.orders").unwrap().events() == 2).await;
        // It dies of the drain's word to flush.
        rig.kill(WRITER);
        let before = tokio::time::Instant::now();
        let stopped = rig.pipeline.stop(HOUR).await;
        assert_eq!((stopped.given_back, stopped.archive_closed), (2, false));
        assert!(before.elapsed() < HOUR);
    })
    .await;
}
