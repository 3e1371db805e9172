//! Checks of [`Reprocessing::diff`](crate::port::Reprocessing::diff).

use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;

use super::{
    COLUMNS, ReadBack, Reprocessing, Scene, Text, all, how, position, read, read_row, row, scene,
    spec, text, version,
};
use crate::dead_letter_table::{self, DeadLetter, Stage};
use crate::port::{Comparison, MergeOptions, Merged, Shown};
use crate::row::{ColumnType, TableSpec, Value};
use crate::time::Timestamp;
use crate::version::Version;

/// Every kind of row is counted once, and differences are shown.
pub async fn a_diff_names_what_was_added_changed_and_is_missing_and_nothing_else(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let scene = scene((live, staging), "compared").await;
    let diff = scene.diff().await;
    let counts = (diff.added, diff.changed, diff.live_newer, diff.older, diff.same);
    assert_eq!(counts, (1, 2, 1, 1, 2), "{diff:?}");
    assert_eq!(diff.missing, Some(1), "{diff:?}");
    assert_eq!(diff.missing_examples, [[Some("e".to_owned())]]);
    assert_eq!(diff.added_examples, [[Some("d".to_owned())]]);
    let [count] = &diff.columns[..] else { panic!("{diff:?}") };
    assert_eq!((count.name.as_str(), count.rows, count.examples.len()), ("count", 2, 2));
    assert_eq!(count.examples[0].live.as_deref(), Some("1"));
    assert_eq!(count.examples[0].staged.as_deref(), Some("2"));
    let one = Comparison { examples: 1, ..how() };
    let diff = staging.diff(&scene.table, &one).await.expect("they are compared");
    assert_eq!((diff.columns[0].rows, diff.columns[0].examples.len()), (2, 1), "{diff:?}");
}

/// Equal values are equal in every type, NULL is not a value, and each is shown as people read it.
pub async fn every_type_is_compared_and_shown(live: &impl ReadBack, staging: &dyn Reprocessing) {
    let columns = [
        ("id", ColumnType::String),
        ("integer", ColumnType::Integer),
        ("float", ColumnType::Float),
        ("numeric", ColumnType::Numeric),
        ("boolean", ColumnType::Boolean),
        ("timestamp", ColumnType::Timestamp),
        ("date", ColumnType::Date),
        ("json", ColumnType::Json),
        ("bytes", ColumnType::Bytes),
        ("_version", ColumnType::Bytes),
    ];
    let time = |text| Value::Timestamp(Timestamp::parse_rfc3339(text).expect("a time"));
    let bytes = |bytes: &'static [u8]| Value::Bytes(Bytes::from_static(bytes).into());
    let one = [
        Value::Integer(-1),
        Value::Float(0.5),
        text("1.25"),
        Value::Boolean(true),
        time("2026-02-17T14:30:00.000001Z"),
        Value::Date(20_501),
        text(r#"{"a":[1,null]}"#),
        bytes(b"\0\xff"),
    ];
    let other = [
        Value::Integer(2),
        Value::Float(-0.25),
        text("1.5"),
        Value::Boolean(false),
        time("1969-12-31T23:59:59.900000Z"),
        Value::Date(-1),
        text("null"),
        bytes(b""),
    ];
    let nothing = [const { Value::Null }; 8];
    let made = |id: &str, values: &[Value; 8], version_at| {
        let values = values.iter().cloned();
        row([text(id)].into_iter().chain(values).chain([version((version_at, 0))]))
    };
    let before = vec![made("alike", &one, 1), made("no value", &nothing, 1), made("x", &one, 1)];
    let scene = Scene::of((live, staging), spec("types_compared", &columns, 1), before).await;
    let staged = vec![made("alike", &one, 2), made("no value", &nothing, 2), made("x", &other, 2)];
    scene.stage("r_types", staged, &[]).await;
    let diff = scene.diff().await;
    assert_eq!((diff.same, diff.changed), (2, 1), "{diff:?}");
    let shown = |value: &Shown| value.clone().expect("a value");
    let values: Vec<_> = diff.columns.iter().map(|column| &column.examples[0]).collect();
    let live_values: Vec<_> = values.iter().map(|example| shown(&example.live)).collect();
    let staged_values: Vec<_> = values.iter().map(|example| shown(&example.staged)).collect();
    let time = "2026-02-17T14:30:00.000001Z";
    let json = r#"{"a":[1,null]}"#;
    assert_eq!(live_values, ["-1", "0.5", "1.25", "true", time, "2026-02-17", json, "AP8="]);
    let time = "1969-12-31T23:59:59.900000Z";
    assert_eq!(staged_values, ["2", "-0.25", "1.5", "false", time, "1969-12-31", "null", ""]);
    // Against no value every value differs, also null in JSON.
    scene.drop().await;
    scene.stage("r_types_2", vec![made("no value", &other, 2)], &[]).await;
    let diff = scene.diff().await;
    assert_eq!((diff.changed, diff.columns.len()), (1, 8), "{diff:?}");
    assert!(diff.columns.iter().all(|column| column.examples[0].live.is_none()), "{diff:?}");
    scene.complete("r_types_2").await;
    assert_eq!(scene.merge(false, false).await, Merged { replaced: 1, ..Merged::default() });
    let rows = scene.rows().await;
    assert!(rows.contains(&read_row(&made("no value", &other, 2))), "{rows:?}");
}

/// A column that the live table lacks is NULL there, until a merge makes it.
pub async fn a_new_column_differs_where_it_has_a_value_and_is_merged(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let rows = all(&[("a", 1, (1, 0)), ("b", 1, (1, 0))]);
    let mut scene = Scene::of((live, staging), spec("wider", &COLUMNS, 1), rows).await;
    let columns = [COLUMNS[0], COLUMNS[1], COLUMNS[2], ("note", Text), COLUMNS[3]];
    scene.table = spec("wider", &columns, 1);
    let values = [text("a"), Value::Integer(1), text(""), text("new"), version((1, 1))];
    scene.stage("r_wider", vec![row(values.clone())], &[]).await;
    scene.complete("r_wider").await;
    let diff = scene.diff().await;
    assert_eq!((diff.changed, diff.columns[0].name.as_str()), (1, "note"), "{diff:?}");
    assert_eq!(scene.merge(false, false).await, Merged { replaced: 1, ..Merged::default() });
    assert!(scene.diff().await.is_empty());
    assert_eq!(scene.rows().await[0], read_row(&row(values)));
}

/// A live table that is not there has no rows, and a merge makes it.
pub async fn without_a_live_table_every_row_is_added(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let table = spec("not_live_yet", &COLUMNS, 1);
    let scene = Scene { live, staging, table };
    scene.stage("r_not_live", all(&[("a", 1, (1, 1))]), &[1]).await;
    scene.complete("r_not_live").await;
    let diff = scene.diff().await;
    assert_eq!((diff.added, diff.missing), (1, Some(0)), "{diff:?}");
    let options = MergeOptions::default();
    let merged = staging.merge(&scene.table, &how(), options).await.expect("it is merged");
    assert_eq!(merged.inserted, 1);
    assert!(scene.diff().await.is_empty());
    assert_eq!(scene.rows().await, read(&[("a", 1, (1, 1))]));
}

/// A message with an open letter contributes nothing: its row of before is missing.
pub async fn a_dead_letter_keeps_no_row(live: &impl ReadBack, staging: &dyn Reprocessing) {
    let scene = scene((live, staging), "with_letters").await;
    let letters = Arc::new(dead_letter_table::spec());
    live.ensure_table(&letters).await.expect("the table of dead letters is made");
    let rows = Arc::new(vec![letter("e", "p", 5).row()]);
    live.write(&letters, rows).await.expect("the letter is stored");
    assert_eq!(scene.diff().await.missing_examples, [[Some("e".to_owned())]]);
    assert_eq!(scene.merge(true, false).await.removed, 1);
}

/// The newest staged row of each key is the live row, however many rows a key had.
pub async fn replaying_under_the_same_rules_differs_in_nothing(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let (ports, name) = ((live, staging), "unchanged");
    let scene = Scene::of(ports, spec(name, &COLUMNS, 1), all(&[("a", 1, (1, 1))])).await;
    scene.write(&[("b", 1, (2, 1)), ("a", 3, (3, 1))]).await;
    let before = scene.rows().await;
    scene.stage(name, all(&[("b", 1, (2, 1)), ("a", 3, (3, 1))]), &[2, 3]).await;
    scene.stage(name, all(&[("a", 1, (1, 1))]), &[1]).await;
    scene.complete(name).await;
    let diff = scene.diff().await;
    assert!(diff.is_empty(), "{diff:?}");
    assert_eq!((diff.same, diff.older, diff.missing), (2, 0, Some(0)), "{diff:?}");
    let merged = scene.merge(true, false).await;
    assert_eq!(merged, Merged { unchanged: 2, ..Merged::default() });
    assert_eq!(scene.rows().await, before);
    // Only the first message of `a`: the live row is of a later one.
    scene.drop().await;
    scene.stage("unchanged_2", all(&[("a", 1, (1, 1))]), &[1]).await;
    scene.complete("unchanged_2").await;
    let diff = scene.diff().await;
    assert!(diff.is_empty(), "{diff:?}");
    assert_eq!((diff.same, diff.older), (0, 1), "{diff:?}");
    let merged = scene.merge(true, false).await;
    assert_eq!(merged, Merged { kept: 1, ..Merged::default() });
    assert_eq!(scene.rows().await, before);
}

/// In a table with `order_by` the position and the revision come at the end of a longer version.
pub async fn the_last_bytes_of_an_ordered_version_decide(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let table = spec("ordered", &COLUMNS, 1);
    let table =
        Arc::new(TableSpec { order_by: Some("at TIMESTAMP".to_owned()), ..(*table).clone() });
    let made = |id, count, order, (micros, revision)| {
        let version = Version::new(Some(order), position(micros), revision);
        row([text(id), Value::Integer(count), text(""), Value::Version(Box::new(version))])
    };
    let before = vec![
        made("a", 1, 9, (1, 0)),
        made("b", 1, 5, (2, 0)),
        made("e", 1, -5, (3, 0)),
        made("f", 1, 5, (4, 2)),
        made("g", 1, 5, (5, 0)),
    ];
    let scene = Scene::of((live, staging), table, before).await;
    let staged = vec![made("a", 2, 1, (7, 1)), made("b", 2, 5, (2, 1))];
    scene.stage("r_ordered", staged, &[2, 3, 4, 7]).await;
    scene.complete("r_ordered").await;
    let diff = scene.diff().await;
    assert_eq!((diff.changed, diff.older, diff.missing), (1, 1, Some(1)), "{diff:?}");
    assert_eq!(diff.missing_examples, [[Some("e".to_owned())]]);
    let merged = scene.merge(true, false).await;
    assert_eq!((merged.replaced, merged.kept, merged.removed), (1, 1, 1), "{merged:?}");
    let after = [
        made("a", 1, 9, (1, 0)),
        made("b", 2, 5, (2, 1)),
        made("f", 1, 5, (4, 2)),
        made("g", 1, 5, (5, 0)),
    ];
    assert_eq!(scene.rows().await, after.map(|row| read_row(&row)));
}

/// Two events share an id: each row belongs to its own message.
pub async fn a_row_whose_message_was_not_replayed_is_not_missing(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let columns = [("source", Text), ("id", Text), ("_version", ColumnType::Bytes)];
    let made = |source, origin| row([text(source), text("1"), version(origin)]);
    let before = vec![made("first", (1, 0)), made("second", (2, 0)), made("third", (3, 0))];
    let scene = Scene::of((live, staging), spec("namesakes", &columns, 2), before).await;
    scene.stage("r_namesakes", vec![made("second", (2, 0))], &[2, 3]).await;
    scene.complete("r_namesakes").await;
    let gone = [Some("third".to_owned()), Some("1".to_owned())];
    assert_eq!(scene.diff().await.missing_examples, [gone]);
    assert_eq!(scene.merge(true, false).await.removed, 1);
    let rest = [made("first", (1, 0)), made("second", (2, 0))];
    assert_eq!(scene.rows().await, rest.map(|row| read_row(&row)));
}

fn letter(event: &str, processor: &str, micros: i64) -> DeadLetter {
    DeadLetter {
        id: format!("{event} {processor}"),
        event_id: Some(event.into()),
        event_type: None,
        stage: Stage::Process,
        actor: String::new(),
        processor: Some(processor.to_owned()),
        reason: "bad".to_owned(),
        payload: Bytes::new(),
        attributes: None,
        message_id: "1".into(),
        publish_time: Timestamp::from_micros(micros),
        failed_at: Timestamp::default(),
        attempts: 1,
        requeued_at: None,
        replay_id: None,
        ordering_key: CompactString::default(),
        class: None,
        payload_object: None,
        purged_at: None,
        duty: processor.to_owned(),
    }
}

/// All tables of a replay share its events, for as long as one of them exists.
pub async fn a_row_that_is_now_made_elsewhere_is_missing(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let ports = (live, staging);
    let before = Scene::of(ports, spec("moved_from", &COLUMNS, 1), all(&[("e", 1, (1, 0))])).await;
    let after = Scene::of(ports, spec("moved_to", &COLUMNS, 1), vec![]).await;
    before.stage("r_moved", vec![], &[]).await;
    after.stage("r_moved", all(&[("e", 1, (1, 1))]), &[1]).await;
    for scene in [&before, &after] {
        scene.complete("r_moved").await;
    }
    assert_eq!(after.diff().await.added, 1);
    after.drop().await;
    let diff = before.diff().await;
    assert_eq!(diff.missing, Some(1), "{diff:?}");
    let merged = before.merge(true, false).await;
    assert_eq!(merged, Merged { may_hide: merged.may_hide, removed: 1, ..Merged::default() });
    assert_eq!(before.rows().await, []);
    before.drop().await;
}
