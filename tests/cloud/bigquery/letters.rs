//! Dead letters in BigQuery.

use bytes::Bytes;
use kappa::backend::embedded::archive::LocalArchive;
use kappa_actors::dead_letter_table::{self, DeadLetter, Mark};
use kappa_actors::port::{
    Auditable as _, DeadLetterFilter, DeadLetterStore, LetterMark, LetterQuery,
};
use kappa_actors::replay::ReplayRange;

use super::*;
use crate::letters::{any, letter};

#[tokio::test]
async fn letters_are_found_marked_and_kept_marked() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn ArchiveStore> = Arc::new(LocalArchive::open(folder.path()).unwrap());
    // Even where tables are appended to: letters are marked, and a mark is an upsert.
    let cloud = Cloud::with(WriteMode::Append, |_| {}, Some(store)).await;
    let warehouse = &cloud.warehouse;
    assert_eq!(warehouse.find(&any()).await.unwrap(), [""; 0]);
    let spec = Arc::new(dead_letter_table::spec());
    warehouse.ensure_table(&spec).await.unwrap();
    let small = letter("small", Bytes::from_static(b"{}"));
    let large = letter("large", Bytes::from(vec![7; 7 << 20]));
    let rows = Arc::new(vec![small.row(), large.row()]);
    assert_eq!(warehouse.write(&spec, Arc::clone(&rows)).await.unwrap(), []);
    let made = cloud.control().resource("p.d.dead_letters").unwrap();
    assert!(made["maxStaleness"].is_null(), "{made}");

    assert_eq!(warehouse.get("small").await.unwrap(), Some(small));
    let object = Some("dead-letters/large".to_owned());
    let stored = DeadLetter { payload_object: object, ..large.clone() };
    assert_eq!(warehouse.get("large").await.unwrap(), Some(stored));
    let stored = cloud.control().rows("p.d.dead_letters");
    assert_eq!(stored[1]["payload_object"], json!("dead-letters/large"));
    let found = |filter| async move { warehouse.find(&filter).await.unwrap() };
    assert_eq!(found(any()).await, ["large", "small"]);
    assert_eq!(found(DeadLetterFilter { id_prefix: Some("sm".into()), ..any() }).await, ["small"]);
    assert_eq!(found(DeadLetterFilter { reason: Some("other".into()), ..any() }).await, [""; 0]);

    let at = Timestamp::from_micros(1_800_000_000_000_000);
    let unknown = Mark { id: "unknown".to_owned(), ..large.mark(at) };
    warehouse.mark_requeued(&[large.mark(at), unknown]).await.unwrap();
    // A repeated failure is one letter, and stays marked.
    assert_eq!(warehouse.write(&spec, rows).await.unwrap(), []);
    let marked = warehouse.get("large").await.unwrap().unwrap();
    assert_eq!((marked.requeued_at, marked.payload.len()), (Some(at), 7 << 20));
    assert_eq!(found(DeadLetterFilter { requeued: Some(true), ..any() }).await, ["large"]);
    assert_eq!(found(DeadLetterFilter { requeued: Some(false), ..any() }).await, ["small"]);
    // The failure after the mark is a later version, so the letter is open again.
    let failed_at = at.after(std::time::Duration::from_secs(1));
    let again = letter("large", Bytes::from_static(b"{}"));
    let again = DeadLetter { failed_at, ..again };
    assert_eq!(warehouse.write(&spec, Arc::new(vec![again.row()])).await.unwrap(), []);
    let reopened = warehouse.get("large").await.unwrap().unwrap();
    assert_eq!((reopened.requeued_at, reopened.failed_at), (None, failed_at));
    assert_eq!(found(DeadLetterFilter { requeued: Some(true), ..any() }).await, [""; 0]);
    assert_eq!(cloud.control().violations(), [""; 0]);
}

#[tokio::test]
async fn letters_are_grouped_by_class_and_purged() {
    let cloud = Cloud::with(WriteMode::Append, |_| {}, None).await;
    let warehouse = &cloud.warehouse;
    assert_eq!(warehouse.groups(&any()).await.unwrap(), []);
    assert_eq!(warehouse.purge(&any(), Timestamp::now()).await.unwrap(), 0);
    let spec = Arc::new(dead_letter_table::spec());
    warehouse.ensure_table(&spec).await.unwrap();
    let of = |id: &str, class: Option<&str>, second: i64| DeadLetter {
        class: class.map(Into::into),
        failed_at: Timestamp::from_micros(1_800_000_000_000_000 + second * 1_000_000),
        ..letter(id, Bytes::from_static(b"{}"))
    };
    let class = "orders.total: not a NUMERIC";
    let mut letters: Vec<_> = (0..1_500).map(|n| of(&format!("n{n:04}"), Some(class), n)).collect();
    letters.push(of("older", None, 5));
    let rows = Arc::new(letters.iter().map(DeadLetter::row).collect());
    assert_eq!(warehouse.write(&spec, rows).await.unwrap(), []);
    let at = Timestamp::from_micros(1_900_000_000_000_000);
    warehouse.mark_requeued(&[letters[3].mark(at)]).await.unwrap();

    let groups = warehouse.groups(&any()).await.unwrap();
    let [first, second] = &groups[..] else { panic!("{groups:?}") };
    assert_eq!((first.class.as_deref(), first.open, first.requeued), (Some(class), 1_499, 1));
    let times = [letters[0].failed_at, letters[1_499].failed_at];
    assert_eq!(([first.first, first.last], &*first.example), (times, "n0000"));
    assert_eq!((&second.class, second.letters(), &*second.example), (&None, 1, "older"));
    let of_class = |class: &str| DeadLetterFilter { class: Some(class.to_owned()), ..any() };
    assert_eq!(warehouse.find(&of_class("unclassified")).await.unwrap(), ["older"]);
    assert_eq!(warehouse.find(&of_class(class)).await.unwrap().len(), 10);

    let before = |second: usize| DeadLetterFilter {
        failed_before: Some(letters[second].failed_at),
        ..DeadLetterFilter::ALL
    };
    assert_eq!(warehouse.purge(&before(1_200), at).await.unwrap(), 1_201);
    assert_eq!(warehouse.purge(&before(1_200), at).await.unwrap(), 0, "once");
    let marked = DeadLetter { requeued_at: Some(at), ..letters[3].clone() };
    assert_eq!(warehouse.get("n0003").await.unwrap(), Some(marked.purged(at)));
    let purged = letters[7].clone().purged(at);
    assert_eq!(warehouse.get("n0007").await.unwrap(), Some(purged.clone()));
    // Neither a mark nor the same failure again brings it back; a later failure does.
    warehouse.mark_requeued(&[letters[7].mark(at)]).await.unwrap();
    assert_eq!(warehouse.write(&spec, Arc::new(vec![letters[7].row()])).await.unwrap(), []);
    assert_eq!(warehouse.get("n0007").await.unwrap(), Some(purged));
    let again = DeadLetter { failed_at: at, ..letters[7].clone() };
    assert_eq!(warehouse.write(&spec, Arc::new(vec![again.row()])).await.unwrap(), []);
    assert_eq!(warehouse.get("n0007").await.unwrap(), Some(again));
    let all = DeadLetterFilter { purged_too: true, ..DeadLetterFilter::ALL };
    let groups = warehouse.groups(&all).await.unwrap();
    assert_eq!(groups.iter().map(|group| group.purged).sum::<u64>(), 1_200);
    assert_eq!(cloud.control().violations(), [""; 0]);
}

/// As kappa made it before letters had classes.
#[tokio::test]
async fn a_table_from_before_classes_is_read_as_it_is_and_widened_by_the_first_change() {
    let cloud = Cloud::with(WriteMode::Append, |_| {}, None).await;
    let mut older = dead_letter_table::spec();
    older.columns.truncate(19);
    cloud.warehouse.ensure_table(&older).await.unwrap();
    let mut row = letter("one", Bytes::from_static(b"{}")).row();
    row = Row(row.0[..19].into());
    assert_eq!(cloud.warehouse.write(&Arc::new(older), Arc::new(vec![row])).await.unwrap(), []);

    let published = ReplayRange { from: Timestamp::from_micros(0), to: Timestamp::now() };
    let asked = LetterQuery { published, payloads: false };
    let shown = async || {
        let mut shown = Vec::new();
        let mut take = |mark: LetterMark| {
            shown.push(mark.purged);
            true
        };
        cloud.warehouse.letters(asked, &mut take).await.unwrap();
        shown
    };
    let groups = cloud.warehouse.groups(&any()).await.unwrap();
    assert_eq!((groups.len(), &groups[0].class, groups[0].open), (1, &None, 1));
    assert_eq!(cloud.warehouse.find(&any()).await.unwrap(), ["one"]);
    assert_eq!(shown().await, [false]);
    let one = cloud.warehouse.get("one").await.unwrap().unwrap();
    let columns = |cloud: &Cloud| {
        let table = cloud.control().resource("p.d.dead_letters").unwrap();
        table["schema"]["fields"].as_array().unwrap().len()
    };
    assert_eq!(columns(&cloud), 19, "reading changes nothing");
    let at = Timestamp::now();
    cloud.warehouse.mark_requeued(&[one.mark(at)]).await.unwrap();
    assert_eq!(columns(&cloud), 21);
    let marked = cloud.warehouse.get("one").await.unwrap().unwrap();
    assert_eq!(marked, DeadLetter { requeued_at: Some(at), ..one });
    assert_eq!(cloud.warehouse.purge(&DeadLetterFilter::ALL, at).await.unwrap(), 1);
}
