//! SQL that another engine than the tests' own understands in the same way.

use bytes::Bytes;
use kappa_actors::dead_letter_table;
use kappa_actors::port::{DeadLetterFilter, DeadLetterStore as _};

use super::*;
use crate::letters::{any, letter};

const COLUMNS: [(&str, ColumnType); 3] =
    [("id", ColumnType::String), ("said", ColumnType::String), ("_version", ColumnType::Integer)];

fn said(id: &str, said: &str, version: i64) -> Row {
    row([text(id), text(said), Value::Integer(version)])
}

#[tokio::test]
async fn appended_rows_may_be_merged_changed_and_deleted_at_once_and_the_view_follows() {
    shows(async |it| {
        let spec = table("merged", &COLUMNS, 1);
        it.ensure_table(&spec).await.unwrap();
        let rows = ["a", "b", "c"].map(|id| said(id, "appended", 1));
        assert_eq!(it.write(&spec, Arc::new(rows.to_vec())).await.unwrap(), []);
        let (sql, name) = (&it.dataset.sql, it.dataset.sql.name("merged"));
        sql.query(&format!(
            "MERGE {name} AS t USING (SELECT 'a' AS id, 2 AS v UNION ALL SELECT 'd', 2) AS s \
             ON t.id = s.id \
             WHEN MATCHED AND s.v > t._version THEN UPDATE SET said = 'merged', _version = s.v \
             WHEN NOT MATCHED THEN INSERT (id, said, _version) VALUES (s.id, 'merged', s.v)"
        ))
        .await;
        sql.query(&format!("UPDATE {name} SET said = 'updated' WHERE id = 'b'")).await;
        sql.query(&format!("DELETE FROM {name} WHERE id = 'c'")).await;
        let mut rows = it.read_back(&spec).await;
        rows.sort_by_key(|row| format!("{row:?}"));
        let expected = [said("a", "merged", 2), said("b", "updated", 1), said("d", "merged", 2)];
        assert_eq!(rows, expected);
    })
    .await;
}

/// Marks are upserts, which the emulator adds as further rows.
#[tokio::test]
async fn letters_are_found_by_the_queries_that_ask_for_them() {
    shows(async |it| {
        let warehouse = &it.dataset.warehouse;
        let spec = Arc::new(dead_letter_table::spec());
        it.ensure_table(&spec).await.unwrap();
        let (one, other) = (letter("one", Bytes::from_static(b"{}")), letter("two", Bytes::new()));
        let rows = Arc::new(vec![one.row(), other.row()]);
        assert_eq!(warehouse.write(&spec, rows).await.unwrap(), []);
        assert_eq!(warehouse.get("one").await.unwrap(), Some(one));
        assert_eq!(warehouse.get("none").await.unwrap(), None);
        let found = async |filter| warehouse.find(&filter).await.unwrap();
        assert_eq!(found(any()).await, ["one", "two"]);
        assert_eq!(found(DeadLetterFilter { limit: 1, ..any() }).await, ["one"]);
        assert_eq!(
            found(DeadLetterFilter { id_prefix: Some("tw".into()), ..any() }).await,
            ["two"]
        );
        assert_eq!(
            found(DeadLetterFilter { reason: Some("other".into()), ..any() }).await,
            [""; 0]
        );
        let by_reason = DeadLetterFilter { reason: Some("order_id".into()), ..any() };
        assert_eq!(found(by_reason).await, ["one", "two"]);
        assert_eq!(found(DeadLetterFilter { requeued: Some(true), ..any() }).await, [""; 0]);
        assert_eq!(found(DeadLetterFilter { requeued: Some(false), ..any() }).await.len(), 2);
    })
    .await;
}
