//! Staging beside the live file.

use kappa_actors::port::{MergeOptions, Scope};
use kappa_actors::row::ColumnType::{Integer, String as Text};
use kappa_actors::row::{ColumnType, Row, Value};
use kappa_actors::testing::reprocessing::conforms;
use kappa_actors::testing::warehouse::{row, table as spec, text};
use tempfile::TempDir;

use super::super::FILE;
use super::*;

const COLUMNS: [(&str, ColumnType); 4] =
    [("id", Text), ("count", Integer), ("at", Text), ("_version", Integer)];

fn made(id: &str, count: i64, version: i64) -> Row {
    row([text(id), Value::Integer(count), text(&format!("at {version}")), Value::Integer(version)])
}

fn how() -> Comparison {
    Comparison {
        passed_over: vec!["at".to_owned()],
        scope: Some(Scope { revision: 0 }),
        examples: 2,
    }
}

struct Scene {
    dir: TempDir,
    table: Arc<TableSpec>,
    staging: EmbeddedStaging,
}

impl Scene {
    /// Live rows, and staged ones of a replay over `events` that is complete.
    async fn new(live: Vec<Row>, staged: Vec<Row>, events: &[&str]) -> Self {
        let scene = Self::unfinished(live, staged, events).await;
        scene.staging.complete("t", "r1").await.unwrap();
        scene
    }

    async fn unfinished(live: Vec<Row>, staged: Vec<Row>, events: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let table = spec("t", &COLUMNS, 1);
        let warehouse = EmbeddedWarehouse::open(dir.path()).unwrap();
        warehouse.ensure_table(&table).await.unwrap();
        warehouse.write(&table, Arc::new(live)).await.unwrap();
        let staging = EmbeddedStaging::open(dir.path()).unwrap();
        let tables = staging.stage(&table, "r1").await.unwrap();
        let to = staging.warehouse();
        to.write(&tables.rows, Arc::new(staged)).await.unwrap();
        let events = events.iter().map(|id| row([text(id)])).collect();
        to.write(&tables.events, Arc::new(events)).await.unwrap();
        Self { dir, table, staging }
    }

    /// Id, count and version of the live rows.
    fn live(&self) -> Vec<(String, i64, i64)> {
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
    conforms(&live, &EmbeddedStaging::open(dir.path()).unwrap()).await;
}

/// `a` is alike, `b` differs, `c` differs and is newer in live, `d` is new, `e` is made no more,
/// `f` was made after the replay, `g` is no event of the range.
async fn scene() -> Scene {
    let live = [("a", 1, 1), ("b", 1, 1), ("c", 1, 9), ("e", 1, 1), ("f", 1, 101), ("g", 1, 1)];
    let staged = [("a", 1, 5), ("b", 2, 5), ("c", 2, 5), ("d", 2, 5)];
    let rows = |rows: &[(&str, i64, i64)]| rows.iter().map(|it| made(it.0, it.1, it.2)).collect();
    Scene::new(rows(&live), rows(&staged), &["a", "b", "c", "d", "e", "f"]).await
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
    live.execute_batch("BEGIN EXCLUSIVE; INSERT INTO t VALUES('x', 1, '', 1)").unwrap();
    let rows = StagingTables::of(&scene.table, "r1").rows;
    let written = scene.staging.warehouse().write(&rows, Arc::new(vec![made("a", 1, 1)])).await;
    assert_eq!(written.unwrap(), []);
    let diff = scene.staging.diff(&scene.table, &how()).await.unwrap();
    assert_eq!((diff.added, diff.same), (1, 0), "a diff reads beside a writer");
}

#[tokio::test]
async fn without_a_live_file_every_row_is_added_and_the_diff_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    let staging = EmbeddedStaging::open(dir.path()).unwrap();
    let table = spec("t", &COLUMNS, 1);
    let tables = staging.stage(&table, "r1").await.unwrap();
    staging.warehouse().write(&tables.rows, Arc::new(vec![made("a", 1, 1)])).await.unwrap();
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
    // Of a replay whose processors each fill a table of their own.
    scene.staging.drop_staging("t").await.unwrap();
    for table in [&scene.table, &other] {
        scene.staging.stage(table, "r2").await.unwrap();
    }
    let events = StagingTables::of(&other, "r2").events;
    let ids = vec![row([text("e")])];
    scene.staging.warehouse().write(&events, Arc::new(ids)).await.unwrap();
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
