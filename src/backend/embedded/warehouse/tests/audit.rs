//! Queries of an audit beside running writers.

use kappa_actors::port::{AuditError, Auditable, KeyCount, LetterQuery};
use kappa_actors::testing::auditable;

use super::*;

fn asked(spec: &Arc<TableSpec>, ids: &[&str]) -> KeyCount {
    let keys = Arc::new(ids.iter().map(|id| row([text(id)])).collect());
    KeyCount { table: Arc::clone(spec), columns: vec![0], keys, near: None }
}

#[tokio::test]
async fn it_answers_an_audit() {
    let (dir, warehouse) = fresh();
    let audited = EmbeddedAudit::open(dir.path()).unwrap();
    auditable::conforms(&warehouse, &audited).await;
}

#[tokio::test]
async fn a_missing_warehouse_counts_as_empty_and_is_not_created() {
    let dir = tempfile::tempdir().unwrap();
    let audited = EmbeddedAudit::open(dir.path()).unwrap();
    let spec = table("t", &VERSIONED, 1);
    assert_eq!(audited.count(&asked(&spec, &["a", "b"])).await.unwrap(), [0, 0]);
    let published = kappa_actors::replay::ReplayRange {
        from: Timestamp::from_micros(0),
        to: Timestamp::from_micros(i64::MAX / 2),
    };
    let all = LetterQuery { published, payloads: true };
    audited.letters(all, &mut |_| panic!("there are none")).await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn an_audit_waits_for_no_writer_and_cannot_write() {
    let (dir, warehouse, spec) = with_table().await;
    warehouse.write(&spec, Arc::new(vec![said("a", "x")])).await.unwrap();
    let audited = EmbeddedAudit::open(dir.path()).unwrap();
    let writer = shell(&dir);
    writer.execute_batch("BEGIN IMMEDIATE; DELETE FROM t").unwrap();
    assert_eq!(audited.count(&asked(&spec, &["a"])).await.unwrap(), [1]);
    writer.execute_batch("COMMIT").unwrap();
    assert_eq!(audited.count(&asked(&spec, &["a"])).await.unwrap(), [0]);
    let written = audited
        .call(|connection| Ok(connection.execute("DELETE FROM t", ()).is_err()))
        .await
        .unwrap();
    assert_eq!(written, Some(true));
}

#[tokio::test]
async fn a_table_of_another_key_is_a_mismatch() {
    let (dir, _warehouse, _) = with_table().await;
    let audited = EmbeddedAudit::open(dir.path()).unwrap();
    let error = audited.count(&asked(&table("t", &VERSIONED, 2), &["a"])).await.unwrap_err();
    assert!(
        matches!(&error, AuditError::Mismatch(says) if says.contains("warehouse.db")),
        "{error}"
    );
}
