//! Rows that can never be written become dead letters, one by one.

use kappa_actors::row::Value;

use super::rig::*;
use super::world::World;

#[tokio::test(start_paused = true)]
async fn a_refused_row_never_takes_its_batch_with_it() {
    within(async {
        let world = World::default();
        let three = |amount: &Value| *amount == Value::Integer(3);
        world.warehouse.refuse("orders", move |row| three(&row.0[1]).then(|| "no threes".into()));
        let rig = Rig::until_idle(&world, plan()).await;
        world.log.append(orders(1..=5));
        let board = rig.finish().await;

        let letters = world.dead_letters();
        assert_eq!(letters.keys().collect::<Vec<_>>(), ["o3"]);
        let letter = &letters["o3"];
        assert_eq!((&*letter["stage"], &*letter["reason"]), ("write", "no threes"));
        assert_eq!(letter["actor"], "kappa/warehouse/writer.orders");
        assert_eq!((&*letter["processor"], &*letter["attempts"]), ("orders", "1"));
        assert_eq!(world.warehouse.rows("orders").len(), 4);
        assert_eq!(world.warehouse.writes("orders"), 1, "no other row is written twice for it");
        assert_eq!(board.counters().rows_by_table()["orders"], 4);
        assert_eq!(board.counters().dead_lettered(), 1);
        let classes = board.counters().letters_by_class().into_iter();
        let classes: Vec<_> = classes.map(|((_, class), n)| (class.to_string(), n)).collect();
        assert_eq!(classes, [("orders: refused by a constraint of the table".to_owned(), 1)]);
        assert_eq!(letter["class"], classes[0].0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_event_with_one_refused_row_is_one_dead_letter() {
    within(async {
        let world = World::default();
        let bad = Value::Text("bad".into());
        world.warehouse.refuse("items", move |row| (row.0[2] == bad).then(|| "bad".into()));
        let rig = Rig::until_idle(&world, plan()).await;
        world.log.append([cart(1), cart(2), order(1)]);
        rig.finish().await;
        assert_eq!(world.dead_letters().keys().collect::<Vec<_>>(), ["c1", "c2"]);
        assert_eq!(world.warehouse.rows("items").len(), 2, "the other rows stand");
        assert_eq!(world.written("orders"), each("o", 1..=1, 1));
        assert_eq!(world.log.acknowledged().len(), 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_is_refused_comes_round_until_it_is_taken() {
    within(async {
        let world = World::default();
        world.warehouse.refuse("dead_letters", |_| Some("full".to_owned()));
        let rig = Rig::until_idle(&world, plan()).await;
        world.log.append([invalid(), order(1)]);
        let letters = "kappa/dead-letter/dead-letter";
        assert_eq!(rig.degraded_by(letters).await, 1);
        until(|| world.warehouse.writes("dead_letters") >= 3).await;
        assert_eq!(world.log.acknowledged().len(), 1, "its neighbour is through");
        world.warehouse.refuse("dead_letters", |_| None);
        let board = rig.finish().await;
        assert_eq!(world.warehouse.rows("dead_letters").len(), 1);
        assert_eq!(board.find(letters).unwrap().restarts(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn events_that_no_processor_takes_are_archived_and_counted() {
    within(async {
        let world = World::default();
        let mut plan = plan();
        plan.processors.remove(1);
        let rig = Rig::until_idle(&world, plan).await;
        world.log.append([user(1), order(1)]);
        let board = rig.finish().await;
        assert_eq!(board.counters().unrouted.get(), 1);
        assert_eq!(world.archived().len(), 2);
    })
    .await;
}
