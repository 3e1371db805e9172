//! Promise 6: a call that hangs is a failure, and a sink that is slow or broken is not.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use kappa_actors::dead_letter_table;
use kappa_actors::pipeline::{Plan, ProcessorSpec};
use kappa_actors::processor::{BadRow, EventView, NewRows, Processor};
use kappa_actors::row::TableSpec;
use kappa_actors::settings::WatchdogSettings;
use kappa_actors::testing::memory::warehouse::{Fault, Moment};
use kappa_actors::time::Timestamp;
use kappa_actors::vitals::DaemonState;

use super::permits::large_cart;
use super::rig::*;
use super::world::World;

const SECOND: Duration = Duration::from_secs(1);
const WRITER: &str = "kappa/warehouse/writer.orders";
const PROCESSOR: &str = "kappa/processors/processor.items";
const READER: &str = "kappa/intake/reader";
const ACKNOWLEDGE: &str = "event log (acknowledge)";

fn watched() -> Plan {
    let mut plan = plan();
    plan.actors.watchdog = WatchdogSettings {
        degraded_after: 2 * SECOND,
        restart_after: 6 * SECOND,
        exit_after: 60 * SECOND,
    };
    plan
}

fn reason(rig: &Rig) -> String {
    rig.board.snapshot().reasons[0].reason.clone()
}

#[tokio::test(start_paused = true)]
async fn a_write_without_an_answer_ends_with_its_actor_and_is_made_again() {
    within(async {
        let world = World::default();
        world.hang("write orders");
        let rig = Rig::until_idle(&world, watched()).await;
        world.log.append(orders(1..=5).into_iter().chain([user(1)]));
        assert_eq!(rig.degraded_by(WRITER).await, 5);
        assert_eq!(reason(&rig), "write has no answer for 2s");
        assert_eq!(rig.restarts(WRITER), 0);
        rig.restarted(WRITER, 2).await;
        assert_eq!(world.written("users"), each("u", 1..=1, 1));
        assert_eq!(rig.board.snapshot().state, DaemonState::Degraded);
        world.answer("write orders");
        until(|| rig.board.snapshot().state == DaemonState::Running).await;
        let board = rig.finish().await;
        assert_eq!(world.written("orders"), each("o", 1..=5, 1));
        assert_eq!(world.archived().len(), 6);
        assert!(world.archived().values().all(|&times| times == 1));
        assert!(world.dead_letters().is_empty(), "a hang is charged to no event");
        let last = board.find(WRITER).unwrap().last_error().unwrap();
        assert!(last.starts_with("write has no answer for "), "{last}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_hang_behind_an_idle_actor_is_noticed_too() {
    within(async {
        let world = World::default();
        world.hang("write orders");
        let mut plan = watched();
        plan.processors[0].writer.max_in_flight = 4;
        let rig = Rig::until_idle(&world, plan).await;
        world.log.append(orders(1..=5));
        rig.restarted(WRITER, 1).await;
        world.answer("write orders");
        rig.finish().await;
        assert_eq!(world.written("orders"), each("o", 1..=5, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_hangs_after_its_commit_makes_no_second_row() {
    within(async {
        let world = World::default();
        let gate = world.warehouse.hold("orders", Moment::AfterCommit);
        let rig = Rig::until_idle(&world, watched()).await;
        world.log.append(orders(1..=5));
        gate.reached().await;
        rig.restarted(WRITER, 1).await;
        drop(gate);
        rig.finish().await;
        assert_eq!(world.warehouse.rows("orders").len(), 5);
        assert!(world.warehouse.writes("orders") > 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_hang_that_restarts_do_not_end_fails_the_pipeline_and_loses_nothing() {
    within(async {
        let world = World::default();
        world.hang("write orders");
        let mut rig = Rig::until_idle(&world, watched()).await;
        world.log.append(orders(1..=5));
        let failed = rig.pipeline.failed().await.to_string();
        assert!(failed.starts_with(&format!("{WRITER} hangs for 1m: write has no ")), "{failed}");
        assert!(rig.restarts(WRITER) >= 8, "{}", rig.restarts(WRITER));
        assert_eq!(rig.pipeline.stop(SECOND).await.given_back, 5);
        assert!(world.is_closed(), "this end counts as a kill of no event");
        assert!(world.log.acknowledged().is_empty());

        world.answer("write orders");
        Rig::until_idle(&world, watched()).await.finish().await;
        assert_eq!(world.written("orders"), each("o", 1..=5, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_part_that_hangs_ends_with_its_window_and_is_put_again() {
    within(async {
        let world = World::default();
        world.hang("put");
        let rig = Rig::until_idle(&world, watched()).await;
        world.log.append(orders(1..=5));
        assert_eq!(rig.degraded_by("kappa/archive/window.").await, 5);
        until(|| {
            rig.board.snapshot().actors.iter().any(|it| it.kind == "window" && it.restarts > 0)
        })
        .await;
        assert_eq!(world.written("orders"), each("o", 1..=5, 1));
        world.answer("put");
        rig.finish().await;
        assert_eq!(world.read_archive().await, each("o", 1..=5, 1));
        assert_eq!(world.written("orders"), each("o", 1..=5, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_hangs_ends_with_the_reader() {
    within(async {
        let world = World::default();
        world.hang("pull");
        let rig = Rig::until_idle(&world, watched()).await;
        world.log.append(orders(1..=5));
        rig.degraded_by(READER).await;
        rig.restarted(READER, 1).await;
        world.answer("pull");
        rig.finish().await;
        assert_eq!(world.written("orders"), each("o", 1..=5, 1));
    })
    .await;
}

/// The embedded log holds events back while the suspects of a kill are in flight.
#[tokio::test(start_paused = true)]
async fn a_pull_that_waits_for_events_in_flight_does_not_hang() {
    within(async {
        let world = World::default();
        let rig = Rig::until_idle(&world, watched()).await;
        world.warehouse.fail("orders", Fault::Unavailable);
        world.log.append(orders(1..=5));
        until(|| world.archived().len() == 5).await;
        world.hang("pull");
        tokio::time::sleep(300 * SECOND).await;
        assert_eq!(rig.restarts(READER), 0);
        world.warehouse.mend("orders");
        // From here on nothing is in flight.
        rig.restarted(READER, 1).await;
        world.answer("pull");
        rig.finish().await;
        assert_eq!(world.written("orders"), each("o", 1..=5, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_that_hangs_degrades_and_fails_the_pipeline() {
    within(async {
        let world = World::default();
        world.hang("acknowledge");
        let mut rig = Rig::until_idle(&world, watched()).await;
        world.log.append(orders(1..=5));
        rig.degraded_by(ACKNOWLEDGE).await;
        let failed = rig.pipeline.failed().await.to_string();
        assert!(failed.starts_with(&format!("{ACKNOWLEDGE} hangs for 1m: ")), "{failed}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_hang_over_the_payload_of_a_bare_letter_degrades_and_fails_the_pipeline() {
    within(async {
        let world = World::default();
        world.warehouse.refuse("dead_letters", |row| {
            assert!(dead_letter_table::payload(row).is_none(), "the client choked on a payload");
            None
        });
        world.hang("put");
        let mut rig = Rig::until_idle(&world, watched()).await;
        world.log.append([invalid()]);
        rig.degraded_by("archive (dead letters)").await;
        let failed = rig.pipeline.failed().await.to_string();
        assert!(failed.starts_with("archive (dead letters) hangs for 1m: put has no"), "{failed}");
    })
    .await;
}

/// A processor in code that never ends over an event, until the sender is dropped.
struct Endless {
    table: Arc<TableSpec>,
    end: Mutex<mpsc::Receiver<()>>,
}

impl Processor for Endless {
    fn name(&self) -> &str {
        "endless"
    }

    fn patterns(&self) -> &[String] {
        &[]
    }

    fn table(&self) -> &Arc<TableSpec> {
        &self.table
    }

    fn max_bytes_per_event(&self) -> u64 {
        1 << 20
    }

    fn rows(&self, _: &EventView<'_>, _: Timestamp, _: &mut NewRows<'_>) -> Result<(), BadRow> {
        let _ = self.end.lock().unwrap().recv();
        Ok(())
    }
}

/// In real time: the thread that never ends would stop a paused clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_that_computes_without_an_end_fails_the_pipeline_like_a_kill() {
    let world = World::default();
    let (keep, end) = mpsc::channel();
    let mut plan = watched();
    let table = Arc::clone(plan.processors[1].processor.table());
    let endless = Endless { table, end: Mutex::new(end) };
    plan.processors[1] = ProcessorSpec { observes: true, ..spec(Arc::new(endless)) };
    plan.actors.reader.max_batch_events = 1;
    plan.actors.watchdog =
        WatchdogSettings { degraded_after: SECOND, restart_after: SECOND, exit_after: 3 * SECOND };
    let mut rig = Rig::until_idle(&world, plan).await;
    world.log.append([user(1), user(2)]);
    let failed = rig.pipeline.failed().await.to_string();
    // The clock runs here, so a busy machine may add a second.
    let endless = "kappa/processors/processor.endless hangs for ";
    assert!(failed.starts_with(endless) && failed.contains("no message was taken"), "{failed}");
    rig.pipeline.stop(SECOND).await;
    assert!(!world.is_closed(), "the log is to take this end for a kill");
    drop(keep);
}

#[tokio::test(start_paused = true)]
async fn a_warehouse_that_has_ended_fails_the_pipeline_at_once() {
    within(async {
        let world = World::default();
        let mut rig = Rig::open(&world, plan()).await;
        world.end_warehouse();
        let begin = tokio::time::Instant::now();
        let failed = rig.pipeline.failed().await.to_string();
        assert_eq!(failed, "the warehouse has ended: its thread panicked");
        assert!(begin.elapsed() <= 2 * SECOND);
        assert_eq!(rig.degraded_by("warehouse").await, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn neither_a_broken_sink_nor_a_processor_that_waits_for_memory_hangs() {
    within(async {
        let world = World::default();
        let mut plan = watched();
        plan.actors.reader.max_outstanding_bytes = 400_000;
        let rig = Rig::until_idle(&world, plan).await;
        world.warehouse.fail("items", Fault::Unavailable);
        world.log.append((1..=400).map(|number| large_cart(number, 20, 600)));
        until(|| rig.board.find(PROCESSOR).unwrap().mailbox() > 0).await;
        tokio::time::sleep(300 * SECOND).await;
        assert!(rig.board.find(PROCESSOR).unwrap().mailbox() > 0, "nothing waits for memory");
        world.warehouse.mend("items");
        let board = rig.finish().await;
        assert!(board.snapshot().actors.iter().all(|actor| actor.restarts == 0));
        assert_eq!(world.warehouse.rows("items").len(), 400 * 20);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_time_in_which_the_machine_was_suspended_does_not_count() {
    within(async {
        let world = World::default();
        let gate = world.warehouse.hold("orders", Moment::BeforeCommit);
        let rig = Rig::until_idle(&world, watched()).await;
        world.log.append(orders(1..=5));
        gate.reached().await;
        tokio::time::advance(500 * SECOND).await;
        tokio::time::sleep(SECOND).await;
        assert_eq!(rig.restarts(WRITER), 0);
        drop(gate);
        let board = rig.finish().await;
        assert_eq!(board.find(WRITER).unwrap().restarts(), 0);
        assert_eq!(world.written("orders"), each("o", 1..=5, 1));
    })
    .await;
}
