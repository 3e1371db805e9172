//! The dead letters, written as rows and read back.

use kappa_actors::dead_letter_table::{self, DeadLetter, Mark, Stage};
use kappa_actors::fault_class::UNCLASSIFIED;
use kappa_actors::message::Attributes;
use kappa_actors::port::{
    Auditable, DeadLetterFilter, DeadLetterStore, LetterGroup, LetterMark, LetterQuery,
};
use kappa_actors::replay::ReplayRange;

use super::*;

const ALL: DeadLetterFilter = DeadLetterFilter { limit: 100, ..DeadLetterFilter::ALL };

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
        class: rich.then(|| "orders.amount: not a NUMERIC".into()),
        payload_object: None,
        purged_at: None,
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

#[tokio::test]
async fn letters_are_grouped_by_stage_duty_and_class() {
    let (_dir, warehouse) = with_letters(6).await;
    let spec = Arc::new(dead_letter_table::spec());
    let micros = |n: i64| Timestamp::from_micros(1_771_338_600_000_000 + n);
    let twin = DeadLetter { id: "0".to_owned(), failed_at: micros(100), ..letter(0) };
    warehouse.write(&spec, Arc::new(vec![twin.row()])).await.unwrap();
    warehouse.mark_requeued(&[letter(4).mark(micros(200))]).await.unwrap();
    let groups = warehouse.groups(&ALL).await.unwrap();
    let counts: Vec<_> = groups.iter().map(|group| (group.stage, group.letters())).collect();
    let stages = [Stage::Parse, Stage::Process, Stage::Poison, Stage::Write];
    assert_eq!(counts, stages.into_iter().zip([3, 2, 1, 1]).collect::<Vec<_>>());
    let LetterGroup { duty, class, open, requeued, purged, first, last, example, .. } = &groups[0];
    assert_eq!((&**duty, class.as_deref()), ("orders", Some("orders.amount: not a NUMERIC")));
    assert_eq!((*open, *requeued, *purged), (2, 1, 0));
    assert_eq!((*first, *last, &**example), (micros(0), micros(100), "0"));
    assert_eq!((&*groups[1].duty, groups[1].class.as_deref()), ("route", None));
    let classed = DeadLetterFilter { class: Some(UNCLASSIFIED.to_owned()), ..ALL };
    let poor: Vec<_> = (0..6).filter(|n| n % 2 == 1).map(letter).rev().collect();
    assert_eq!(list(&warehouse, &classed).await, poor);
    assert_eq!(warehouse.groups(&classed).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_purge_takes_the_content_of_older_letters_and_a_later_failure_opens_one_again() {
    let (dir, warehouse) = with_letters(4).await;
    let micros = |n: i64| Timestamp::from_micros(1_771_338_600_000_000 + n);
    let older = DeadLetterFilter { failed_before: Some(micros(2)), ..ALL };
    warehouse.mark_requeued(&[letter(1).mark(micros(50))]).await.unwrap();
    let at = micros(90);
    assert_eq!(warehouse.purge(&older, at).await.unwrap(), 2);
    assert_eq!(warehouse.purge(&older, at).await.unwrap(), 0, "once");
    assert_eq!(list(&warehouse, &ALL).await, [letter(3), letter(2)]);
    let all = DeadLetterFilter { purged_too: true, ..ALL };
    let marked = DeadLetter { requeued_at: Some(micros(50)), ..letter(1) };
    let left = [letter(3), letter(2), marked.purged(at), letter(0).purged(at)];
    assert_eq!(list(&warehouse, &all).await, left);
    // No mark counts any more, nor does the same failure.
    warehouse.mark_requeued(&[letter(0).mark(at)]).await.unwrap();
    let spec = Arc::new(dead_letter_table::spec());
    warehouse.write(&spec, Arc::new(vec![letter(0).row()])).await.unwrap();
    assert_eq!(list(&warehouse, &all).await, left);
    let again = DeadLetter { failed_at: micros(3), ..letter(0) };
    warehouse.write(&spec, Arc::new(vec![again.row()])).await.unwrap();
    assert_eq!(warehouse.get(&again.id).await.unwrap(), Some(again));
    drop(warehouse);
    let file = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
    let content = "SELECT count(payload) + count(attributes) + count(event_id) FROM dead_letters \
                   WHERE purged_at IS NOT NULL";
    assert_eq!(file.query_row(content, (), |row| row.get::<_, i64>(0)).unwrap(), 0);
}

#[tokio::test]
async fn a_purge_of_more_than_one_batch_takes_them_all() {
    let (_dir, warehouse) = with_letters(2_500).await;
    assert_eq!(warehouse.purge(&DeadLetterFilter::ALL, Timestamp::now()).await.unwrap(), 2_500);
    assert_eq!(list(&warehouse, &ALL).await, []);
}

/// As kappa made it before letters had classes.
#[tokio::test]
async fn a_table_from_before_classes_gets_their_column_and_its_letters_are_unclassified() {
    let (dir, warehouse) = with_letters(2).await;
    drop(warehouse);
    let file = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
    let older = "ALTER TABLE dead_letters DROP COLUMN class; \
                 ALTER TABLE dead_letters DROP COLUMN purged_at;";
    file.execute_batch(older).unwrap();
    drop(file);
    // An audit writes nothing.
    let audit = EmbeddedAudit::open(dir.path()).unwrap();
    let published = ReplayRange { from: Timestamp::from_micros(0), to: Timestamp::now() };
    let mut shown = Vec::new();
    let mut take = |mark: LetterMark| {
        shown.push(mark.purged);
        true
    };
    audit.letters(LetterQuery { published, payloads: false }, &mut take).await.unwrap();
    assert_eq!(shown, [false]);
    let warehouse = EmbeddedWarehouse::open(dir.path()).unwrap();
    let groups = warehouse.groups(&ALL).await.unwrap();
    assert!(groups.iter().all(|group| group.class.is_none() && group.open == 1), "{groups:?}");
    let without = |n| DeadLetter { class: None, ..letter(n) };
    assert_eq!(list(&warehouse, &ALL).await, [without(1), without(0)]);
    assert_eq!(warehouse.purge(&ALL, Timestamp::now()).await.unwrap(), 2);
}
