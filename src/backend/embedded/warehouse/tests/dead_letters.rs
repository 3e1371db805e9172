//! The dead letters, written as rows and read back.

use kappa_actors::dead_letter_table::{self, DeadLetter, Mark, Stage};
use kappa_actors::message::Attributes;
use kappa_actors::port::{DeadLetterFilter, DeadLetterStore};

use super::*;

const ALL: DeadLetterFilter = DeadLetterFilter {
    id_prefix: None,
    reason: None,
    requeued: None,
    live_only: false,
    limit: 100,
};

/// The letter of the `n`th message; every other one knows no more than it must.
fn letter(n: u32) -> DeadLetter {
    let rich = n.is_multiple_of(2);
    let attributes = Attributes::from([("origin".to_owned(), "shop \"7\"".to_owned())]);
    DeadLetter {
        id: DeadLetter::id(
            (&n.to_string(), Timestamp::from_micros(0)),
            Stage::Parse,
            "route",
            None,
        ),
        event_id: rich.then(|| "evt".into()),
        event_type: rich.then(|| "order.created".into()),
        stage: Stage::ALL[n as usize % 4],
        actor: "kappa/intake/parser".to_owned(),
        processor: rich.then(|| "orders".to_owned()),
        duty: if rich { "orders" } else { "route" }.to_owned(),
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
async fn a_requeued_letter_is_distinguished_from_the_others() {
    let (_dir, warehouse) = with_letters(3).await;
    let at = Timestamp::from_micros(1_771_338_700_000_000);
    let unknown = Mark { id: "no such id".to_owned(), ..letter(1).mark(at) };
    warehouse.mark_requeued(&[letter(1).mark(at), unknown]).await.unwrap();
    let requeued = |yes| DeadLetterFilter { requeued: Some(yes), ..ALL };
    let marked = DeadLetter { requeued_at: Some(at), ..letter(1) };
    assert_eq!(list(&warehouse, &requeued(true)).await, [marked]);
    assert_eq!(list(&warehouse, &requeued(false)).await, [letter(2), letter(0)]);
}

#[tokio::test]
async fn the_same_failure_stays_marked_and_a_later_one_opens_the_letter_again() {
    let (_dir, warehouse) = with_letters(1).await;
    let at = Timestamp::from_micros(1_771_338_700_000_000);
    warehouse.mark_requeued(&[letter(0).mark(at)]).await.unwrap();
    let spec = Arc::new(dead_letter_table::spec());
    warehouse.write(&spec, Arc::new(vec![letter(0).row()])).await.unwrap();
    let marked = DeadLetter { requeued_at: Some(at), ..letter(0) };
    assert_eq!(list(&warehouse, &ALL).await, [marked]);
    // Before or after the mark, with a clock that lags behind the mark's.
    let again = DeadLetter {
        failed_at: letter(0).failed_at.after(std::time::Duration::from_micros(1)),
        attempts: 9,
        ..letter(0)
    };
    warehouse.write(&spec, Arc::new(vec![again.row()])).await.unwrap();
    warehouse.mark_requeued(&[letter(0).mark(at)]).await.unwrap();
    let standing = list(&warehouse, &ALL).await;
    assert_eq!(standing, std::slice::from_ref(&again), "the mark is of the first failure");
    warehouse.mark_requeued(&[again.mark(at)]).await.unwrap();
    assert_eq!(list(&warehouse, &ALL).await, [DeadLetter { requeued_at: Some(at), ..again }]);
}

#[tokio::test]
async fn the_letters_of_a_staging_replay_can_be_left_out() {
    let (_dir, warehouse) = with_letters(2).await;
    assert_eq!([letter(0).replay_id.is_some(), letter(1).replay_id.is_some()], [true, false]);
    let live = DeadLetterFilter { live_only: true, ..ALL };
    assert_eq!((list(&warehouse, &ALL).await.len(), list(&warehouse, &live).await.len()), (2, 1));
}

#[tokio::test]
async fn without_the_table_there_are_no_letters() {
    let (_dir, warehouse) = fresh();
    assert_eq!(list(&warehouse, &ALL).await, []);
    assert_eq!(warehouse.get("id").await.unwrap(), None);
    warehouse.mark_requeued(&[letter(0).mark(Timestamp::now())]).await.unwrap();
}
