//! Checks of [`Warehouse::write`](crate::port::Warehouse::write).

use std::sync::Arc;

use bytes::Bytes;

use super::{ReadBack, VERSIONED, assert_holds, row, store, table, text, versioned};
use crate::port::{WriteError, Written};
use crate::row::{ColumnType, Value};
use crate::time::Timestamp;

/// Nothing is lost or bent on the way, at the ends of each type's range either.
pub async fn every_type_comes_back_as_it_went_in(warehouse: &impl ReadBack) {
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
    ];
    let spec = table("typed", &columns, 1);
    let time = |text| Value::Timestamp(Timestamp::parse_rfc3339(text).expect("a time"));
    let rows = vec![
        row([
            text("zwölf 🦉 'quoted' \"twice\"\n"),
            Value::Integer(i64::MIN),
            Value::Float(0.1),
            text("99999999999999999999999999999.999999999"),
            Value::Boolean(true),
            time("2026-02-17T14:30:00.123Z"),
            Value::Date(20_501),
            text(r#"{"a":[1,2.5,null]}"#),
            Value::Bytes(Bytes::from_static(b"\0\xff\xfe").into()),
        ]),
        row([
            text("2"),
            Value::Integer(i64::MAX),
            Value::Float(-f64::MAX),
            text("-0.000000001"),
            Value::Boolean(false),
            time("0001-01-01T00:00:00Z"),
            Value::Date(-719_162),
            text("12"),
            Value::Bytes(Bytes::new().into()),
        ]),
        row([
            text("3"),
            Value::Integer(0),
            Value::Float(12.0),
            text("12"),
            Value::Boolean(true),
            time("9999-12-31T23:59:59.999999Z"),
            Value::Date(2_932_896),
            text(r#""text""#),
            Value::Bytes(Bytes::from_static(b"text").into()),
        ]),
        row([text("nothing")].into_iter().chain((1..columns.len()).map(|_| Value::Null))),
    ];
    store(warehouse, &spec, rows.clone()).await;
    assert_holds(warehouse, &spec, &rows).await;
}

/// A row with the version of the current row changes nothing, whatever else it holds.
pub async fn an_equal_version_changes_nothing(warehouse: &impl ReadBack) {
    let spec = table("as_new", &VERSIONED, 1);
    for said in ["first", "second"] {
        store(warehouse, &spec, vec![versioned("a", said, 5)]).await;
        assert_holds(warehouse, &spec, &[versioned("a", "first", 5)]).await;
    }
}

/// Only rows that a newer version keeps out are counted as superseded: no first row of a key, no
/// replacement, no repeat.
pub async fn rows_that_a_newer_version_keeps_out_are_counted(warehouse: &impl ReadBack) {
    let spec = table("superseded", &VERSIONED, 1);
    store(warehouse, &spec, vec![versioned("a", "first", 5), versioned("b", "other", 5)]).await;
    for (rows, superseded) in [
        (vec![versioned("a", "older", 4), versioned("b", "older", 1)], 2),
        (vec![versioned("a", "same", 5), versioned("b", "newer", 6)], 0),
        (vec![versioned("c", "newer", 2), versioned("c", "older", 1)], 1),
    ] {
        let written = warehouse.write(&spec, Arc::new(rows)).await.expect("the rows are written");
        assert_eq!(written, Written { refusals: Vec::new(), superseded });
    }
}

/// A newer row replaces; an older one changes nothing.
pub async fn a_row_replaces_an_older_one(warehouse: &impl ReadBack) {
    let spec = table("replaced", &VERSIONED, 1);
    store(warehouse, &spec, vec![versioned("a", "first", 5), versioned("b", "other", 1)]).await;
    for (text, version, live) in [
        ("older", 4, ("first", 5)),
        ("newer", i64::MAX, ("newer", i64::MAX)),
        ("late", 6, ("newer", i64::MAX)),
    ] {
        store(warehouse, &spec, vec![versioned("a", text, version)]).await;
        let rows = [versioned("a", live.0, live.1), versioned("b", "other", 1)];
        assert_holds(warehouse, &spec, &rows).await;
    }
}

/// The rule of versions holds among the rows of one call as it does between calls.
pub async fn rows_of_one_call_count_in_their_order(warehouse: &impl ReadBack) {
    let spec = table("within_one_call", &VERSIONED, 1);
    let rows = vec![
        versioned("b", "first", 1),
        versioned("a", "newest", 9),
        versioned("a", "older", 8),
        versioned("b", "as new", 1),
        versioned("a", "oldest", 7),
    ];
    store(warehouse, &spec, rows).await;
    let rows = [versioned("a", "newest", 9), versioned("b", "first", 1)];
    assert_holds(warehouse, &spec, &rows).await;
}

/// Without a version the first row of a key stays.
pub async fn without_a_version_the_first_row_stays(warehouse: &impl ReadBack) {
    let spec = table("unversioned", &VERSIONED[..2], 1);
    let said = |id, said| row([text(id), text(said)]);
    store(warehouse, &spec, vec![said("a", "first"), said("a", "second")]).await;
    store(warehouse, &spec, vec![said("a", "third"), said("b", "other")]).await;
    assert_holds(warehouse, &spec, &[said("a", "first"), said("b", "other")]).await;
}

/// A table without a key takes every row, equal ones too.
pub async fn without_a_key_every_row_is_added(warehouse: &impl ReadBack) {
    let spec = table("keyless", &VERSIONED, 0);
    let same = versioned("a", "same", 1);
    store(warehouse, &spec, vec![same.clone(), same.clone()]).await;
    store(warehouse, &spec, vec![same.clone()]).await;
    assert_holds(warehouse, &spec, &[same.clone(), same.clone(), same]).await;
}

/// Rows that share a part of the key are different rows.
pub async fn a_key_of_two_columns_needs_both_to_match(warehouse: &impl ReadBack) {
    let columns = [
        ("id", ColumnType::String),
        ("part", ColumnType::Integer),
        ("_version", ColumnType::Bytes),
    ];
    let spec = table("two_part_key", &columns, 2);
    let part = |id, part, version| row([text(id), Value::Integer(part), super::version(version)]);
    let rows = vec![part("a", 1, 1), part("b", 1, 1), part("a", 2, 1), part("a", 1, 2)];
    store(warehouse, &spec, rows).await;
    assert_holds(warehouse, &spec, &[part("a", 1, 2), part("a", 2, 1), part("b", 1, 1)]).await;
}

/// Neither case nor blanks nor what looks like a number makes two keys one.
pub async fn keys_are_compared_byte_by_byte(warehouse: &impl ReadBack) {
    let spec = table("exact_keys", &VERSIONED, 1);
    let rows: Vec<_> = ["a", "A", "a ", "1", "1.0", "01", "", "ä", "a\u{308}"]
        .map(|id| versioned(id, "one of many", 1))
        .into();
    store(warehouse, &spec, rows.clone()).await;
    assert_holds(warehouse, &spec, &rows).await;
}

/// A call without rows has nothing to fail on.
pub async fn writing_nothing_is_no_error(warehouse: &impl ReadBack) {
    let spec = table("empty", &VERSIONED, 1);
    store(warehouse, &spec, vec![]).await;
    assert_holds(warehouse, &spec, &[]).await;
}

/// A missing table is reported, ensured and written.
pub async fn a_table_that_is_not_there_is_gone(warehouse: &impl ReadBack) {
    let spec = table("missing", &VERSIONED, 1);
    let rows = vec![versioned("a", "in the end", 1)];
    let early = warehouse.write(&spec, Arc::new(rows.clone())).await;
    assert!(matches!(early, Err(WriteError::Gone(_))), "{early:?}");
    store(warehouse, &spec, rows.clone()).await;
    assert_holds(warehouse, &spec, &rows).await;
}

/// A table that lacks a column of the row takes none of the call's rows.
pub async fn a_column_that_is_not_there_makes_the_table_gone(warehouse: &impl ReadBack) {
    let narrow = table("lacking", &VERSIONED[..2], 1);
    store(warehouse, &narrow, vec![]).await;
    let wide = table("lacking", &VERSIONED, 1);
    let early = warehouse.write(&wide, Arc::new(vec![versioned("a", "x", 1)])).await;
    assert!(matches!(early, Err(WriteError::Gone(_))), "{early:?}");
    assert_holds(warehouse, &narrow, &[]).await;
}

/// Calls at the same time, on several tables and on one, all take effect; a table that is gone
/// harms no other.
pub async fn writers_side_by_side_lose_nothing(warehouse: &impl ReadBack) {
    let specs = ["left", "right"].map(|name| table(name, &VERSIONED, 1));
    let gone = table("never_made", &VERSIONED, 1);
    for spec in &specs {
        store(warehouse, spec, vec![]).await;
    }
    let rows: Vec<_> = (0..200).map(|n| versioned(&format!("{n:03}"), "here", 1)).collect();
    let calls = specs.iter().flat_map(|spec| {
        rows.chunks(10).map(|rows| warehouse.write(spec, Arc::new(rows.to_vec())))
    });
    let lost = warehouse.write(&gone, Arc::new(rows.clone()));
    let (lost, written) = futures::join!(lost, futures::future::join_all(calls));
    assert!(matches!(lost, Err(WriteError::Gone(_))), "{lost:?}");
    for outcome in written {
        assert_eq!(outcome.expect("the rows are written").refusals, []);
    }
    for spec in &specs {
        assert_holds(warehouse, spec, &rows).await;
    }
}
