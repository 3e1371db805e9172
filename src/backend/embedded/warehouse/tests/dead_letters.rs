//! The dead letters, written as rows and read back.

use kappa_actors::dead_letter_table::{self, DeadLetter, Stage};
use kappa_actors::message::Attributes;
use kappa_actors::port::{DeadLetterFilter, DeadLetterStore};

use super::*;

const ALL: DeadLetterFilter =
    DeadLetterFilter { id_prefix: None, reason: None, requeued: None, limit: 100 };

/// The letter of the `n`th message; every other one knows no more than it must.
fn letter(n: u32) -> DeadLetter {
    let rich = n.is_multiple_of(2);
    let attributes = Attributes::from([("origin".to_owned(), "shop \"7\"".to_owned())]);
    DeadLetter {
        id: DeadLetter::id(&n.to_string(), Stage::Parse, "dead letter"),
        event_id: rich.then(|| "evt".into()),
        event_type: rich.then(|| "order.created".into()),
        stage: Stage::ALL[n as usize % 4],
        actor: "kappa/intake/parser".to_owned(),
        processor: rich.then(|| "orders".to_owned()),
        reason: format!("/total: {}% is no number", if rich { "rich" } else { "poor" }),
        payload: Bytes::from_static(b"\xff\0{"),
        attributes: rich.then(|| Arc::new(attributes)),
        message_id: n.to_string().into(),
        publish_time: Timestamp::from_micros(1_771_338_600_000_000),
        failed_at: Timestamp::from_micros(1_771_338_600_000_000 + i64::from(n)),
        attempts: n,
        requeued_at: None,
        replay_id: rich.then(|| "replay".to_owned()),
        ordering_key: if rich { "cust".into() } else { "".into() },
    }
}

/// The letters that pass, whole.
async fn list(warehouse: &EmbeddedWarehouse, filter: &DeadLetterFilter) -> Vec<DeadLetter> {
    let mut letters = Vec::new();
    for id in warehouse.find(filter).await.unwrap() {
        letters.extend(warehouse.get(&id).await.unwrap());
    }
    letters
}

async fn with_letters(count: u32) -> (TempDir, EmbeddedWarehouse) {
    let (dir, warehouse) = fresh();
    let spec = Arc::new(dead_letter_table::spec());
    warehouse.ensure_table(&spec).await.unwrap();
    let rows: Vec<_> = (0..count).map(|n| letter(n).row()).collect();
    assert_eq!(warehouse.write(&spec, Arc::new(rows)).await.unwrap(), []);
    (dir, warehouse)
}

#[tokio::test]
async fn letters_come_back_whole_and_the_newest_first() {
    let (_dir, warehouse) = with_letters(4).await;
    let letters = [3, 2, 1, 0].map(letter);
    assert_eq!(list(&warehouse, &ALL).await, letters);
    let two = DeadLetterFilter { limit: 2, ..ALL };
    assert_eq!(list(&warehouse, &two).await, letters[..2]);
    let poor = DeadLetterFilter { reason: Some("poor%".to_owned()), ..ALL };
    assert_eq!(list(&warehouse, &poor).await, [letter(3), letter(1)]);
    let named = DeadLetterFilter { id_prefix: Some(letter(2).id[..8].to_owned()), ..ALL };
    assert_eq!(list(&warehouse, &named).await, [letter(2)]);
    assert_eq!(warehouse.get(&letter(2).id).await.unwrap(), Some(letter(2)));
    assert_eq!(warehouse.get("no such id").await.unwrap(), None);
}

#[tokio::test]
async fn a_requeued_letter_is_told_from_the_others() {
    let (_dir, warehouse) = with_letters(3).await;
    let at = Timestamp::from_micros(1_771_338_700_000_000);
    warehouse.mark_requeued(&[letter(1).id, "no such id".to_owned()], at).await.unwrap();
    let requeued = |yes| DeadLetterFilter { requeued: Some(yes), ..ALL };
    let marked = DeadLetter { requeued_at: Some(at), ..letter(1) };
    assert_eq!(list(&warehouse, &requeued(true)).await, [marked]);
    assert_eq!(list(&warehouse, &requeued(false)).await, [letter(2), letter(0)]);
}

#[tokio::test]
async fn a_letter_written_again_keeps_its_mark() {
    let (_dir, warehouse) = with_letters(1).await;
    let at = Timestamp::from_micros(1_771_338_700_000_000);
    warehouse.mark_requeued(&[letter(0).id], at).await.unwrap();
    let again = DeadLetter { attempts: 9, ..letter(0) };
    let spec = Arc::new(dead_letter_table::spec());
    warehouse.write(&spec, Arc::new(vec![again.row()])).await.unwrap();
    let stands = DeadLetter { requeued_at: Some(at), ..letter(0) };
    assert_eq!(list(&warehouse, &ALL).await, [stands]);
}

#[tokio::test]
async fn without_the_table_there_are_no_letters() {
    let (_dir, warehouse) = fresh();
    assert_eq!(list(&warehouse, &ALL).await, []);
    assert_eq!(warehouse.get("id").await.unwrap(), None);
    warehouse.mark_requeued(&["id".to_owned()], Timestamp::now()).await.unwrap();
}
