//! How far a table is behind, how old its rows are, and how often something was tried.

use std::time::Duration;

use kappa_actors::dead_letter_table;
use kappa_actors::testing::memory::warehouse::Fault;
use kappa_actors::vitals::{Board, Freshness, Outcome, Step};

use super::rig::*;
use super::world::World;

const MINUTE: Duration = Duration::from_secs(60);

fn table(board: &Board, name: &str) -> Freshness {
    let tables = board.snapshot().freshness;
    tables.into_iter().find(|one| one.table == name).unwrap()
}

fn behind(board: &Board, name: &str) -> f64 {
    table(board, name).behind_seconds.unwrap()
}

/// Whether a table is behind by this and the inaccuracy that is allowed.
fn is_behind(board: &Board, name: &str, seconds: f64) -> bool {
    (seconds..seconds * 1.04 + 5.0).contains(&behind(board, name))
}

#[tokio::test(start_paused = true)]
async fn a_table_is_behind_while_its_writes_fail_and_no_other_is() {
    within(async {
        let world = World::default();
        let mut plan = plan();
        // The first is that of orders.
        plan.processors[0].freshness = Some(MINUTE);
        let mut rig = Rig::until_idle(&world, plan).await;
        world.warehouse.fail("orders", Fault::Unavailable);
        world.log.append([published(order(1), 90 * MINUTE), published(user(1), MINUTE / 6)]);
        rig.degraded_by("kappa/warehouse/writer.orders").await;
        until(|| world.written("users").len() == 1).await;
        assert!(is_behind(&rig.board, "orders", 5_400.0), "{}", behind(&rig.board, "orders"));
        assert_eq!(behind(&rig.board, "users"), 0.0);
        until(|| table(&rig.board, "orders").missed_for_seconds.is_some()).await;
        assert_eq!(table(&rig.board, "users").objective_seconds, None);

        world.warehouse.mend("orders");
        rig.pipeline.idle().await.unwrap();
        for (name, least) in [("orders", 3_600.0), ("users", 5.0)] {
            assert_eq!(behind(&rig.board, name), 0.0);
            let p99 = table(&rig.board, name).p99_seconds.unwrap();
            assert!((least..=least * 6.0).contains(&p99), "{name}: {p99}");
        }
        rig.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn events_that_are_not_read_yet_count_for_every_table() {
    within(async {
        let world = World::default();
        let mut plan = plan();
        plan.actors.reader.max_outstanding_messages = 2;
        let mut rig = Rig::until_idle(&world, plan).await;
        world.warehouse.fail("orders", Fault::Unavailable);
        let old = [order(1), order(2), user(1)].map(|event| published(event, 90 * MINUTE));
        world.log.append(old);
        rig.degraded_by("kappa/warehouse/writer.orders").await;
        assert!(is_behind(&rig.board, "users", 5_400.0), "{}", behind(&rig.board, "users"));
        world.warehouse.mend("orders");
        rig.pipeline.idle().await.unwrap();
        assert_eq!(behind(&rig.board, "users"), 0.0);
        rig.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_leaves_no_table_behind() {
    within(async {
        let world = World::default();
        let mut rig = Rig::until_idle(&world, plan()).await;
        world.warehouse.fail(dead_letter_table::NAME, Fault::Unavailable);
        world.log.append([published(invalid(), 90 * MINUTE), order(1)]);
        rig.degraded_by("kappa/dead-letter/dead-letter").await;
        until(|| world.written("orders").len() == 1).await;
        assert_eq!(behind(&rig.board, "orders"), 0.0);
        world.warehouse.mend(dead_letter_table::NAME);
        rig.pipeline.idle().await.unwrap();
        rig.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_age_of_each_row_is_counted_once_however_often_it_is_written() {
    within(async {
        let world = World::default();
        world.panic_after_commit("orders", 2);
        world.fail_writes("items", 3);
        world.log.append(orders(1..=20).into_iter().chain((1..=4).map(cart)));
        let rig = Rig::until_idle(&world, plan()).await;
        let board = rig.finish().await;
        for (name, rows) in [("orders", 20), ("items", 8), ("users", 0)] {
            let meter = board.table(name, None);
            let count = |histogram: &kappa_actors::vitals::Histogram| {
                *histogram.cumulative().0.last().unwrap()
            };
            assert_eq!(count(&meter.publish_to_row), rows, "{name}");
            assert_eq!(count(&meter.event_to_row), rows, "{name}");
            assert_eq!(count(&meter.commit_time), count(&meter.commit_rows), "{name}");
            // The event's own time is in February 2026.
            let day = meter.event_to_row.bounds().len() - 1;
            assert_eq!(meter.event_to_row.cumulative().0[day], 0, "{name}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn attempts_are_counted_by_stage_and_outcome() {
    within(async {
        let world = World::default();
        world.fail_writes("orders", 3);
        world.log.append(orders(1..=5).into_iter().chain([invalid(), cart(1)]));
        let bad = event("order.placed", "o9", r#","amount":"many""#);
        world.log.append([bad]);
        let rig = Rig::until_idle(&world, plan()).await;
        let board = rig.finish().await;
        let attempts = |step, outcome| board.counters().attempts.get(step, outcome);
        assert_eq!(attempts(Step::Parse, Outcome::Done), 7);
        assert_eq!(attempts(Step::Parse, Outcome::Refused), 1);
        assert_eq!(attempts(Step::Process, Outcome::Done), 6);
        assert_eq!(attempts(Step::Process, Outcome::Refused), 1);
        assert_eq!(attempts(Step::Commit, Outcome::Unavailable), 3);
        assert!(attempts(Step::Commit, Outcome::Done) >= 2);
        assert!(attempts(Step::DeadLetter, Outcome::Done) >= 1);
        assert!(attempts(Step::Upload, Outcome::Done) >= 1);
        assert_eq!(attempts(Step::Compose, Outcome::Done), 1);
        assert!(attempts(Step::Acknowledge, Outcome::Done) >= 1);
        assert!(attempts(Step::Pull, Outcome::Done) >= 2);
        let uploads = *board.counters().upload_time.cumulative().0.last().unwrap();
        assert_eq!(uploads, attempts(Step::Upload, Outcome::Done));
    })
    .await;
}
