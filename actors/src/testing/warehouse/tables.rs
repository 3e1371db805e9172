//! Checks of [`Warehouse::ensure_table`](crate::port::Warehouse::ensure_table).

use super::{ReadBack, VERSIONED, assert_holds, row, store, table, text, version, versioned};
use crate::port::{EnsureError, Ensured};
use crate::row::{ColumnType, Row, TableSpec, Value};

/// Ensuring a table that exists as configured changes nothing.
pub async fn a_table_is_created_once(warehouse: &impl ReadBack) {
    let spec = table("created", &VERSIONED, 1);
    let first = warehouse.ensure_table(&spec).await.expect("the table is made");
    assert_eq!(first, Ensured { created: true, ..Ensured::default() });
    store(warehouse, &spec, vec![versioned("a", "kept", 1)]).await;
    let second = warehouse.ensure_table(&spec).await.expect("the table exists");
    assert_eq!(second, Ensured::default());
    assert_holds(warehouse, &spec, &[versioned("a", "kept", 1)]).await;
}

/// A column that the table lacks is added at once.
pub async fn a_new_column_is_added_and_is_null_in_old_rows(warehouse: &impl ReadBack) {
    let columns = [("id", ColumnType::String), ("amount", ColumnType::Float)];
    let before = table("widened", &columns[..1], 1);
    store(warehouse, &before, vec![row([text("old")])]).await;
    let after = table("widened", &columns, 1);
    let ensured = warehouse.ensure_table(&after).await.expect("the column is added");
    assert_eq!(ensured, Ensured { added: vec!["amount".to_owned()], ..Ensured::default() });
    let new = row([text("new"), Value::Float(1.5)]);
    store(warehouse, &after, vec![new.clone()]).await;
    assert_holds(warehouse, &after, &[row([text("old"), Value::Null]), new]).await;
}

/// A column that the configuration dropped is named as idle and keeps its values.
pub async fn a_column_no_longer_configured_stays_and_is_null_in_new_rows(
    warehouse: &impl ReadBack,
) {
    let before = table("narrowed", &VERSIONED, 1);
    store(warehouse, &before, vec![versioned("old", "kept", 1)]).await;
    let after = table("narrowed", &[VERSIONED[0], VERSIONED[2]], 1);
    let ensured = warehouse.ensure_table(&after).await.expect("an idle column is no error");
    assert_eq!(ensured, Ensured { idle: vec!["said".to_owned()], ..Ensured::default() });
    let new = |values: [Value; 2]| -> Row { row(values) };
    store(warehouse, &after, vec![new([text("new"), version(1)])]).await;
    let rows = [versioned("old", "kept", 1), row([text("new"), Value::Null, version(1)])];
    assert_holds(warehouse, &before, &rows).await;
}

/// A column of another type is left to the operator; the error has all details.
pub async fn a_changed_column_type_is_a_mismatch(warehouse: &impl ReadBack) {
    // Every pair that a warehouse could hold in the same way is worth telling apart.
    let kinds = [
        ColumnType::String,
        ColumnType::Integer,
        ColumnType::Float,
        ColumnType::Numeric,
        ColumnType::Boolean,
        ColumnType::Timestamp,
        ColumnType::Date,
        ColumnType::Json,
        ColumnType::Bytes,
    ];
    for was in kinds {
        let name = format!("retyped_{}", was.name().to_lowercase());
        let spec = |kind| table(&name, &[("id", ColumnType::String), ("value", kind)], 1);
        warehouse.ensure_table(&spec(was)).await.expect("the table is made");
        for wanted in kinds.into_iter().filter(|&wanted| wanted != was) {
            match warehouse.ensure_table(&spec(wanted)).await {
                Err(EnsureError::Mismatch(text)) => {
                    for part in [name.as_str(), "value", was.name(), wanted.name()] {
                        assert!(text.contains(part), "{text:?} does not name {part}");
                    }
                }
                other => panic!("{} to {}: {other:?}", was.name(), wanted.name()),
            }
        }
    }
}

/// Another key would make other rows equal: only a person can decide.
pub async fn a_changed_key_is_a_mismatch(warehouse: &impl ReadBack) {
    let columns = [("id", ColumnType::String), ("part", ColumnType::String)];
    for was in 0..=2 {
        let name = format!("rekeyed_{was}");
        warehouse.ensure_table(&table(&name, &columns, was)).await.expect("the table is made");
        for wanted in (0..=2).filter(|&wanted| wanted != was) {
            match warehouse.ensure_table(&table(&name, &columns, wanted)).await {
                Err(EnsureError::Mismatch(text)) => assert!(text.contains(&name), "{text:?}"),
                other => panic!("a key of {was} to {wanted} columns: {other:?}"),
            }
        }
    }
}

/// Versions made under another definition of `order_by` cannot be compared with the table's.
pub async fn a_changed_order_by_is_a_mismatch(warehouse: &impl ReadBack) {
    let spec = |name: &str, order_by: Option<&str>| {
        let spec = table(name, &VERSIONED, 1);
        TableSpec { order_by: order_by.map(ToOwned::to_owned), ..(*spec).clone() }
    };
    let definitions = [None, Some("at TIMESTAMP {}"), Some("at DATE {}")];
    for (nth, was) in definitions.into_iter().enumerate() {
        let name = format!("reordered_{nth}");
        for _ in 0..2 {
            warehouse.ensure_table(&spec(&name, was)).await.expect("the table is made");
        }
        for wanted in definitions.into_iter().filter(|&wanted| wanted != was) {
            match warehouse.ensure_table(&spec(&name, wanted)).await {
                Err(EnsureError::Mismatch(text)) => assert!(text.contains(&name), "{text:?}"),
                other => panic!("order_by {was:?} to {wanted:?}: {other:?}"),
            }
        }
    }
}

/// A missing table is empty, and so is one without rows.
pub async fn a_table_is_empty_until_a_row_is_written(warehouse: &impl ReadBack) {
    let spec = table("filled", &VERSIONED, 1);
    assert!(warehouse.is_empty(&spec).await.expect("an answer"));
    store(warehouse, &spec, vec![]).await;
    assert!(warehouse.is_empty(&spec).await.expect("an answer"));
    store(warehouse, &spec, vec![versioned("a", "first", 1)]).await;
    assert!(!warehouse.is_empty(&spec).await.expect("an answer"));
}
