//! Dead letters in BigQuery.

use bytes::Bytes;
use kappa::backend::embedded::archive::LocalArchive;
use kappa_actors::dead_letter_table::{self, Mark};
use kappa_actors::port::{DeadLetterFilter, DeadLetterStore};

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
    assert_eq!(warehouse.get("large").await.unwrap(), Some(large.clone()));
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
    let again = kappa_actors::dead_letter_table::DeadLetter { failed_at, ..again };
    assert_eq!(warehouse.write(&spec, Arc::new(vec![again.row()])).await.unwrap(), []);
    let reopened = warehouse.get("large").await.unwrap().unwrap();
    assert_eq!((reopened.requeued_at, reopened.failed_at), (None, failed_at));
    assert_eq!(found(DeadLetterFilter { requeued: Some(true), ..any() }).await, [""; 0]);
    assert_eq!(cloud.control().violations(), [""; 0]);
}
