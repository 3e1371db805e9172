//! Merging into tables that take upserts.

use kappa_test_servers::bigquery::AppendFault;
use tonic::Code;

use super::*;

fn many(count: i64) -> Vec<Row> {
    (0..count).map(|n| counted(&format!("n{n:03}"), 2, 2)).collect()
}

#[tokio::test]
async fn a_merge_that_broke_off_is_finished_by_merging_again() {
    let scene = Scene::new(WriteMode::Upsert, &[("n007", 1, 1), ("old", 1, 1)]).await;
    let scene = scene.staged(many(40), &[1]).await;
    scene.control().page_rows(10);
    scene.control().refuse_rows("p.d.t", "id", "n02");
    let told = scene.merge(true).await.unwrap_err();
    assert!(matches!(&told, ReprocessError::Mismatch(says) if says.contains("10 of the staged")));
    assert_eq!(
        scene.rows().await.len(),
        21,
        "two pages, and no row is removed before all are written"
    );
    scene.control().refuse_no_rows();
    scene.control().fail_appends(2, AppendFault::EndsWith(Code::Unavailable));
    let told = scene.merge(true).await.unwrap_err();
    assert!(matches!(&told, ReprocessError::Unavailable(says) if says.contains("merge again")));
    let merged = scene.merge(true).await.unwrap();
    let rest = Merged { inserted: 20, unchanged: 20, removed: 1, may_hide: 1, ..Merged::default() };
    assert_eq!(merged, rest);
    assert_eq!(scene.rows().await.len(), 40);
    // Two rows and 40 upserts, one of each key, and the removal.
    assert_eq!(scene.control().appended_count("p.d.t"), 43);
    let again = scene.merge(true).await.unwrap();
    assert_eq!(again, Merged { unchanged: 40, ..Merged::default() });
    assert_eq!(scene.control().appended_count("p.d.t"), 43);
}

#[tokio::test]
async fn a_row_is_removed_under_its_version_with_the_removal_bit() {
    let scene = Scene::new(WriteMode::Upsert, &[("e", 1, 17)]).await;
    let scene = scene.staged(vec![], &[17]).await;
    let merged = scene.merge(true).await.unwrap();
    assert_eq!(merged, Merged { removed: 1, may_hide: 1, ..Merged::default() });
    assert_eq!(scene.rows().await, []);
    let changes = scene.control().appended("p.d.t");
    let removal = changes.last().unwrap();
    assert_eq!(removal["_CHANGE_TYPE"], json!("DELETE"));
    let number = version_of(17).removed().to_string();
    assert_eq!(removal["_CHANGE_SEQUENCE_NUMBER"], json!(number));
    scene.write(&[("e", 1, 16), ("e", 1, 17)]).await;
    assert_eq!(scene.rows().await, [], "neither an older row nor a late copy comes back");
    scene.write(&[("e", 2, 18)]).await;
    assert_eq!(scene.rows().await, owned(&[("e", 2, 18)]));
}

#[tokio::test]
async fn an_older_row_takes_the_place_of_a_removed_one_under_the_number_of_the_removal() {
    let scene = Scene::new(WriteMode::Upsert, &[("e", 1, 17)]).await;
    let scene = scene.staged(vec![counted("e", 5, 16)], &[16, 17]).await;
    let merged = scene.merge(true).await.unwrap();
    assert_eq!(merged, Merged { inserted: 1, removed: 1, ..Merged::default() });
    let changes = scene.control().appended("p.d.t");
    let change = changes.last().unwrap();
    assert_eq!(change["_CHANGE_TYPE"], json!("UPSERT"));
    let number = version_of(17).removed().to_string();
    assert_eq!(change["_CHANGE_SEQUENCE_NUMBER"], json!(number));
    scene.write(&[("e", 1, 17)]).await;
    assert_eq!(scene.rows().await, owned(&[("e", 5, 16)]), "a late copy stays away");
    let again = scene.merge(true).await.unwrap();
    assert_eq!(again, Merged { unchanged: 1, ..Merged::default() });
    scene.write(&[("e", 2, 18)]).await;
    assert_eq!(scene.rows().await, owned(&[("e", 2, 18)]));
}

/// A row of the message of this time under revision 1.
fn mended(id: &str, count: i64, micros: i64) -> Row {
    let version = Version::new(None, position(micros), 1);
    row([text(id), Value::Integer(count), Value::Version(Box::new(version))])
}

/// The service keeps the number of the removal, and a higher revision of the older message is below it.
#[tokio::test]
async fn a_row_in_the_place_of_a_removed_one_yields_to_later_messages_and_to_a_merge() {
    let scene = Scene::new(WriteMode::Upsert, &[("e", 1, 17)]).await;
    let scene = scene.staged(vec![counted("e", 5, 16)], &[16, 17]).await;
    scene.merge(true).await.unwrap();
    let row = mended("e", 6, 16);
    scene.cloud.write(&scene.table, Arc::new(vec![row.clone()])).await.unwrap();
    assert_eq!(scene.rows().await, owned(&[("e", 5, 16)]), "a daemon's row is below the number");
    let scene = scene.staged_again(vec![row.clone()], &[]).await;
    let merged = scene.merge(false).await.unwrap();
    assert_eq!(merged, Merged { replaced: 1, ..Merged::default() });
    assert_eq!(scene.rows().await, [read_row(&row)]);
    scene.write(&[("e", 7, 18)]).await;
    assert_eq!(scene.rows().await, owned(&[("e", 7, 18)]));
}

#[tokio::test]
async fn a_merge_brings_an_older_row_of_a_removed_key_and_removes_it_again() {
    let scene = Scene::new(WriteMode::Upsert, &[("e", 1, 17)]).await;
    let scene = scene.staged(vec![], &[17]).await;
    scene.merge(true).await.unwrap();
    let scene = scene.staged_again(vec![counted("e", 5, 16)], &[16]).await;
    assert_eq!(scene.diff().await.added, 1);
    let merged = scene.merge(true).await.unwrap();
    assert_eq!(merged, Merged { inserted: 1, ..Merged::default() });
    assert_eq!(scene.rows().await, owned(&[("e", 5, 16)]));
    assert!(scene.diff().await.is_empty());
    // Its own version is below the number that it was written under.
    let scene = scene.staged_again(vec![counted("e", 4, 15)], &[15, 16]).await;
    let merged = scene.merge(true).await.unwrap();
    assert_eq!(merged, Merged { inserted: 1, removed: 1, ..Merged::default() });
    assert_eq!(scene.rows().await, owned(&[("e", 4, 15)]));
    let scene = scene.staged_again(vec![], &[15]).await;
    let merged = scene.merge(true).await.unwrap();
    assert_eq!(merged, Merged { removed: 1, may_hide: 1, ..Merged::default() });
    assert_eq!(scene.rows().await, []);
}

#[tokio::test]
async fn a_late_copy_of_a_removed_row_is_counted_as_kept_and_stays_away() {
    let scene = Scene::new(WriteMode::Upsert, &[("e", 1, 17)]).await;
    let scene = scene.staged(vec![], &[17]).await;
    scene.merge(true).await.unwrap();
    let scene = scene.staged_again(vec![counted("e", 1, 17)], &[]).await;
    assert!(scene.diff().await.is_empty());
    let merged = scene.merge(false).await.unwrap();
    assert_eq!(merged, Merged { kept: 1, ..Merged::default() });
    assert_eq!(scene.rows().await, []);
    // A table that is made again has no removals.
    scene.control().delete_table("p.d.t");
    let merged = scene.merge(false).await.unwrap();
    assert_eq!(merged, Merged { inserted: 1, ..Merged::default() });
    assert_eq!(scene.rows().await, owned(&[("e", 1, 17)]));
}

#[tokio::test]
async fn a_merge_that_broke_off_behind_its_note_of_removals_is_finished_by_merging_again() {
    let scene = Scene::new(WriteMode::Upsert, &[("e", 1, 17), ("f", 1, 17)]).await;
    let scene = scene.staged(vec![counted("e", 5, 16)], &[16, 17]).await;
    scene.control().fail_appends(2, AppendFault::EndsWith(Code::Unavailable));
    scene.merge(true).await.unwrap_err();
    assert_eq!(scene.control().rows("p.d.kappa_removed_t").len(), 2);
    assert_eq!(scene.rows().await, owned(&[("e", 1, 17), ("f", 1, 17)]));
    let merged = scene.merge(true).await.unwrap();
    assert_eq!(merged, Merged { inserted: 1, removed: 2, may_hide: 1, ..Merged::default() });
    assert_eq!(scene.rows().await, owned(&[("e", 5, 16)]));
    assert_eq!(scene.merge(true).await.unwrap(), Merged { unchanged: 1, ..Merged::default() });
}

#[tokio::test]
async fn rows_hidden_from_a_stale_query_are_neither_replaced_nor_removed() {
    let scene = Scene::new(WriteMode::Upsert, &[("b", 1, 1), ("e", 1, 1)]).await;
    let scene = scene.staged(vec![counted("b", 5, 5)], &[1, 5]).await;
    let manner = scene.staging.manner(&scene.table).await.unwrap();
    assert_eq!((manner.in_steps, manner.staleness), (true, Duration::from_secs(600)));
    scene.control().hold_changes("p.d.t", true);
    scene.write(&[("b", 50, 50), ("e", 50, 50)]).await;
    let merged = scene.merge(true).await.unwrap();
    let seen = Merged { replaced: 1, removed: 1, may_hide: 1, ..Merged::default() };
    assert_eq!(merged, seen);
    scene.control().hold_changes("p.d.t", false);
    assert_eq!(scene.rows().await, owned(&[("b", 50, 50), ("e", 50, 50)]));
}
