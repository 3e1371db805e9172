//! Conformance: the answers of every [`Auditable`], whichever process wrote the rows.
//!
//! A backend's test makes a fresh warehouse and awaits [`conforms`]. Each check uses a table of its
//! own name.
#![expect(clippy::expect_used, reason = "a check that cannot go on has failed")]

use std::sync::Arc;

use bytes::Bytes;

use super::warehouse::{row, table, text};
use crate::dead_letter_table::{self, DeadLetter, Stage};
use crate::port::{
    Age, Auditable, Current, CurrentRows, KeyCount, LetterMark, LetterQuery, Warehouse,
};
use crate::position::Position;
use crate::replay::ReplayRange;
use crate::row::{ColumnType, Row, TableSpec, Value};
use crate::time::Timestamp;
use crate::version::Version;

/// Runs every check: rows written to `warehouse` are found in `audited`.
pub async fn conforms(warehouse: &dyn Warehouse, audited: &dyn Auditable) {
    a_table_that_is_not_there_has_no_rows(audited).await;
    each_key_is_counted_in_its_place(warehouse, audited).await;
    keys_of_every_type_are_found(warehouse, audited).await;
    a_key_of_two_columns_needs_both(warehouse, audited).await;
    rows_without_a_key_are_counted_by_any_column(warehouse, audited).await;
    a_hint_where_rows_are_changes_no_answer(warehouse, audited).await;
    many_keys_are_counted_in_one_call(warehouse, audited).await;
    letters_are_shown_by_the_time_they_were_published(warehouse, audited).await;
    only_open_letters_of_live_runs_are_shown(warehouse, audited).await;
    the_current_row_of_a_key_is_newer_the_same_or_older(warehouse, audited).await;
    an_older_row_near_is_looked_up_in_the_whole_table(warehouse, audited).await;
    values_of_every_type_are_returned_at_the_expected_version(warehouse, audited).await;
    a_column_that_the_table_lacks_is_null(warehouse, audited).await;
}

async fn store(warehouse: &dyn Warehouse, table: &Arc<TableSpec>, rows: Vec<Row>) {
    warehouse.ensure_table(table).await.expect("the table is ensured");
    let refused = warehouse.write(table, Arc::new(rows)).await.expect("the rows are written");
    assert_eq!(refused.refusals, [], "{}", table.name);
}

async fn count(audited: &dyn Auditable, table: &Arc<TableSpec>, keys: Vec<Row>) -> Vec<u64> {
    let (columns, table) = (table.key.clone(), Arc::clone(table));
    let asked = KeyCount { table, columns, keys: Arc::new(keys), near: None };
    audited.count(&asked).await.expect("an answer")
}

fn ids(ids: &[&str]) -> Vec<Row> {
    ids.iter().map(|id| row([text(id)])).collect()
}

/// A table that was not made yet.
pub async fn a_table_that_is_not_there_has_no_rows(audited: &dyn Auditable) {
    let spec = table("audit_none", &[("id", ColumnType::String)], 1);
    assert_eq!(count(audited, &spec, ids(&["a", "b"])).await, [0, 0]);
    assert_eq!(count(audited, &spec, vec![]).await, [0; 0]);
}

/// In the order of the keys, byte by byte, and again for a repeated key.
pub async fn each_key_is_counted_in_its_place(warehouse: &dyn Warehouse, audited: &dyn Auditable) {
    let columns = [("id", ColumnType::String), ("_version", ColumnType::Integer)];
    let spec = table("audit_keys", &columns, 1);
    let names = ["a", "A", "zwölf 🦉", "it's \"c\"\n", ""];
    let rows = names.map(|id| row([text(id), Value::Integer(1)]));
    store(warehouse, &spec, rows.to_vec()).await;
    // A second write replaces the row.
    store(warehouse, &spec, vec![row([text("a"), Value::Integer(2)])]).await;
    let asked = ids(&["b", "it's \"c\"\n", "a", "a ", "A", "a", "zwölf 🦉", "ZWÖLF 🦉", ""]);
    assert_eq!(count(audited, &spec, asked).await, [0, 1, 1, 0, 1, 1, 1, 0, 1]);
}

/// The ends of each type's range too.
pub async fn keys_of_every_type_are_found(warehouse: &dyn Warehouse, audited: &dyn Auditable) {
    let time = |text| Value::Timestamp(Timestamp::parse_rfc3339(text).expect("a time"));
    let kinds = [
        (ColumnType::Integer, [i64::MIN, i64::MAX, 7].map(Value::Integer)),
        (
            ColumnType::Numeric,
            ["99999999999999999999999999999.999999999", "-0.000000001", "12.5"].map(text),
        ),
        (
            ColumnType::Timestamp,
            ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2026-02-17T14:30:00.123Z"]
                .map(time),
        ),
        (ColumnType::Date, [-719_162, 2_932_896, 20_501].map(Value::Date)),
    ];
    for (kind, [first, second, absent]) in kinds {
        let name = format!("audit_{}", kind.name().to_lowercase());
        let spec = table(&name, &[("id", kind)], 1);
        store(warehouse, &spec, vec![row([first.clone()]), row([second.clone()])]).await;
        let asked = [absent, second, first].map(|value| row([value]));
        assert_eq!(count(audited, &spec, asked.to_vec()).await, [0, 1, 1], "{}", kind.name());
    }
    let spec = table("audit_boolean", &[("id", ColumnType::Boolean)], 1);
    store(warehouse, &spec, vec![row([Value::Boolean(true)])]).await;
    let asked = [false, true].map(|value| row([Value::Boolean(value)]));
    assert_eq!(count(audited, &spec, asked.to_vec()).await, [0, 1]);
}

/// Neither half is enough.
pub async fn a_key_of_two_columns_needs_both(warehouse: &dyn Warehouse, audited: &dyn Auditable) {
    let columns = [("id", ColumnType::String), ("n", ColumnType::Integer)];
    let spec = table("audit_both", &columns, 2);
    let key = |id, n| row([text(id), Value::Integer(n)]);
    store(warehouse, &spec, vec![key("a", 1), key("b", 2)]).await;
    let asked = vec![key("a", 1), key("a", 2), key("b", 1), key("b", 2)];
    assert_eq!(count(audited, &spec, asked).await, [1, 0, 0, 1]);
}

/// Each value as often as it occurs, NULL never.
pub async fn rows_without_a_key_are_counted_by_any_column(
    warehouse: &dyn Warehouse,
    audited: &dyn Auditable,
) {
    let columns = [("said", ColumnType::String), ("id", ColumnType::String)];
    let spec = table("audit_added", &columns, 0);
    let rows = ["a", "b", "a"].map(|id| row([text("x"), text(id)])).into_iter();
    let nobody = row([text("x"), Value::Null]);
    store(warehouse, &spec, rows.chain([nobody]).collect()).await;
    let (table, keys) = (Arc::clone(&spec), Arc::new(ids(&["b", "c", "a", "b", ""])));
    let asked = KeyCount { table, columns: vec![1], keys, near: None };
    assert_eq!(audited.count(&asked).await.expect("an answer"), [1, 0, 2, 1, 0]);
}

/// Rows in other partitions than most, or without one, are found too.
pub async fn a_hint_where_rows_are_changes_no_answer(
    warehouse: &dyn Warehouse,
    audited: &dyn Auditable,
) {
    for kind in [ColumnType::Timestamp, ColumnType::Date] {
        let day = |day: i32| match kind {
            ColumnType::Date => Value::Date(day),
            _ => Value::Timestamp(Timestamp::from_micros(i64::from(day) * 86_400_000_000)),
        };
        let name = format!("audit_near_{}", kind.name().to_lowercase());
        let columns = [("id", ColumnType::String), ("day", kind)];
        let mut spec = TableSpec::clone(&table(&name, &columns, 1));
        spec.partition_by = Some(1);
        let spec = Arc::new(spec);
        let rows = [("a", day(20_000)), ("b", day(20_500)), ("c", Value::Null)];
        store(warehouse, &spec, rows.map(|(id, day)| row([text(id), day])).to_vec()).await;
        let (table, keys) = (Arc::clone(&spec), Arc::new(ids(&["a", "b", "c", "d"])));
        let near = Some((day(20_000), day(20_001)));
        let asked = KeyCount { table, columns: vec![0], keys, near };
        assert_eq!(audited.count(&asked).await.expect("an answer"), [1, 1, 1, 0]);
    }
}

/// More than one request, or one statement, may hold.
pub async fn many_keys_are_counted_in_one_call(warehouse: &dyn Warehouse, audited: &dyn Auditable) {
    let spec = table("audit_many", &[("id", ColumnType::String)], 1);
    let id = |number: usize| row([text(&format!("{number:040}"))]);
    let rows = (0..20_000).filter(|number| number % 100 != 17).map(id);
    store(warehouse, &spec, rows.collect()).await;
    let counts = count(audited, &spec, (0..20_000).map(id).collect()).await;
    let absent = (0..20_000).filter(|&number| counts[number] == 0);
    assert!(absent.eq((0..20_000).filter(|number| number % 100 == 17)));
    assert_eq!(counts.iter().sum::<u64>(), 19_800);
}

fn letter(message: &str, published: i64) -> DeadLetter {
    let processor = (published % 2 == 0).then(|| "orders".to_owned());
    let stage = if processor.is_some() { Stage::Write } else { Stage::Parse };
    DeadLetter {
        id: DeadLetter::id((message, Timestamp::from_micros(published)), stage, "route", None),
        event_id: processor.is_some().then(|| format!("event of {message}").into()),
        event_type: None,
        stage,
        actor: String::new(),
        duty: processor.clone().unwrap_or_else(|| "route".to_owned()),
        processor,
        reason: "it's \"so\"".to_owned(),
        payload: Bytes::from_static(b"{}"),
        attributes: None,
        message_id: message.into(),
        publish_time: Timestamp::from_micros(published),
        failed_at: Timestamp::from_micros(published + 1),
        attempts: 1,
        requeued_at: None,
        replay_id: None,
        ordering_key: "".into(),
        class: None,
        payload_object: None,
        purged_at: None,
    }
}

/// From the first moment on, and before the last; no more than are asked for.
pub async fn letters_are_shown_by_the_time_they_were_published(
    warehouse: &dyn Warehouse,
    audited: &dyn Auditable,
) {
    let start = 1_771_338_600_000_000;
    let range = |from, to| LetterQuery {
        published: ReplayRange {
            from: Timestamp::from_micros(start + from),
            to: Timestamp::from_micros(start + to),
        },
        payloads: false,
    };
    let mut none = |_| panic!("there is no table");
    audited.letters(range(0, 9), &mut none).await.expect("no table is no error");
    let letters: Vec<_> =
        (0..6).map(|number| letter(&format!("m{number}"), start + number)).collect();
    let spec = Arc::new(dead_letter_table::spec());
    store(warehouse, &spec, letters.iter().map(DeadLetter::row).collect()).await;
    let mut shown = Vec::new();
    let mut take = |mark: LetterMark| {
        shown.push(mark);
        true
    };
    audited.letters(range(1, 4), &mut take).await.expect("they are shown");
    shown.sort_by(|a, b| a.message_id.cmp(&b.message_id));
    let marks = letters[1..4].iter().cloned().map(|letter| LetterMark {
        message_id: letter.message_id,
        publish_time: letter.publish_time,
        stage: letter.stage,
        processor: letter.processor,
        payload: None,
        purged: false,
    });
    assert_eq!(shown, marks.collect::<Vec<_>>());
    let mut count = 0;
    let mut one = |_| {
        count += 1;
        false
    };
    let ended = audited.letters(range(0, i64::from(u32::MAX)), &mut one);
    ended.await.expect("a callback that returns false ends the walk");
    assert_eq!(count, 1);
}

/// A requeued letter and one that a staging replay left account for nothing; a purged one is shown as
/// such. Payloads are returned on request.
pub async fn only_open_letters_of_live_runs_are_shown(
    warehouse: &dyn Warehouse,
    audited: &dyn Auditable,
) {
    let start = 1_781_338_600_000_000;
    let mut letters: Vec<_> =
        (0..5).map(|number| letter(&format!("open{number}"), start + number)).collect();
    letters[1].requeued_at = Some(Timestamp::from_micros(start + 9));
    letters[2].replay_id = Some("r1".to_owned());
    letters[3] = letters[3].clone().purged(Timestamp::from_micros(start + 9));
    letters[4].requeued_at = Some(Timestamp::from_micros(start + 8));
    letters[4] = letters[4].clone().purged(Timestamp::from_micros(start + 9));
    let spec = Arc::new(dead_letter_table::spec());
    store(warehouse, &spec, letters.iter().map(DeadLetter::row).collect()).await;
    for payloads in [false, true] {
        let from = Timestamp::from_micros(start);
        let published = ReplayRange { from, to: Timestamp::from_micros(start + 9) };
        let mut shown = Vec::new();
        let mut take = |mark: LetterMark| {
            shown.push((mark.message_id, mark.publish_time, mark.payload, mark.purged));
            true
        };
        audited.letters(LetterQuery { published, payloads }, &mut take).await.expect("shown");
        let payload = payloads.then(|| Bytes::from_static(b"{}"));
        shown.sort();
        let purged = ("open3".into(), Timestamp::from_micros(start + 3), None, true);
        assert_eq!(shown, [("open0".into(), from, payload, false), purged]);
    }
}

fn version_at(micros: i64) -> Version {
    Version::new(None, Position::of("1", Timestamp::from_micros(micros), 0), 0)
}

async fn current(audited: &dyn Auditable, asked: CurrentRows) -> Vec<Current> {
    audited.current(&asked).await.expect("an answer")
}

/// Each key in its place, and again where it is there again.
pub async fn the_current_row_of_a_key_is_newer_the_same_or_older(
    warehouse: &dyn Warehouse,
    audited: &dyn Auditable,
) {
    let columns = [("id", ColumnType::String), ("_version", ColumnType::Bytes)];
    let spec = table("audit_current", &columns, 1);
    let asked = |keys: &[(&str, i64)]| CurrentRows {
        table: Arc::clone(&spec),
        keys: Arc::new(keys.iter().map(|(id, _)| row([text(id)])).collect()),
        expected: Arc::new(keys.iter().map(|(_, at)| version_at(*at)).collect()),
        columns: Vec::new(),
        near: None,
    };
    assert_eq!(current(audited, asked(&[("a", 1)])).await, [Current::MISSING], "no table");
    let rows = [("a", 5), ("b", 5)].map(|(id, at)| row([text(id), super::warehouse::version(at)]));
    store(warehouse, &spec, rows.to_vec()).await;
    // This row supersedes the first one of `a`, whose version is lower than each asked for below.
    store(warehouse, &spec, vec![row([text("a"), super::warehouse::version(7)])]).await;
    let keys = [("b", 4), ("c", 4), ("a", 7), ("b", 6), ("a", 6), ("a", 8), ("b", 5)];
    let found = current(audited, asked(&keys)).await;
    let rows: Vec<_> = found.iter().map(|it| it.rows).collect();
    assert_eq!(rows, [1, 0, 1, 1, 1, 1, 1]);
    let older = found.into_iter().map(|it| match it.age {
        Age::Older(version) => version,
        Age::Newer | Age::Same(_) => None,
    });
    let older: Vec<_> = older.collect();
    let (five, seven) = (Some(version_at(5)), Some(version_at(7)));
    assert_eq!(older, [None, None, None, five, None, seven, None]);
}

/// The newer row may be in another partition than the row that the hint leads to.
pub async fn an_older_row_near_is_looked_up_in_the_whole_table(
    warehouse: &dyn Warehouse,
    audited: &dyn Auditable,
) {
    let columns =
        [("id", ColumnType::String), ("day", ColumnType::Date), ("_version", ColumnType::Bytes)];
    let mut spec = TableSpec::clone(&table("audit_moved", &columns, 1));
    spec.partition_by = Some(1);
    let spec = Arc::new(spec);
    let at =
        |day, micros| vec![row([text("a"), Value::Date(day), super::warehouse::version(micros)])];
    store(warehouse, &spec, at(20_000, 5)).await;
    store(warehouse, &spec, at(20_500, 7)).await;
    for (expected, is_older) in [(6, false), (7, false), (8, true)] {
        let asked = CurrentRows {
            table: Arc::clone(&spec),
            keys: Arc::new(ids(&["a"])),
            expected: Arc::new(vec![version_at(expected)]),
            columns: Vec::new(),
            near: Some((Value::Date(20_000), Value::Date(20_001))),
        };
        let found = current(audited, asked).await.remove(0);
        assert_eq!(found.rows, 1);
        assert_eq!(matches!(found.age, Age::Older(_)), is_older, "{expected}");
    }
}

/// As they were written; and no values of a row with another version.
pub async fn values_of_every_type_are_returned_at_the_expected_version(
    warehouse: &dyn Warehouse,
    audited: &dyn Auditable,
) {
    let kinds = [
        (ColumnType::String, text("it's \"x\"\n")),
        (ColumnType::Integer, Value::Integer(i64::MIN)),
        (ColumnType::Float, Value::Float(0.1)),
        (ColumnType::Boolean, Value::Boolean(true)),
        (ColumnType::Timestamp, Value::Timestamp(Timestamp::from_micros(1_771_338_600_123_456))),
        (ColumnType::Date, Value::Date(20_501)),
        (ColumnType::Bytes, Value::Bytes(Box::new(Bytes::from_static(b"\0\xff")))),
        (ColumnType::Json, text("{\"a\":1}")),
    ];
    let names: Vec<_> = kinds.iter().map(|(kind, _)| format!("v_{}", kind.name())).collect();
    let names = names.iter().map(|name| name.to_lowercase()).collect::<Vec<_>>();
    let mut columns = vec![("id", ColumnType::String)];
    columns.extend(names.iter().map(String::as_str).zip(kinds.iter().map(|(kind, _)| *kind)));
    columns.push(("_version", ColumnType::Bytes));
    let spec = table("audit_values", &columns, 1);
    let values: Vec<_> = kinds.iter().map(|(_, value)| value.clone()).collect();
    let full = [text("a")].into_iter().chain(values.clone());
    let nulls = [text("b")].into_iter().chain(kinds.iter().map(|_| Value::Null));
    let version = || super::warehouse::version(5);
    let rows = vec![row(full.chain([version()])), row(nulls.chain([version()]))];
    store(warehouse, &spec, rows).await;
    let asked = CurrentRows {
        table: Arc::clone(&spec),
        keys: Arc::new(ids(&["b", "a", "a", "c"])),
        expected: Arc::new([5, 5, 4, 5].map(version_at).to_vec()),
        columns: (1..=kinds.len()).collect(),
        near: None,
    };
    let nulls = vec![Value::Null; kinds.len()];
    let found = current(audited, asked).await;
    let same = |values: Vec<Value>| Current { rows: 1, age: Age::Same(values.into()) };
    let newer = Current { rows: 1, age: Age::Newer };
    assert_eq!(found, [same(nulls), same(values), newer, Current::MISSING]);
}

/// A column that is configured, and that no run has added yet.
pub async fn a_column_that_the_table_lacks_is_null(
    warehouse: &dyn Warehouse,
    audited: &dyn Auditable,
) {
    let columns = [("id", ColumnType::String), ("_version", ColumnType::Bytes)];
    let spec = table("audit_lacks", &columns, 1);
    store(warehouse, &spec, vec![row([text("a"), super::warehouse::version(5)])]).await;
    let columns = [columns[0], columns[1], ("later", ColumnType::Integer)];
    let asked = CurrentRows {
        table: table("audit_lacks", &columns, 1),
        keys: Arc::new(ids(&["a"])),
        expected: Arc::new(vec![version_at(5)]),
        columns: vec![2],
        near: None,
    };
    let same = Age::Same([Value::Null].into());
    assert_eq!(current(audited, asked).await, [Current { rows: 1, age: same }]);
}
