//! Staging beside the live file.

use kappa_actors::port::{MergeOptions, Scope};
use kappa_actors::position::Position;
use kappa_actors::row::ColumnType::{Integer, String as Text};
use kappa_actors::row::{ColumnType, Row, Value};
use kappa_actors::testing::reprocessing::{a_removed_row_does_not_come_back, conforms};
use kappa_actors::testing::warehouse::{row, table as spec, text};
use kappa_actors::time::Timestamp;
use kappa_actors::version::Version;
use tempfile::TempDir;

use super::super::FILE;
use super::*;

const COLUMNS: [(&str, ColumnType); 4] =
    [("id", Text), ("count", Integer), ("at", Text), ("_version", ColumnType::Bytes)];

fn position(micros: i64) -> Position {
    Position::of("1", Timestamp::from_micros(micros), 0)
}

fn version(micros: i64, revision: u16) -> Version {
    Version::new(None, position(micros), revision)
}

/// A row that this revision makes of the message of this time.
fn made(id: &str, count: i64, micros: i64, revision: u16) -> Row {
    let version = Value::Version(Box::new(version(micros, revision)));
    row([text(id), Value::Integer(count), text(""), version])
}

fn replayed(micros: i64) -> Row {
    row([Value::Bytes(Box::new(position(micros).to_bytes().to_vec().into()))])
}

/// As of a replay under revision 1.
fn how() -> Comparison {
    let scope = Some(Scope { revision: 1 });
    Comparison { passed_over: vec!["at".to_owned()], scope, examples: 2 }
}

struct Scene {
    dir: TempDir,
    table: Arc<TableSpec>,
    staging: EmbeddedStaging,
}

impl Scene {
    /// Live rows, and staged ones of a complete replay over the messages of these times.
    async fn new(live: Vec<Row>, staged: Vec<Row>, events: &[i64]) -> Self {
        let scene = Self::unfinished(live, staged, events).await;
        scene.staging.complete("t", "r1").await.unwrap();
        scene
    }

    async fn unfinished(live: Vec<Row>, staged: Vec<Row>, events: &[i64]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let table = spec("t", &COLUMNS, 1);
        let warehouse = EmbeddedWarehouse::open(dir.path()).unwrap();
        warehouse.ensure_table(&table).await.unwrap();
        warehouse.write(&table, Arc::new(live)).await.unwrap();
        let staging = EmbeddedStaging::open(dir.path()).unwrap();
        let tables = staging.stage(&table, "r1", 1).await.unwrap();
        let to = staging.warehouse();
        to.write(&tables.rows, Arc::new(staged)).await.unwrap();
        let events = events.iter().map(|&at| replayed(at)).collect();
        to.write(&tables.events, Arc::new(events)).await.unwrap();
        Self { dir, table, staging }
    }

    /// Id, count and version of the live rows.
    fn live(&self) -> Vec<(String, i64, Vec<u8>)> {
        let connection = Connection::open(self.dir.path().join(FILE)).unwrap();
        let mut select =
            connection.prepare("SELECT id, \"count\", _version FROM t ORDER BY id").unwrap();
        let rows = select.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }
}

#[tokio::test]
async fn it_passes_the_suite() {
    let dir = tempfile::tempdir().unwrap();
    let live = EmbeddedWarehouse::open(dir.path()).unwrap();
    let staging = EmbeddedStaging::open(dir.path()).unwrap();
    conforms(&live, &staging).await;
    a_removed_row_does_not_come_back(&live, &staging).await;
}

/// `a` is alike, `b` differs, `d` is new, `e` is made no more.
async fn scene() -> Scene {
    let live = vec![made("a", 1, 1, 0), made("b", 1, 2, 0), made("e", 1, 5, 0)];
    let staged = vec![made("a", 1, 1, 1), made("b", 2, 2, 1), made("d", 2, 4, 1)];
    Scene::new(live, staged, &[1, 2, 4, 5]).await
}

#[tokio::test]
async fn a_merge_that_cannot_be_finished_changes_nothing() {
    let scene = scene().await;
    let before = scene.live();
    let live = Connection::open(scene.dir.path().join(FILE)).unwrap();
    let trigger = "CREATE TRIGGER no BEFORE INSERT ON t WHEN new.id = 'd' \
        BEGIN SELECT raise(ABORT, 'not here'); END";
    live.execute_batch(trigger).unwrap();
    let options = MergeOptions { remove_missing: true, dry_run: false };
    let merged = scene.staging.merge(&scene.table, &how(), options).await;
    assert!(matches!(merged, Err(ReprocessError::Unavailable(_))), "{merged:?}");
    assert_eq!(scene.live(), before);
}

#[tokio::test]
async fn a_replay_writes_while_the_live_file_is_locked() {
    let scene = Scene::unfinished(vec![], vec![], &[]).await;
    let live = Connection::open(scene.dir.path().join(FILE)).unwrap();
    live.execute_batch("BEGIN EXCLUSIVE; INSERT INTO t VALUES('x', 1, '', x'01')").unwrap();
    let rows = StagingTables::of(&scene.table, "r1").rows;
    let written = scene.staging.warehouse().write(&rows, Arc::new(vec![made("a", 1, 1, 1)])).await;
    assert_eq!(written.unwrap().refusals, []);
    let diff = scene.staging.diff(&scene.table, &how()).await.unwrap();
    assert_eq!((diff.added, diff.same), (1, 0), "a diff reads beside a writer");
}

#[tokio::test]
async fn without_a_live_file_every_row_is_added_and_the_diff_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    let staging = EmbeddedStaging::open(dir.path()).unwrap();
    let table = spec("t", &COLUMNS, 1);
    let tables = staging.stage(&table, "r1", 1).await.unwrap();
    staging.warehouse().write(&tables.rows, Arc::new(vec![made("a", 1, 1, 1)])).await.unwrap();
    staging.complete("t", "r1").await.unwrap();
    let diff = staging.diff(&table, &how()).await.unwrap();
    assert_eq!((diff.added, diff.missing), (1, Some(0)));
    assert!(!dir.path().join(FILE).exists());
    let merged = staging.merge(&table, &how(), MergeOptions::default()).await.unwrap();
    assert_eq!(merged.inserted, 1);
    assert!(staging.diff(&table, &how()).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_tables_of_a_replay_share_its_events_until_the_last_is_dropped() {
    let scene = scene().await;
    let other = spec("other", &COLUMNS, 1);
    // A replay whose processors each fill a table of their own.
    scene.staging.drop_staging("t").await.unwrap();
    for table in [&scene.table, &other] {
        scene.staging.stage(table, "r2", 1).await.unwrap();
    }
    let events = StagingTables::of(&other, "r2").events;
    let events_of_e = vec![replayed(5)];
    scene.staging.warehouse().write(&events, Arc::new(events_of_e)).await.unwrap();
    for table in ["t", "other"] {
        scene.staging.complete(table, "r2").await.unwrap();
    }
    scene.staging.drop_staging("other").await.unwrap();
    let diff = scene.staging.diff(&scene.table, &how()).await.unwrap();
    assert_eq!(diff.missing, Some(1), "{diff:?}");
    scene.staging.drop_staging("t").await.unwrap();
    let file = Connection::open(scene.dir.path().join(STAGING_FILE)).unwrap();
    assert!(!file.table_exists(None::<&str>, events.name.as_str()).unwrap());
}

#[tokio::test]
async fn a_removal_is_recorded_under_the_version_of_the_row_with_the_removal_bit() {
    let scene = scene().await;
    let options = MergeOptions { remove_missing: true, dry_run: false };
    scene.staging.merge(&scene.table, &how(), options).await.unwrap();
    let live = Connection::open(scene.dir.path().join(FILE)).unwrap();
    let select = "SELECT id, _version FROM kappa_removed_t";
    let recorded: (String, Vec<u8>) =
        live.query_row(select, (), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(recorded, ("e".to_owned(), version(5, 0).removed().to_bytes().as_ref().to_vec()));
    let from: String = live
        .query_row("SELECT typeof(_version) FROM kappa_removed_t", (), |row| row.get(0))
        .unwrap();
    assert_eq!(from, "blob");
}

/// The row and the record of its removal are of one transaction.
#[tokio::test]
async fn a_merge_that_cannot_be_finished_records_no_removal() {
    let scene = scene().await;
    let live = Connection::open(scene.dir.path().join(FILE)).unwrap();
    let trigger = "CREATE TRIGGER no BEFORE INSERT ON t WHEN new.id = 'd' \
        BEGIN SELECT raise(ABORT, 'not here'); END";
    live.execute_batch(trigger).unwrap();
    let options = MergeOptions { remove_missing: true, dry_run: false };
    scene.staging.merge(&scene.table, &how(), options).await.unwrap_err();
    assert!(!live.table_exists(Some("main"), "kappa_removed_t").unwrap());
    live.execute_batch("DROP TRIGGER no").unwrap();
    let merged = scene.staging.merge(&scene.table, &how(), options).await.unwrap();
    assert_eq!((merged.inserted, merged.removed), (1, 1), "{merged:?}");
}

#[tokio::test]
async fn removals_are_forgotten_with_the_table_that_they_are_from() {
    let scene = scene().await;
    let options = MergeOptions { remove_missing: true, dry_run: false };
    scene.staging.merge(&scene.table, &how(), options).await.unwrap();
    let live = EmbeddedWarehouse::open(scene.dir.path()).unwrap();
    let late = async || {
        let written = live.write(&scene.table, Arc::new(vec![made("e", 1, 5, 0)])).await;
        written.unwrap().superseded
    };
    assert_eq!(late().await, 1, "it counts as kept out by a newer version");
    assert!(!scene.live().iter().any(|row| row.0 == "e"));
    let file = Connection::open(scene.dir.path().join(FILE)).unwrap();
    file.execute_batch("DROP TABLE t").unwrap();
    live.ensure_table(&scene.table).await.unwrap();
    assert_eq!(late().await, 0);
    assert_eq!(scene.live().len(), 1);
}

/// A replay that staged rows of a lower revision than the rule of the merge has removes no live row
/// of a message that it made a row of.
#[tokio::test]
async fn a_staged_row_of_the_same_message_keeps_the_live_row() {
    let scene = Scene::new(vec![made("a", 2, 1, 1)], vec![made("a", 1, 1, 0)], &[1]).await;
    let options = MergeOptions { remove_missing: true, dry_run: false };
    let merged = scene.staging.merge(&scene.table, &how(), options).await.unwrap();
    assert_eq!(merged, Merged { kept: 1, ..Merged::default() });
}

/// As kappa made it before notes had revisions.
#[tokio::test]
async fn a_staging_file_of_an_earlier_version_is_named_with_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = Connection::open(dir.path().join(STAGING_FILE)).unwrap();
    file.execute_batch(
        "PRAGMA user_version = 1; CREATE TABLE staging(live TEXT PRIMARY KEY, replay TEXT NOT NULL, \
         began INTEGER NOT NULL, completed INTEGER); INSERT INTO staging VALUES('t', 'r', 1, 2)",
    )
    .unwrap();
    drop(file);
    let staging = EmbeddedStaging::open(dir.path()).unwrap();
    let table = spec("t", &COLUMNS, 1);
    let found = staging.staged("t").await.map(drop);
    let dropped = staging.drop_staging("t").await.map(drop);
    let compared = staging.diff(&table, &how()).await.map(drop);
    for error in [found, dropped, compared].map(Result::unwrap_err) {
        let text = error.to_string();
        assert!(matches!(error, ReprocessError::Mismatch(_)), "{text}");
        assert!(text.contains("staging.db was made by an earlier kappa"), "{text}");
        assert!(text.contains("delete the file and replay again"), "{text}");
    }
}
