//! Promise 5: memory is bounded, and no timer holds the permits that everyone waits for.

use std::time::Duration;

use kappa_actors::message::NewMessage;
use kappa_actors::pipeline::Plan;
use kappa_actors::testing::memory::warehouse::Moment;

use super::crashes::window_path;
use super::rig::*;
use super::world::World;

fn with_room(messages: usize, bytes: u64) -> Plan {
    let mut plan = plan();
    plan.actors.reader.max_outstanding_messages = messages;
    plan.actors.reader.max_outstanding_bytes = bytes;
    plan
}

#[tokio::test(start_paused = true)]
async fn fewer_permits_than_a_batch_or_a_part_are_no_reason_to_wait_for_a_timer() {
    within(async {
        let world = World::default();
        let rig = Rig::open(&world, with_room(7, 1 << 20)).await;
        // Of an open log the last ones may wait, since more may come: 7 of each kind at most.
        world.log.append((1..=100).flat_map(|number| [order(number), invalid(), cart(number)]));
        until(|| world.log.acknowledged().len() > 290).await;
        rig.stop().await;
        let (messages, _) = world.most_on_loan();
        assert!(messages <= 7, "{messages} messages on loan");
        assert_eq!(world.written("orders"), each("o", 1..=100, 1));
        assert_eq!(world.written("items"), each("c", 1..=100, 2));
        assert_eq!(world.warehouse.rows("dead_letters").len(), 100);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn bytes_on_loan_never_pass_their_limit_by_more_than_one_event() {
    within(async {
        let world = World::default();
        let rig = Rig::open(&world, with_room(10_000, 4_000)).await;
        world.log.append(orders(1..=300));
        until(|| world.log.acknowledged().len() > 290).await;
        let board = rig.stop().await;
        let (messages, bytes) = world.most_on_loan();
        // The cost of a message besides its payload counts too.
        let cost = bytes + messages as u64 * 384;
        assert!(cost <= 4_000 + 600, "{messages} messages with {bytes} bytes on loan");
        assert_eq!(world.written("orders"), each("o", 1..=300, 1));
        assert_eq!(board.counters().in_flight_bytes.get(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_event_larger_than_all_permits_is_taken_alone() {
    within(async {
        let world = World::default();
        let rig = Rig::until_idle(&world, with_room(100, 2_000)).await;
        let mut large = order(0);
        let padding = format!(r#","padding":"{}"}}"#, "x".repeat(10_000));
        let payload = String::from_utf8(large.payload.to_vec()).unwrap();
        large.payload = payload.replace('}', &padding).into();
        let size = large.payload.len() as u64;
        world.log.append([order(1), order(2), large, order(3)]);
        rig.finish().await;
        assert_eq!(world.written("orders"), each("o", 0..=3, 1));
        assert_eq!(world.archived(), each("o", 0..=3, 1));
        assert!(world.most_on_loan().1 <= 2_000 + size);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_permit_is_enough_for_everything() {
    within(async {
        let world = World::default();
        let rig = Rig::until_idle(&world, with_room(1, 1)).await;
        let all: Vec<NewMessage> =
            (1..=20).flat_map(|number| [order(number), invalid(), user(number)]).collect();
        world.log.append(all);
        rig.finish().await;
        assert_eq!(world.most_on_loan().0, 1);
        assert_eq!(world.written("orders"), each("o", 1..=20, 1));
        assert_eq!(world.written("users"), each("u", 1..=20, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_dies_of_the_word_to_flush_passes_it_on_in_its_next_life() {
    within(async {
        let world = World::default();
        let rig = Rig::open(&world, with_room(4, 1 << 20)).await;
        world.log.append(orders(1..=3));
        let held = || window_path(&rig).and_then(|path| rig.board.find(&path));
        until(|| held().is_some_and(|window| window.mailbox() == 0)).await;
        let holdings = rig.board.snapshot().holdings;
        assert!(holdings.iter().any(|held| held.duty == "archive" && held.messages == 3));
        rig.kill("kappa/archive/keeper");
        // The last permit; and the archive gets nothing of it that would flush it.
        world.log.append([invalid()]);
        world.log.all_acknowledged().await;
        assert_eq!(rig.restarts("kappa/archive/keeper"), 1);
        rig.stop().await;
    })
    .await;
}

/// A cart with `items` items and an id of `id_bytes` bytes, which each of its rows holds.
pub(crate) fn large_cart(number: usize, items: usize, id_bytes: usize) -> NewMessage {
    let id = format!("c{number}-{}", "x".repeat(id_bytes));
    let items = vec![r#"{"sku":"good"}"#; items].join(",");
    event("cart.filled", &id, &format!(r#","items":[{items}]"#))
}

#[tokio::test(start_paused = true)]
async fn processors_wait_for_the_rows_of_exploding_events_to_be_stored() {
    within(async {
        let world = World::default();
        // Each cart of about 1 kB becomes some 15 kB of rows: all of them at once would take 3 MB.
        let rig = Rig::open(&world, with_room(10_000, 400_000)).await;
        let gate = world.warehouse.hold("items", Moment::BeforeCommit);
        world.log.append((1..=200).flat_map(|number| [large_cart(number, 20, 600), order(number)]));
        gate.reached().await;
        // The clock moves on when nothing else does.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let held = rig.board.counters().in_flight_bytes.get();
        assert!(held > 400_000, "the limit was never reached: {held}");
        // Messages take all of the limit, rows half of it, and a piece more.
        assert!(held < 400_000 + 200_000 + 2 * 12_500 + 16_384, "{held} bytes in flight");
        drop(gate);
        until(|| world.log.acknowledged().len() > 380).await;
        rig.stop().await;
        let written = world.warehouse.rows("items").len();
        assert_eq!((written, world.warehouse.rows("orders").len()), (200 * 20, 200));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_rows_are_larger_than_all_permits_is_stored() {
    within(async {
        let world = World::default();
        let rig = Rig::until_idle(&world, with_room(100, 1_000)).await;
        world.log.append([cart(1), large_cart(2, 20, 600), large_cart(3, 20, 600), order(1)]);
        rig.finish().await;
        assert_eq!(world.warehouse.rows("items").len(), 2 + 20 + 20);
        assert_eq!(world.written("orders"), each("o", 1..=1, 1));
        assert!(world.dead_letters().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_rows_take_too_many_bytes_becomes_a_dead_letter() {
    within(async {
        let world = World::default();
        let rig = Rig::until_idle(&world, with_room(100, 1 << 20)).await;
        world.log.append([cart(1), large_cart(2, 40, 600), cart(3)]);
        rig.finish().await;
        assert_eq!(world.warehouse.rows("items").len(), 4);
        let letters = world.dead_letters();
        let reason = "its rows take more than max_bytes_per_event (16384 bytes)";
        let reasons: Vec<_> = letters.values().map(|letter| letter["reason"].as_str()).collect();
        assert_eq!(reasons, [reason]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_processor_that_waits_for_memory_holds_nothing_that_a_dying_writer_needs() {
    within(async {
        let world = World::default();
        let rig = Rig::open(&world, with_room(10_000, 100_000)).await;
        world.panic_after_commit("items", 5);
        world.fail_writes("orders", 7);
        world.log.append((1..=100).flat_map(|number| [large_cart(number, 20, 600), order(number)]));
        until(|| world.log.acknowledged().len() > 180).await;
        rig.stop().await;
        assert_eq!(world.warehouse.rows("items").len(), 100 * 20);
        assert_eq!(world.warehouse.rows("orders").len(), 100);
        assert!(world.dead_letters().is_empty());
    })
    .await;
}
