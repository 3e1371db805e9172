//! Checks of [`Reprocessing::diff`](crate::port::Reprocessing::diff).

use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;

use super::{COLUMNS, ReadBack, Reprocessing, Scene, Text, all, how, made, row, scene, spec, text};
use crate::dead_letter_table::{self, DeadLetter, Stage};
use crate::port::{Comparison, MergeOptions, Merged, Scope, Shown};
use crate::row::{ColumnType, Value};
use crate::time::Timestamp;

/// Every kind of row is counted once, and differences are shown.
pub async fn a_diff_names_what_was_added_changed_and_is_missing_and_nothing_else(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let scene = scene((live, staging), "compared").await;
    let diff = scene.diff().await;
    assert_eq!((diff.added, diff.changed, diff.live_newer, diff.same), (1, 2, 1, 1), "{diff:?}");
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
        ("_version", ColumnType::Integer),
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
    let made = |id: &str, values: &[Value; 8], version| {
        let values = values.iter().cloned();
        row([text(id)].into_iter().chain(values).chain([Value::Integer(version)]))
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
    assert!(rows.contains(&made("no value", &other, 2)), "{rows:?}");
}

/// A column that the live table lacks is NULL there, until a merge makes it.
pub async fn a_new_column_differs_where_it_has_a_value_and_is_merged(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let rows = all(&[("a", 1, 1), ("b", 1, 1)]);
    let mut scene = Scene::of((live, staging), spec("wider", &COLUMNS, 1), rows).await;
    let columns = [COLUMNS[0], COLUMNS[1], COLUMNS[2], ("note", Text), COLUMNS[3]];
    scene.table = spec("wider", &columns, 1);
    let values = [text("a"), Value::Integer(1), text(""), text("new"), Value::Integer(5)];
    scene.stage("r_wider", vec![row(values.clone())], &[]).await;
    scene.complete("r_wider").await;
    let diff = scene.diff().await;
    assert_eq!((diff.changed, diff.columns[0].name.as_str()), (1, "note"), "{diff:?}");
    assert_eq!(scene.merge(false, false).await, Merged { replaced: 1, ..Merged::default() });
    assert!(scene.diff().await.is_empty());
    assert_eq!(scene.rows().await[0], row(values));
}

/// A live table that is not there has no rows, and a merge makes it.
pub async fn without_a_live_table_every_row_is_added(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let table = spec("not_live_yet", &COLUMNS, 1);
    let scene = Scene { live, staging, table };
    scene.stage("r_not_live", vec![made(("a", 1, 1))], &["a"]).await;
    scene.complete("r_not_live").await;
    let diff = scene.diff().await;
    assert_eq!((diff.added, diff.missing), (1, Some(0)), "{diff:?}");
    let options = MergeOptions::default();
    let merged = staging.merge(&scene.table, &how(), options).await.expect("it is merged");
    assert_eq!(merged.inserted, 1);
    assert!(scene.diff().await.is_empty());
    assert_eq!(scene.rows().await, [made(("a", 1, 1))]);
}

/// The live row of an event that became a dead letter is not gone: it is not made yet.
pub async fn an_event_that_is_a_dead_letter_misses_no_row(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let scene = scene((live, staging), "with_letters").await;
    let letters = Arc::new(dead_letter_table::spec());
    live.ensure_table(&letters).await.expect("the table of dead letters is made");
    let scope = how().scope.map(|scope| Scope { ..scope });
    let how = Comparison { scope, ..how() };
    let missing =
        async || staging.diff(&scene.table, &how).await.expect("they are compared").missing;
    let store = async |event: &str, processor: &str| {
        let row = letter(event, processor).row();
        live.write(&letters, Arc::new(vec![row])).await.expect("the letter is stored");
    };
    store("e", "another").await;
    assert_eq!(missing().await, Some(1), "another processor's letters say nothing of this table");
    store("e", "it's \\ p").await;
    assert_eq!(missing().await, Some(0));
    let options = MergeOptions { remove_missing: true, dry_run: false };
    let merged = staging.merge(&scene.table, &how, options).await.expect("it is merged");
    assert_eq!(merged.removed, 0);
    assert!(scene.rows().await.contains(&made(("e", 1, 1))));
}

fn letter(event: &str, processor: &str) -> DeadLetter {
    DeadLetter {
        id: format!("{event} {processor}"),
        event_id: Some(event.into()),
        event_type: None,
        stage: Stage::Process,
        actor: String::new(),
        processor: Some(processor.to_owned()),
        duty: processor.to_owned(),
        reason: "bad".to_owned(),
        payload: Bytes::new(),
        attributes: None,
        message_id: event.into(),
        publish_time: Timestamp::default(),
        failed_at: Timestamp::default(),
        attempts: 1,
        requeued_at: None,
        replay_id: None,
        ordering_key: CompactString::default(),
    }
}

/// All tables of a replay share its events, for as long as one of them stands.
pub async fn a_row_that_is_now_made_elsewhere_is_missing(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let ports = (live, staging);
    let before = Scene::of(ports, spec("moved_from", &COLUMNS, 1), all(&[("e", 1, 1)])).await;
    let after = Scene::of(ports, spec("moved_to", &COLUMNS, 1), vec![]).await;
    before.stage("r_moved", vec![], &[]).await;
    after.stage("r_moved", all(&[("e", 1, 2)]), &["e"]).await;
    for scene in [&before, &after] {
        scene.complete("r_moved").await;
    }
    assert_eq!(after.diff().await.added, 1);
    after.drop().await;
    let diff = before.diff().await;
    assert_eq!(diff.missing, Some(1), "{diff:?}");
    assert_eq!(before.merge(true, false).await, Merged { removed: 1, ..Merged::default() });
    assert_eq!(before.rows().await, []);
    before.drop().await;
}
