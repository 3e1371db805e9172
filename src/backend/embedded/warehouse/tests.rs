//! The warehouse against its port, against a model, and against bad weather.

mod audit;
mod dead_letters;
mod model;

use std::task::{Context, Waker};

use bytes::Bytes;
use chrono::NaiveDate;
use kappa_actors::row::ColumnType::{self, Integer, String as Text};
use kappa_actors::row::{Column, Value};
use kappa_actors::testing::warehouse::{
    self as testing, ReadBack, conforms, read_row, row, table, text,
};
use kappa_actors::time::Timestamp;
use rusqlite::types::ValueRef;
use tempfile::TempDir;

use super::*;

const VERSIONED: [(&str, ColumnType); 3] =
    [("id", Text), ("said", Text), ("_version", ColumnType::Bytes)];

/// A version as the table hands it back: bytes.
fn version(micros: i64) -> Value {
    read_row(&row([testing::version(micros)])).0[0].clone()
}

fn said(id: &str, said: &str) -> Row {
    row([text(id), text(said), version(1)])
}

/// A warehouse in a folder of its own.
fn fresh() -> (TempDir, EmbeddedWarehouse) {
    let dir = tempfile::tempdir().unwrap();
    let warehouse = EmbeddedWarehouse::open(dir.path()).unwrap();
    (dir, warehouse)
}

/// Another process at the same file.
fn shell(dir: &TempDir) -> Connection {
    Connection::open(dir.path().join(FILE)).unwrap()
}

async fn with_table() -> (TempDir, EmbeddedWarehouse, Arc<TableSpec>) {
    let (dir, warehouse) = fresh();
    let spec = table("t", &VERSIONED, 1);
    warehouse.ensure_table(&spec).await.unwrap();
    (dir, warehouse, spec)
}

#[async_trait]
impl ReadBack for EmbeddedWarehouse {
    async fn read_back(&self, spec: &TableSpec) -> Vec<Row> {
        let connection = Connection::open(&self.path).unwrap();
        let columns = table::list(spec.columns.iter().map(|it| table::quoted(&it.name)));
        let sql = format!("SELECT {columns} FROM {}", table::quoted(&spec.name));
        let mut statement = connection.prepare(&sql).unwrap();
        let rows = statement.query_map((), |row| {
            let values = spec.columns.iter().enumerate();
            Ok(Row(values.map(|(at, column)| value(column, row.get_ref_unwrap(at))).collect()))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }
}

/// The value by the form that users' scripts rely on; anything else panics.
fn value(column: &Column, held: ValueRef<'_>) -> Value {
    let as_text = || held.as_str().unwrap();
    match (column.kind, held) {
        (_, ValueRef::Null) => Value::Null,
        (Text | ColumnType::Numeric | ColumnType::Json, _) => text(as_text()),
        (Integer, _) => Value::Integer(held.as_i64().unwrap()),
        (ColumnType::Float, _) => Value::Float(held.as_f64().unwrap()),
        (ColumnType::Boolean, _) => Value::Boolean(held.as_i64().unwrap() == 1),
        (ColumnType::Timestamp, _) => {
            Value::Timestamp(Timestamp::parse_rfc3339(as_text()).unwrap())
        }
        (ColumnType::Date, _) => {
            Value::Date(as_text().parse::<NaiveDate>().unwrap().to_epoch_days())
        }
        (ColumnType::Bytes, _) => {
            Value::Bytes(Bytes::copy_from_slice(held.as_blob().unwrap()).into())
        }
    }
}

#[tokio::test]
async fn it_passes_the_suite() {
    let (_dir, warehouse) = fresh();
    conforms(&warehouse).await;
}

#[tokio::test]
async fn a_timestamp_is_utc_text_with_six_decimals() {
    let (dir, warehouse) = fresh();
    let spec = table("t", &[("at", ColumnType::Timestamp), ("on", ColumnType::Date)], 0);
    warehouse.ensure_table(&spec).await.unwrap();
    let at = Timestamp::parse_rfc3339("2026-02-17T15:30:00.123+01:00").unwrap();
    let rows = vec![row([Value::Timestamp(at), Value::Date(20_501)])];
    warehouse.write(&spec, Arc::new(rows)).await.unwrap();
    let held: (String, String) = shell(&dir)
        .query_row("SELECT \"at\", \"on\" FROM t", (), |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!(held, ("2026-02-17T14:30:00.123000Z".to_owned(), "2026-02-17".to_owned()));
}

#[tokio::test]
async fn any_text_can_name_tables_and_columns() {
    let (_dir, warehouse) = fresh();
    let columns =
        [("select", Text), ("a \"b\"; --", Text), ("größe", Text), ("_version", ColumnType::Bytes)];
    let spec = table("drop table \"x\"; '", &columns, 2);
    for _ in 0..2 {
        warehouse.ensure_table(&spec).await.unwrap();
        let rows = vec![row([text("a"), text("b"), text("c"), version(1)])];
        assert_eq!(warehouse.write(&spec, Arc::new(rows.clone())).await.unwrap(), []);
        assert_eq!(warehouse.read_back(&spec).await, rows);
    }
}

#[tokio::test]
async fn names_that_sqlite_keeps_for_itself_are_a_mismatch() {
    let (dir, warehouse) = fresh();
    shell(&dir).execute_batch("CREATE VIEW seen AS SELECT 1 AS id").unwrap();
    for name in ["sqlite_mine", "seen"] {
        let ensured = warehouse.ensure_table(&table(name, &VERSIONED, 1)).await;
        assert!(matches!(ensured, Err(EnsureError::Mismatch(_))), "{name}: {ensured:?}");
    }
}

#[tokio::test]
async fn a_refused_row_takes_no_other_with_it() {
    let (dir, warehouse, spec) = with_table().await;
    shell(&dir).execute_batch("CREATE UNIQUE INDEX once ON t(said)").unwrap();
    let rows = vec![
        said("b", "taken"),
        row([Value::Null, text("no key"), version(1)]),
        row([text("too short")]),
        said("c", "taken"),
        said("a", "free"),
    ];
    let refused = warehouse.write(&spec, Arc::new(rows)).await.unwrap();
    let which: Vec<_> = refused.refusals.iter().map(|refusal| refusal.row).collect();
    assert_eq!(which, [1, 2, 3], "{refused:?}");
    assert!(refused.refusals[2].reason.contains("t.said"), "{refused:?}");
    assert_eq!(warehouse.read_back(&spec).await, [said("a", "free"), said("b", "taken")]);
}

#[tokio::test]
async fn an_expression_that_fails_on_one_row_refuses_that_row_alone() {
    for (schema, reason) in [
        ("CREATE INDEX i ON t(json_extract(said, '$.n'))", "malformed JSON"),
        (
            "CREATE TRIGGER i AFTER INSERT ON t WHEN new.said = 'bad' \
             BEGIN SELECT abs(-9223372036854775807 - 1); END",
            "integer overflow",
        ),
        (
            "ALTER TABLE t ADD COLUMN n AS (json_extract(said, '$.n')); CREATE INDEX i ON t(n)",
            "malformed JSON",
        ),
        (
            "CREATE TRIGGER i AFTER INSERT ON t WHEN new.said = 'bad' \
             BEGIN SELECT zeroblob(2000000000); END",
            "string or blob too big",
        ),
    ] {
        let (dir, warehouse, spec) = with_table().await;
        // The statement is in the cache by now, prepared for another schema.
        warehouse.write(&spec, Arc::new(vec![said("0", "{}")])).await.unwrap();
        shell(&dir).execute_batch(schema).unwrap();
        let rows = vec![said("a", "{}"), said("b", "bad"), said("c", "{}")];
        let refusals = warehouse.write(&spec, Arc::new(rows)).await.unwrap().refusals;
        assert_eq!(refusals.len(), 1, "{schema}: {refusals:?}");
        assert_eq!(refusals[0].row, 1, "{schema}");
        assert!(refusals[0].reason.contains(reason), "{schema}: {refusals:?}");
        assert_eq!(warehouse.read_back(&spec).await.len(), 3, "{schema}");
    }
}

#[tokio::test]
async fn a_column_that_is_dropped_after_its_statement_was_cached_refuses_no_row() {
    let (dir, warehouse, spec) = with_table().await;
    warehouse.write(&spec, Arc::new(vec![said("a", "good")])).await.unwrap();
    shell(&dir).execute_batch("ALTER TABLE t DROP COLUMN said").unwrap();
    let written = warehouse.write(&spec, Arc::new(vec![said("b", "good")])).await;
    assert!(matches!(written, Err(WriteError::Gone(_))), "{written:?}");
}

#[tokio::test]
async fn a_trigger_that_ends_the_transaction_settles_no_row() {
    let (dir, warehouse, spec) = with_table().await;
    let trigger = "CREATE TRIGGER no BEFORE INSERT ON t WHEN new.said = 'bad' \
        BEGIN SELECT raise(ROLLBACK, 'not here'); END";
    shell(&dir).execute_batch(trigger).unwrap();
    let rows = vec![said("a", "good"), said("b", "bad"), said("c", "good")];
    let written = warehouse.write(&spec, Arc::new(rows)).await;
    assert!(matches!(written, Err(WriteError::Unavailable(_))), "{written:?}");
    assert_eq!(warehouse.read_back(&spec).await, []);
    warehouse.write(&spec, Arc::new(vec![said("a", "good")])).await.unwrap();
}

#[tokio::test]
async fn a_row_from_before_the_version_column_is_replaced_with_its_idle_columns() {
    let (_dir, warehouse) = fresh();
    let columns = [("id", Text), ("dropped", Text), ("_version", ColumnType::Bytes)];
    let old = table("t", &columns[..2], 1);
    warehouse.ensure_table(&old).await.unwrap();
    warehouse.write(&old, Arc::new(vec![row([text("a"), text("old")])])).await.unwrap();
    let new = table("t", &[columns[0], columns[2]], 1);
    warehouse.ensure_table(&new).await.unwrap();
    let rows = vec![row([text("a"), version(0)])];
    warehouse.write(&new, Arc::new(rows)).await.unwrap();
    let stands = row([text("a"), Value::Null, version(0)]);
    assert_eq!(warehouse.read_back(&table("t", &columns, 1)).await, [stands]);
}

#[tokio::test]
async fn a_table_dropped_by_hand_is_gone_until_it_is_ensured() {
    let (dir, warehouse, spec) = with_table().await;
    let rows = Arc::new(vec![said("a", "x")]);
    warehouse.write(&spec, Arc::clone(&rows)).await.unwrap();
    shell(&dir).execute_batch("DROP TABLE t").unwrap();
    let written = warehouse.write(&spec, Arc::clone(&rows)).await;
    assert!(matches!(written, Err(WriteError::Gone(_))), "{written:?}");
    warehouse.ensure_table(&spec).await.unwrap();
    assert_eq!(warehouse.write(&spec, rows).await.unwrap(), []);
}

#[tokio::test]
async fn a_file_that_another_process_writes_is_waited_for() {
    let (dir, warehouse, spec) = with_table().await;
    let other = shell(&dir);
    other.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES('theirs', '', x'01')").unwrap();
    let mut write = warehouse.write(&spec, Arc::new(vec![said("ours", "")]));
    let early = write.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(early.is_pending(), "{early:?}");
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(write.await.unwrap(), []);
    assert_eq!(warehouse.read_back(&spec).await.len(), 2);
}

#[tokio::test]
async fn a_full_file_settles_no_row_and_takes_them_when_there_is_room() {
    let (_dir, warehouse, spec) = with_table().await;
    let room = |pages: u32| {
        warehouse.call(move |it| {
            it.query_row(&format!("PRAGMA max_page_count = {pages}"), (), |_| Ok(())).unwrap();
        })
    };
    room(1).await.unwrap();
    let rows: Vec<_> = (0..100).map(|n| said(&n.to_string(), &"x".repeat(2_000))).collect();
    let rows = Arc::new(rows);
    let written = warehouse.write(&spec, Arc::clone(&rows)).await;
    assert!(
        matches!(&written, Err(WriteError::Unavailable(says)) if says.contains("full")),
        "{written:?}"
    );
    assert_eq!(warehouse.read_back(&spec).await, []);
    room(1_000_000).await.unwrap();
    assert_eq!(warehouse.write(&spec, rows).await.unwrap(), []);
    assert_eq!(warehouse.read_back(&spec).await.len(), 100);
}

#[tokio::test]
async fn waiting_calls_are_answered_before_a_dropped_warehouse_ends() {
    let (dir, warehouse, spec) = with_table().await;
    let answers: Vec<_> = (0..20)
        .map(|n| {
            let (answer, answered) = oneshot::channel();
            let (table, rows) = (Arc::clone(&spec), Arc::new(vec![said(&n.to_string(), "")]));
            let jobs = warehouse.jobs.as_ref().unwrap();
            assert!(jobs.send(Job::Write(Write { table, rows, answer })).is_ok());
            answered
        })
        .collect();
    drop(warehouse);
    for answer in answers {
        assert_eq!(answer.await.unwrap().unwrap(), []);
    }
    let warehouse = EmbeddedWarehouse::open(dir.path()).unwrap();
    assert_eq!(warehouse.read_back(&spec).await.len(), 20);
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE);
    let says = |dir: &Path| EmbeddedWarehouse::open(dir).unwrap_err().to_string();
    let missing = dir.path().join("missing");
    assert!(says(&missing).contains(missing.join(FILE).to_str().unwrap()));
    std::fs::write(&file, "no database at all, but text, and more than enough of it").unwrap();
    assert!(says(dir.path()).contains(file.to_str().unwrap()));
    std::fs::remove_file(&file).unwrap();
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let version = says(dir.path());
    assert!(version.contains(file.to_str().unwrap()) && version.contains("99"), "{version}");
}

#[tokio::test]
async fn a_table_of_an_earlier_kappa_is_refused_with_a_way_out() {
    let (dir, warehouse) = fresh();
    let old = "CREATE TABLE t(id TEXT NOT NULL, said TEXT, _version INTEGER, PRIMARY KEY(id))";
    shell(&dir).execute_batch(old).unwrap();
    match warehouse.ensure_table(&table("t", &VERSIONED, 1)).await {
        Err(EnsureError::Mismatch(says)) => assert!(says.contains("drop the table"), "{says}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_warehouse_whose_thread_panicked_has_ended() {
    let (_dir, warehouse, spec) = with_table().await;
    assert_eq!(warehouse.ended(), None);
    let answer = warehouse.call(|_| panic!("told to")).await;
    assert!(answer.unwrap_err().ends_with(ENDED));
    while warehouse.ended().is_none() {
        tokio::task::yield_now().await;
    }
    let error = warehouse.write(&spec, Arc::new(vec![said("a", "b")])).await.unwrap_err();
    assert!(error.to_string().ends_with(ENDED), "{error}");
    assert!(warehouse.ended().unwrap().ends_with("warehouse.db: its thread has ended"));
}
