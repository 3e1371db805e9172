//! Checks of [`Reprocessing::merge`](crate::port::Reprocessing::merge).

use std::sync::Arc;

use super::{
    COLUMNS, Integer, ReadBack, Reprocessing, Scene, Text, all, made, read, read_row, row, scene,
    spec, text, version,
};
use crate::port::Merged;
use crate::row::ColumnType::Bytes;
use crate::row::Value;

/// A merge follows its plan, keeps a higher live version, and changes no row when it is repeated.
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
    let (may_hide, kept) = (merged.may_hide, 2);
    let expected = Merged { inserted: 1, replaced: 1, unchanged: 2, kept, removed: 1, may_hide };
    assert_eq!(merged, expected);
    let after = read(&[
        ("a", 1, (1, 1)),
        ("b", 2, (2, 1)),
        ("c", 1, (30, 0)),
        ("d", 2, (4, 1)),
        ("f", 1, (6, 2)),
        ("g", 1, (7, 0)),
        ("h", 1, (8, 2)),
        ("i", 1, (9, 1)),
    ]);
    assert_eq!(scene.rows().await, after);
    // As after a kill between the merge and the drop.
    let again = scene.merge(true, false).await;
    assert_eq!(again, Merged { unchanged: 4, kept, ..Merged::default() });
    assert_eq!(scene.rows().await, after);
}

/// A merge alone removes nothing.
pub async fn nothing_is_removed_unless_it_is_asked_for(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let scene = scene((live, staging), "kept").await;
    assert_eq!(scene.merge(false, false).await.removed, 0);
    assert_eq!(scene.rows().await.len(), 9);
}

/// The message of the newer row makes none now, and an earlier message of the key does: the table
/// then holds the row of the earlier one.
pub async fn an_older_staged_row_comes_back_when_the_newer_one_is_removed(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let (ports, name) = ((live, staging), "uncovered");
    let scene = Scene::of(ports, spec(name, &COLUMNS, 1), all(&[("a", 1, (1, 0))])).await;
    scene.write(&[("a", 2, (2, 0)), ("b", 9, (9, 0))]).await;
    scene.stage(name, all(&[("a", 5, (1, 1)), ("b", 1, (3, 1))]), &[1, 2, 3]).await;
    scene.complete(name).await;
    let diff = scene.diff().await;
    assert_eq!((diff.older, diff.missing, diff.may_hide), (2, Some(1), 0), "{diff:?}");
    assert_eq!(scene.merge(false, true).await, Merged { kept: 2, ..Merged::default() });
    let planned = scene.merge(true, true).await;
    let merged = scene.merge(true, false).await;
    assert_eq!(merged, planned);
    assert_eq!((merged.removed, merged.kept, merged.may_hide), (1, 1, 0), "{merged:?}");
    assert_eq!(merged.inserted + merged.replaced, 1, "{merged:?}");
    let after = read(&[("a", 5, (1, 1)), ("b", 9, (9, 0))]);
    assert_eq!(scene.rows().await, after);
    let again = scene.merge(true, false).await;
    assert_eq!(again, Merged { unchanged: 1, kept: 1, ..Merged::default() });
    assert_eq!(scene.rows().await, after);
}

/// A removed row had replaced that of a message outside the range.
pub async fn an_older_row_is_current_again_or_counted_as_hidden(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let (ports, name) = ((live, staging), "hidden");
    let scene = Scene::of(ports, spec(name, &COLUMNS, 1), all(&[("a", 1, (1, 0))])).await;
    for at in [2, 3] {
        scene.write(&[("a", at, (at, 0))]).await;
    }
    scene.stage(name, vec![], &[2, 3]).await;
    scene.complete(name).await;
    let diff = scene.diff().await;
    assert_eq!(diff.missing, Some(1), "{diff:?}");
    let merged = scene.merge(true, false).await;
    assert_eq!((merged.removed, merged.may_hide), (1, diff.may_hide), "{merged:?}");
    let after = scene.rows().await;
    match merged.may_hide {
        0 => assert_eq!(after, read(&[("a", 1, (1, 0))])),
        _ => assert_eq!((after, merged.may_hide), (vec![], 1)),
    }
    assert_eq!(scene.merge(true, false).await, Merged::default());
}

/// A removal counts for the row that was removed alone.
pub async fn a_newer_row_is_not_hindered_by_a_removal(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let (ports, name) = ((live, staging), "made_again");
    let rows = all(&[("a", 1, (1, 1)), ("b", 1, (2, 1)), ("c", 1, (3, 1))]);
    let scene = Scene::of(ports, spec(name, &COLUMNS, 1), rows).await;
    scene.stage(name, vec![], &[1, 2]).await;
    scene.complete(name).await;
    assert_eq!(scene.merge(true, false).await.removed, 2);
    // A later message, a higher revision, and another key.
    let newer = [("a", 7, (7, 0)), ("b", 2, (2, 2)), ("d", 1, (1, 1))];
    scene.write(&newer).await;
    let [a, b, d] = newer;
    assert_eq!(scene.rows().await, read(&[a, b, ("c", 1, (3, 1)), d]));
}

/// A removed row does not come back by a redelivery, by a writer with the old rule, or by a merge of
/// rows that the old rule staged. It may come back in a table that rows are only appended to.
pub async fn a_removed_row_does_not_come_back(live: &impl ReadBack, staging: &dyn Reprocessing) {
    let (ports, name) = ((live, staging), "removed");
    let rows = [("a", 1, (1, 1)), ("b", 1, (2, 0))];
    let scene = Scene::of(ports, spec(name, &COLUMNS, 1), all(&rows)).await;
    scene.stage(name, vec![], &[1, 2]).await;
    scene.complete(name).await;
    assert_eq!(scene.merge(true, false).await.removed, 2);
    scene.write(&rows).await;
    scene.write(&[("a", 1, (1, 0))]).await;
    assert_eq!(scene.rows().await, []);
    scene.drop().await;
    scene.stage("removed_2", all(&[("a", 1, (1, 0))]), &[1]).await;
    scene.complete("removed_2").await;
    scene.merge(true, false).await;
    assert_eq!(scene.rows().await, []);
    scene.write(&[("a", 2, (1, 2))]).await;
    scene.write(&rows).await;
    assert_eq!(scene.rows().await, read(&[("a", 2, (1, 2))]));
}

/// However many rows a key got, in staging and live: the newest count, and a removed key does not
/// come back as it was before.
pub async fn a_key_is_merged_by_its_newest_rows(live: &impl ReadBack, staging: &dyn Reprocessing) {
    let (ports, name) = ((live, staging), "many_rows_a_key");
    let rows = all(&[("a", 1, (1, 0)), ("b", 1, (2, 0)), ("c", 1, (3, 0))]);
    let scene = Scene::of(ports, spec(name, &COLUMNS, 1), rows).await;
    for at in [4, 5] {
        scene.write(&[("a", at, (at, 0)), ("b", at, (at, 0)), ("c", 9, (at, 0))]).await;
    }
    let (first, second) = ([("a", 8, (8, 1)), ("b", 7, (4, 1))], [("a", 5, (5, 1))]);
    scene.stage("r_many", all(&first), &[1, 2, 3, 4, 8]).await;
    // This replay after a crash: older, and newer.
    scene.stage("r_many", all(&second), &[5]).await;
    scene.stage("r_many", all(&[("b", 4, (5, 1)), ("d", 4, (4, 1))]), &[4, 5]).await;
    scene.complete("r_many").await;
    let diff = scene.diff().await;
    let counts = (diff.added, diff.changed, diff.older, diff.missing);
    assert_eq!(counts, (1, 2, 0, Some(1)), "{diff:?}");
    let merged = scene.merge(true, false).await;
    let may_hide = merged.may_hide;
    let expected = Merged { inserted: 1, replaced: 2, removed: 1, may_hide, ..Merged::default() };
    assert_eq!(merged, expected);
    let after = read(&[("a", 8, (8, 1)), ("b", 4, (5, 1)), ("d", 4, (4, 1))]);
    assert_eq!(scene.rows().await, after);
    assert!(scene.diff().await.is_empty());
}

/// Rows that share a part of the key are different rows.
pub async fn rows_of_a_key_of_two_columns_are_told_apart(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let columns = [("id", Text), ("part", Integer), ("said", Text), ("_version", Bytes)];
    let part =
        |id, part, said, origin| row([text(id), Value::Integer(part), text(said), version(origin)]);
    let before =
        vec![part("a", 1, "x", (1, 0)), part("a", 2, "x", (1, 0)), part("b", 1, "x", (2, 0))];
    let table = spec("parts", &columns, 2);
    let scene = Scene::of((live, staging), table, before).await;
    // The order has one line less.
    let staged = vec![part("a", 1, "y", (1, 1)), part("b", 1, "x", (2, 1))];
    scene.stage("r_parts", staged, &[1, 2]).await;
    scene.complete("r_parts").await;
    let diff = scene.diff().await;
    assert_eq!(diff.missing_examples, [[Some("a".to_owned()), Some("2".to_owned())]]);
    assert_eq!(diff.columns[0].examples[0].key, [Some("a".to_owned()), Some("1".to_owned())]);
    let merged = scene.merge(true, false).await;
    let may_hide = merged.may_hide;
    let expected = Merged { replaced: 1, unchanged: 1, removed: 1, may_hide, ..Merged::default() };
    assert_eq!(merged, expected);
    let after = [part("a", 1, "y", (1, 1)), part("b", 1, "x", (2, 1))];
    assert_eq!(scene.rows().await, after.map(|row| read_row(&row)));
}

/// A merged row leaves nothing of the one it replaces, as a written one does not.
pub async fn a_column_no_longer_configured_is_null_in_merged_rows(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let wide = spec("narrower", &COLUMNS, 1);
    let ports = (live, staging);
    let mut scene =
        Scene::of(ports, Arc::clone(&wide), all(&[("a", 1, (1, 0)), ("b", 1, (2, 0))])).await;
    scene.table = spec("narrower", &[COLUMNS[0], COLUMNS[1], COLUMNS[3]], 1);
    let narrow = row([text("a"), Value::Integer(2), version((1, 1))]);
    scene.stage("r_narrower", vec![narrow], &[]).await;
    scene.complete("r_narrower").await;
    let options = crate::port::MergeOptions::default();
    let how = crate::port::Comparison { passed_over: vec![], ..super::how() };
    staging.merge(&scene.table, &how, options).await.expect("it is merged");
    let mut rows: Vec<_> = live.read_back(&wide).await.iter().map(read_row).collect();
    rows.sort_by_key(|row| format!("{row:?}"));
    let merged = row([text("a"), Value::Integer(2), Value::Null, version((1, 1))]);
    assert_eq!(rows, [merged, made(("b", 1, (2, 0)))].map(|row| read_row(&row)));
}
