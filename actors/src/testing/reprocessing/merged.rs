//! Checks of [`Reprocessing::merge`](crate::port::Reprocessing::merge).

use std::sync::Arc;

use super::{
    COLUMNS, Integer, ReadBack, Reprocessing, Scene, Text, all, made, row, scene, spec, text,
};
use crate::port::Merged;
use crate::row::Value;

/// What is planned is done, a higher live version stays, and once more is once too often for
/// nobody.
pub async fn a_merge_never_replaces_a_higher_version_and_again_changes_nothing(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let scene = scene((live, staging), "merged").await;
    let before = scene.rows().await;
    let planned = scene.merge(true, true).await;
    assert_eq!(scene.rows().await, before, "a dry run changes nothing");
    let merged = scene.merge(true, false).await;
    assert_eq!(merged, planned);
    assert_eq!(merged, Merged { inserted: 1, replaced: 1, unchanged: 1, kept: 1, removed: 1 });
    let after =
        all(&[("a", 1, 5), ("b", 2, 5), ("c", 1, 9), ("d", 2, 5), ("f", 1, 101), ("g", 1, 1)]);
    assert_eq!(scene.rows().await, after);
    // As after a kill between the merge and the drop.
    let again = scene.merge(true, false).await;
    assert_eq!(again, Merged { unchanged: 3, kept: 1, ..Merged::default() });
    assert_eq!(scene.rows().await, after);
}

/// A merge alone removes nothing.
pub async fn nothing_is_removed_unless_it_is_asked_for(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let scene = scene((live, staging), "kept").await;
    assert_eq!(scene.merge(false, false).await.removed, 0);
    assert_eq!(scene.rows().await.len(), 7);
}

/// However many rows a key got, in staging and live: the newest count, an equally new one replaces,
/// and what is removed does not come back as it was before.
pub async fn a_key_is_merged_by_its_newest_rows(live: &impl ReadBack, staging: &dyn Reprocessing) {
    let ports = (live, staging);
    let table = spec("many_rows_a_key", &COLUMNS, 1);
    let scene = Scene::of(ports, table, all(&[("a", 1, 1), ("b", 1, 1), ("c", 1, 1)])).await;
    for version in [2, 3] {
        let newer = all(&[("a", version, version), ("b", version, version), ("c", 9, version)]);
        live.write(&scene.table, Arc::new(newer)).await.expect("live rows are written");
    }
    scene.stage("r_many", all(&[("a", 8, 8), ("b", 7, 2)]), &["a", "b", "c"]).await;
    // The same replay after a crash: older, and newer.
    scene.stage("r_many", all(&[("a", 5, 5), ("b", 4, 3), ("d", 4, 4)]), &["a", "d"]).await;
    scene.complete("r_many").await;
    let diff = scene.diff().await;
    let counts = (diff.added, diff.changed, diff.live_newer, diff.missing);
    assert_eq!(counts, (1, 2, 0, Some(1)), "{diff:?}");
    let merged = scene.merge(true, false).await;
    assert_eq!(merged, Merged { inserted: 1, replaced: 2, removed: 1, ..Merged::default() });
    assert_eq!(scene.rows().await, all(&[("a", 8, 8), ("b", 4, 3), ("d", 4, 4)]));
    assert!(scene.diff().await.is_empty());
}

/// Rows that share a part of the key are different rows.
pub async fn rows_of_a_key_of_two_columns_are_told_apart(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let columns = [("id", Text), ("part", Integer), ("said", Text), ("_version", Integer)];
    let part = |id, part, said, version| {
        row([text(id), Value::Integer(part), text(said), Value::Integer(version)])
    };
    let before = vec![part("a", 1, "x", 1), part("a", 2, "x", 1), part("b", 1, "x", 1)];
    let table = spec("parts", &columns, 2);
    let scene = Scene::of((live, staging), table, before).await;
    // The order has one line less.
    let staged = vec![part("a", 1, "y", 2), part("b", 1, "x", 2)];
    scene.stage("r_parts", staged, &["a", "b"]).await;
    scene.complete("r_parts").await;
    let diff = scene.diff().await;
    assert_eq!(diff.missing_examples, [[Some("a".to_owned()), Some("2".to_owned())]]);
    assert_eq!(diff.columns[0].examples[0].key, [Some("a".to_owned()), Some("1".to_owned())]);
    let merged = scene.merge(true, false).await;
    assert_eq!(merged, Merged { replaced: 1, unchanged: 1, removed: 1, ..Merged::default() });
    assert_eq!(scene.rows().await, [part("a", 1, "y", 2), part("b", 1, "x", 2)]);
}

/// A merged row leaves nothing of the one it replaces, as a written one does not.
pub async fn a_column_no_longer_configured_is_null_in_merged_rows(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let wide = spec("narrower", &COLUMNS, 1);
    let ports = (live, staging);
    let mut scene = Scene::of(ports, Arc::clone(&wide), all(&[("a", 1, 1), ("b", 1, 1)])).await;
    scene.table = spec("narrower", &[COLUMNS[0], COLUMNS[1], COLUMNS[3]], 1);
    let narrow = row([text("a"), Value::Integer(2), Value::Integer(5)]);
    scene.stage("r_narrower", vec![narrow], &[]).await;
    scene.complete("r_narrower").await;
    let options = crate::port::MergeOptions::default();
    let how = crate::port::Comparison { passed_over: vec![], ..super::how() };
    staging.merge(&scene.table, &how, options).await.expect("it is merged");
    let mut rows = live.read_back(&wide).await;
    rows.sort_by_key(|row| format!("{row:?}"));
    let merged = row([text("a"), Value::Integer(2), Value::Null, Value::Integer(5)]);
    assert_eq!(rows, [merged, made(("b", 1, 1))]);
}
