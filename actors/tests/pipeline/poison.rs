//! Promise 4: one poison event harms no other event.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kappa_actors::dead_letter_table::{self, DeadLetter};
use kappa_actors::message::NewMessage;
use kappa_actors::processor::{BadRow, EventView, NewRows, Processor};
use kappa_actors::row::{Row, TableSpec, Value};
use kappa_actors::testing::memory::warehouse::Moment;
use kappa_actors::time::Timestamp;

use super::rig::*;
use super::world::World;

const PROCESSOR: &str = "kappa/processors/processor.orders";
const WRITER: &str = "kappa/warehouse/writer.orders";

/// Checks the letter of a poison event, whichever actor it panicked.
fn assert_poison(letter: &BTreeMap<String, String>, actor: &str, words: &str) {
    assert_eq!((&*letter["stage"], &*letter["actor"]), ("poison", actor), "{letter:?}");
    assert!(letter["reason"].contains(words), "{letter:?}");
    assert_eq!(letter["attempts"], "3");
}

#[tokio::test(start_paused = true)]
async fn a_poison_event_becomes_a_dead_letter_and_its_neighbours_do_not_notice() {
    within(async {
        let world = World::default();
        let mut plan = plan();
        plan.faults.panic_on = ["o3".to_owned()].into();
        plan.processors[0].restart = restart(1);
        let rig = Rig::until_idle(&world, plan).await;
        world.log.append(orders(1..=5).into_iter().chain([user(1)]));
        let board = rig.finish().await;

        let letters = world.dead_letters();
        assert_eq!(letters.keys().collect::<Vec<_>>(), ["o3"]);
        assert_poison(&letters["o3"], PROCESSOR, "event o3 is listed in faults.panic_on");
        assert_eq!(letters["o3"]["processor"], "orders");
        let mut rest = each("o", 1..=5, 1);
        rest.remove("o3");
        assert_eq!(world.written("orders"), rest);
        assert_eq!(world.written("users"), each("u", 1..=1, 1));
        assert_eq!(world.archived().len(), 6, "poison or not, it is a valid event");
        assert!(world.archived().values().all(|&times| times == 1));
        // The batch was charged to the budget, the two tries of one event alone were not.
        assert_eq!(board.find(PROCESSOR).unwrap().restarts(), 3);
        assert_eq!(board.find("kappa/processors").unwrap().restarts(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_poison_events_in_a_row_become_a_thousand_dead_letters() {
    within(async {
        let world = World::default();
        let mut plan = plan();
        plan.faults.panic_on = (1..=1_000).map(|number| format!("o{number}")).collect();
        // A crash for each batch of a hundred.
        plan.processors[0].restart = restart(10);
        let rig = Rig::until_idle(&world, plan).await;
        world.log.append(orders(1..=1_001));
        let board = rig.finish().await;
        assert_eq!(world.dead_letters().len(), 1_000);
        assert_eq!(world.written("dead_letters").values().max(), Some(&1));
        assert_eq!(world.written("orders"), each("o", 1_001..=1_001, 1));
        assert_eq!(world.archived(), each("o", 1..=1_001, 1));
        assert_eq!(board.find("kappa/processors").unwrap().restarts(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn poison_events_that_trickle_in_are_never_charged_to_the_budget() {
    within(async {
        let world = World::default();
        let mut plan = plan();
        plan.faults.panic_on = (1..=50).map(|number| format!("o{number}")).collect();
        plan.processors[0].restart = restart(0);
        let mut rig = Rig::until_idle(&world, plan).await;
        for number in 1..=50 {
            world.log.append([order(number)]);
            rig.pipeline.idle().await.unwrap();
            world.log.all_acknowledged().await;
        }
        let board = rig.finish().await;
        assert_eq!(world.dead_letters().len(), 50);
        assert_eq!(board.find(PROCESSOR).unwrap().restarts(), 150);
        assert_eq!(board.find("kappa/processors").unwrap().restarts(), 0);
    })
    .await;
}

/// A processor in code, with a bug.
struct Buggy {
    patterns: Vec<String>,
    table: Arc<TableSpec>,
}

impl Processor for Buggy {
    fn name(&self) -> &str {
        "buggy"
    }

    fn patterns(&self) -> &[String] {
        &self.patterns
    }

    fn table(&self) -> &Arc<TableSpec> {
        &self.table
    }

    fn max_bytes_per_event(&self) -> u64 {
        1 << 20
    }

    fn rows(
        &self,
        event: &EventView<'_>,
        _: Timestamp,
        rows: &mut NewRows<'_>,
    ) -> Result<(), BadRow> {
        rows.push(Row(Box::new([Value::Text(event.envelope.id.clone())])))?;
        assert_ne!(event.envelope.id, "u2", "half done, and then");
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_processor_in_code_may_panic_over_an_event() {
    within(async {
        let world = World::default();
        let mut plan = plan();
        let table = Arc::clone(plan.processors[1].processor.table());
        let patterns = vec!["user.".to_owned()];
        plan.processors[1] = spec(Arc::new(Buggy { patterns, table }));
        let rig = Rig::until_idle(&world, plan).await;
        world.log.append([user(1), user(2), user(3), order(1)]);
        rig.finish().await;
        let letters = world.dead_letters();
        let buggy = "kappa/processors/processor.buggy";
        assert_poison(&letters["u2"], buggy, "half done, and then");
        assert_eq!(letters.len(), 1);
        assert_eq!(world.warehouse.rows("users").len(), 2);
        assert_eq!(world.written("orders"), each("o", 1..=1, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_row_that_panics_the_writer_is_isolated() {
    within(async {
        let world = World::default();
        world.warehouse.refuse("orders", |row| {
            assert_ne!(row.0[1], Value::Integer(3), "the client choked");
            None
        });
        let rig = Rig::until_idle(&world, plan()).await;
        world.log.append(orders(1..=6).into_iter().chain([user(1)]));
        rig.finish().await;
        let letters = world.dead_letters();
        assert_poison(&letters["o3"], WRITER, "the client choked");
        assert_eq!(letters.len(), 1);
        assert_eq!(world.warehouse.rows("orders").len(), 5);
        assert_eq!(world.archived(), {
            let mut all = each("o", 1..=6, 1);
            all.extend(each("u", 1..=1, 1));
            all
        });
        assert_eq!(world.written("users"), each("u", 1..=1, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_suspect_is_never_struck_for_the_poison_of_others() {
    within(async {
        let world = World::default();
        world.warehouse.refuse("orders", |row| {
            assert!(![10, 20].map(Value::Integer).contains(&row.0[1]), "the client choked");
            None
        });
        let mut plan = plan();
        plan.actors.reader.max_attempts = 2;
        plan.actors.dead_letter.max_batch_rows = 1;
        plan.processors[0].writer.max_batch_rows = 10;
        let rig = Rig::open(&world, plan).await;
        world.log.append(orders(1..=10));
        until(|| rig.restarts(WRITER) == 1).await;
        // While the first of ten suspects is written, another poison event comes to wait.
        let gate = world.warehouse.hold("orders", Moment::BeforeCommit);
        gate.reached().await;
        world.log.append([order(20)]);
        until(|| rig.board.find(WRITER).unwrap().mailbox() > 0).await;
        drop(gate);
        until(|| world.dead_letters().contains_key("o10")).await;
        rig.stop().await;
        assert_eq!(world.dead_letters().into_keys().collect::<Vec<_>>(), ["o10", "o20"]);
        assert_eq!(world.warehouse.rows("orders").len(), 9);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_line_that_panics_the_window_is_isolated_and_its_row_is_written() {
    within(async {
        let world = World::default();
        world.panic_at_line(r#""o3""#);
        let rig = Rig::until_idle(&world, plan()).await;
        world.log.append(orders(1..=6));
        until(|| world.dead_letters().len() == 1).await;
        let board = rig.finish().await;
        let letter = &world.dead_letters()["o3"];
        assert!(letter["actor"].starts_with("kappa/archive/window."), "{letter:?}");
        assert_poison(letter, &letter["actor"], "a line too many");
        assert_eq!(letter["processor"], "");
        let mut rest = each("o", 1..=6, 1);
        rest.remove("o3");
        assert_eq!(world.read_archive().await, rest);
        assert_eq!(world.written("orders"), each("o", 1..=6, 1));
        assert_eq!(board.find("kappa/archive").unwrap().restarts(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_warehouse_that_panics_on_its_own_makes_no_dead_letter_of_an_event_that_comes_alone() {
    within(async {
        let world = World::default();
        world.panic_after_commit("orders", 12);
        let rig = Rig::until_idle(&world, plan()).await;
        world.log.append([order(1)]);
        assert_eq!(rig.degraded_by("panics").await, 1);
        let board = rig.finish().await;
        assert!(world.dead_letters().is_empty());
        assert_eq!(world.warehouse.rows("orders").len(), 1);
        assert_eq!(world.archived(), each("o", 1..=1, 1));
        let writer = board.find(WRITER).unwrap();
        assert_eq!(writer.restarts(), 12);
        assert_eq!(board.find("kappa/warehouse").unwrap().restarts(), 0);
        assert!(board.snapshot().reasons.is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_warehouse_that_panics_on_its_own_over_a_backlog_makes_no_dead_letter() {
    within(async {
        let world = World::default();
        world.panic_after_commit("orders", 60);
        let rig = Rig::until_idle(&world, plan()).await;
        world.log.append(orders(1..=10));
        rig.finish().await;
        assert!(world.dead_letters().is_empty());
        assert_eq!(world.warehouse.rows("orders").len(), 10);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_archive_that_panics_on_its_own_makes_no_dead_letter_of_an_event_that_comes_alone() {
    within(async {
        let world = World::default();
        let mut left = 12;
        world.at_put(move || {
            left -= i32::from(left > 0);
            assert!(left == 0, "died of its own put");
        });
        let rig = Rig::until_idle(&world, plan()).await;
        world.log.append([order(1)]);
        rig.finish().await;
        assert!(world.dead_letters().is_empty());
        assert_eq!(world.read_archive().await, each("o", 1..=1, 1));
        assert_eq!(world.written("orders"), each("o", 1..=1, 1));
    })
    .await;
}

/// A warehouse whose client panics over the order 3.
fn choking_on_the_third_order() -> World {
    let world = World::default();
    world.warehouse.refuse("orders", |row| {
        assert_ne!(row.0[1], Value::Integer(3), "the client choked");
        None
    });
    world
}

#[tokio::test(start_paused = true)]
async fn a_row_that_panics_the_writer_and_comes_alone_is_a_dead_letter_after_a_time() {
    within(async {
        let world = choking_on_the_third_order();
        let rig = Rig::until_idle(&world, plan()).await;
        let begin = tokio::time::Instant::now();
        world.log.append([order(3)]);
        let board = rig.finish().await;
        assert!((PANIC_GRACE..2 * PANIC_GRACE).contains(&begin.elapsed()));
        let letter = &world.dead_letters()["o3"];
        assert_eq!((&*letter["stage"], &*letter["actor"]), ("poison", WRITER), "{letter:?}");
        assert!(board.snapshot().reasons.is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_row_that_panics_the_writer_is_a_dead_letter_as_soon_as_others_are_stored() {
    within(async {
        let world = choking_on_the_third_order();
        let mut rig = Rig::until_idle(&world, plan()).await;
        let begin = tokio::time::Instant::now();
        world.log.append([order(3)]);
        for number in [1, 2] {
            tokio::time::sleep(std::time::Duration::from_secs(5)).await;
            assert!(world.dead_letters().is_empty(), "after {number}");
            world.log.append([order(number)]);
        }
        rig.pipeline.idle().await.unwrap();
        assert!(begin.elapsed() < PANIC_GRACE / 2);
        assert_eq!(world.dead_letters().into_keys().collect::<Vec<_>>(), ["o3"]);
        rig.stop().await;
        assert_eq!(world.written("orders"), each("o", 1..=2, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_panics_its_writer_is_stored_with_its_payload_aside() {
    within(async {
        let world = World::default();
        world.warehouse.refuse("dead_letters", |row| {
            let holds = dead_letter_table::payload(row).is_some_and(|it| it.len() > 20);
            assert!(!holds, "the client choked on a payload");
            None
        });
        let large = Bytes::from_static(b"{\"no event\": \"a long payload\"}");
        let rig = Rig::until_idle(&world, plan()).await;
        world.log.append([order(1), NewMessage::from_payload(large.clone()), order(2)]);
        rig.finish().await;
        let letters = world.warehouse.rows("dead_letters");
        let [letter] = &letters[..] else { panic!("{letters:?}") };
        let letter = DeadLetter::from_row(letter).unwrap();
        assert_eq!(letter.class.as_deref(), Some("envelope.id: missing"));
        let object = letter.payload_object.unwrap();
        assert_eq!(object, format!("dead-letters/{}", letter.id));
        assert_eq!(world.archive.body(&object), Some(large));
        assert_eq!(world.log.acknowledged().len(), 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_bare_letter_waits_for_the_archive_that_is_to_hold_its_payload() {
    within(async {
        let world = World::default();
        world.warehouse.refuse("dead_letters", |row| {
            assert!(dead_letter_table::payload(row).is_none(), "the client choked on a payload");
            None
        });
        let rig = Rig::until_idle(&world, plan()).await;
        world.archive.set_unavailable(true);
        world.log.append([invalid()]);
        let writer = "kappa/dead-letter/dead-letter";
        until(|| rig.restarts(writer) >= 3).await;
        assert_eq!(world.warehouse.rows("dead_letters").len(), 0);
        assert_eq!(world.log.acknowledged().len(), 0);
        world.archive.set_unavailable(false);
        rig.finish().await;
        assert_eq!(world.warehouse.rows("dead_letters").len(), 1);
        assert_eq!(world.log.acknowledged().len(), 1);
    })
    .await;
}
