//! Merging into tables that are appended to.

use super::*;

#[tokio::test]
async fn a_merge_is_one_statement_and_leaves_the_older_rows_of_a_key_below_the_new_one() {
    let scene = Scene::new(WriteMode::Append, &[("a", 1, 1), ("b", 1, 1), ("c", 1, 1)]).await;
    scene.write(&[("a", 3, 3), ("b", 3, 3), ("c", 9, 9)]).await;
    let staged = vec![counted("a", 8, 8), counted("a", 7, 7), counted("c", 5, 5)];
    let scene = scene.staged(staged, &[1, 3, 5, 7, 8]).await;
    let before = scene.control().statements();
    let merged = scene.merge(true).await.unwrap();
    assert_eq!(merged, Merged { replaced: 1, kept: 1, removed: 1, ..Merged::default() });
    let changing: Vec<_> = scene.control().statements().split_off(before.len());
    let changing = changing.iter().filter(|statement| !statement.starts_with("WITH")).count();
    assert_eq!(changing, 1, "one statement changes the table");
    let stored = scene.control().rows("p.d.t");
    let mut stored: Vec<_> =
        stored.iter().map(|row| format!("{}{}", row["id"], row["count"])).collect();
    stored.sort();
    assert_eq!(stored, [r#""a"1"#, r#""a"8"#, r#""c"1"#, r#""c"9"#]);
    assert_eq!(scene.rows().await, owned(&[("a", 8, 8), ("c", 9, 9)]));
    let manner = scene.staging.manner(&scene.table).await.unwrap();
    assert_eq!((manner.in_steps, manner.staleness), (false, Duration::ZERO));
}

#[tokio::test]
async fn a_merge_that_lost_its_answer_is_merged_again_without_harm() {
    let scene = Scene::new(WriteMode::Append, &[("a", 1, 1)]).await;
    let scene = scene.staged(vec![counted("a", 2, 2), counted("b", 2, 2)], &[]).await;
    scene.control().lose_answer_of("MERGE");
    let told = scene.merge(false).await.unwrap_err();
    assert!(matches!(told, ReprocessError::Unavailable(_)), "{told}");
    assert_eq!(scene.rows().await, owned(&[("a", 2, 2), ("b", 2, 2)]));
    assert_eq!(scene.merge(false).await.unwrap(), Merged { unchanged: 2, ..Merged::default() });
    assert_eq!(scene.control().rows("p.d.t").len(), 2);
}

/// Rows from before the table had versions are older than all that have one.
#[tokio::test]
async fn a_live_row_without_a_version_is_replaced() {
    let scene = Scene::new(WriteMode::Append, &[]).await;
    let unversioned = row([text("a"), Value::Integer(1), Value::Null]);
    scene.cloud.write(&scene.table, Arc::new(vec![unversioned])).await.unwrap();
    let scene = scene.staged(vec![counted("a", 2, 2)], &[]).await;
    assert_eq!(scene.merge(false).await.unwrap().replaced, 1);
    assert_eq!(scene.control().rows("p.d.t").len(), 1);
    assert_eq!(scene.rows().await, owned(&[("a", 2, 2)]));
}

/// Nothing is left of a removed row that could keep a copy of it away, as in an upsert table.
#[tokio::test]
async fn a_late_copy_of_a_removed_row_comes_back_until_the_merge_is_repeated() {
    let scene = Scene::new(WriteMode::Append, &[("e", 1, 17)]).await;
    let scene = scene.staged(vec![], &[17]).await;
    assert_eq!(scene.merge(true).await.unwrap().removed, 1);
    assert_eq!(scene.rows().await, []);
    scene.write(&[("e", 1, 17)]).await;
    assert_eq!(scene.rows().await, owned(&[("e", 1, 17)]));
    assert_eq!(scene.merge(true).await.unwrap().removed, 1);
    assert_eq!(scene.rows().await, []);
}
