//! Events that explode into many rows take no more memory than others: a daemon that needs more than
//! the limit of all tests here fails.

use std::fs;

use crate::support::{Daemon, Fate, Published, Publisher, Scene};

const ORDER_ITEMS: &str = include_str!("../../config/processors/order_items.toml.example");

/// Each row holds a large member of its event.
const NOTES: &str = r#"
match = ["note."]
table = "notes"
explode = "/data/items"
key = ["event_id", "n"]
[columns]
event_id = { type = "STRING", root = "/event_id" }
n = { type = "INTEGER", index = true }
note = { type = "STRING", root = "/data/note" }
"#;

const ITEMS: usize = 250;

fn scene() -> Scene {
    let scene = Scene::new("");
    let folder = scene.root().join("config/processors");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("order_items.toml"), ORDER_ITEMS).unwrap();
    fs::write(folder.join("notes.toml"), NOTES).unwrap();
    scene
}

fn event(id: &str, kind: &str, items: usize, rest: &str) -> Published {
    let items = vec![r#"{"product_id":"p"}"#; items].join(",");
    let text = format!(
        r#"{{"event_id":"{id}","event_type":"{kind}","timestamp":"2026-02-17T14:30:00Z","entity_id":"o","data":{{"items":[{items}]{rest}}}}}"#
    );
    Published::new(text, Fate::Stored)
}

fn count(scene: &Scene, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    scene.warehouse().query_row(&sql, (), |row| row.get(0)).unwrap()
}

#[test]
fn a_backlog_of_events_that_become_a_hundred_times_their_size_stays_within_the_memory() {
    const ORDERS: usize = 500;
    let scene = scene();
    let publisher = Publisher::open(&scene.data_dir());
    // 9 kB each, and 1 MB as rows: half a gigabyte together.
    let long = "x".repeat(4_000);
    let order = |n| event(&format!("{n}-{long}"), "order.placed", ITEMS, "");
    publisher.publish(&(0..ORDERS).map(order).collect::<Vec<_>>());
    Daemon::spawn(&scene, scene.command(&["run", "--until-idle"])).ends_with(0);
    assert_eq!(count(&scene, "order_items"), (ORDERS * ITEMS) as i64);
    assert_eq!(count(&scene, "orders"), ORDERS as i64);
    assert_eq!(count(&scene, "dead_letters"), 0);
}

#[test]
fn one_event_that_would_become_gigabytes_is_a_dead_letter_and_harms_no_other() {
    let scene = scene();
    let publisher = Publisher::open(&scene.data_dir());
    let note = format!(r#","note":"{}""#, "x".repeat(900_000));
    let others = (0..10).map(|n| event(&format!("n{n}"), "note.taken", 3, r#","note":"""#));
    // The one before the last still fits: 15 rows of 900 kB.
    let large = [event("fits", "note.taken", 15, &note), event("bomb", "note.taken", 2_000, &note)];
    publisher.publish(&large.into_iter().chain(others).collect::<Vec<_>>());
    Daemon::spawn(&scene, scene.command(&["run", "--until-idle"])).ends_with(0);
    assert_eq!(count(&scene, "notes"), 15 + 10 * 3);
    let letter = "dead_letters WHERE event_id = 'bomb' AND reason = \
                  'its rows take more than max_bytes_per_event (16777216 bytes)'";
    assert_eq!((count(&scene, letter), count(&scene, "dead_letters")), (1, 1));
}
