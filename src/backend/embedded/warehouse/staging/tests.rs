//! Staging beside the live file.

use bytes::Bytes;
use compact_str::CompactString;
use kappa_actors::dead_letter_table::{self, DeadLetter, Stage};
use kappa_actors::port::{MergeOptions, Scope};
use kappa_actors::row::ColumnType::{Integer, String as Text};
use kappa_actors::row::{ColumnType, Row, Value};
use kappa_actors::testing::warehouse::{row, table as spec, text};
use kappa_actors::time::Timestamp;
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
        scope: Some(Scope {
            event_id: "id".to_owned(),
            processor: "p".to_owned(),
            up_to_version: 100,
        }),
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

    async fn merge(&self, remove_missing: bool, dry_run: bool) -> Merged {
        let options = MergeOptions { remove_missing, dry_run };
        self.staging.merge(&self.table, &how(), options).await.unwrap()
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

/// `a` is alike, `b` differs, `c` differs and is newer in live, `d` is new, `e` is made no more,
/// `f` was made after the replay, `g` is no event of the range.
async fn scene() -> Scene {
    let live = [("a", 1, 1), ("b", 1, 1), ("c", 1, 9), ("e", 1, 1), ("f", 1, 101), ("g", 1, 1)];
    let staged = [("a", 1, 5), ("b", 2, 5), ("c", 2, 5), ("d", 2, 5)];
    let rows = |rows: &[(&str, i64, i64)]| rows.iter().map(|it| made(it.0, it.1, it.2)).collect();
    Scene::new(rows(&live), rows(&staged), &["a", "b", "c", "d", "e", "f"]).await
}

#[tokio::test]
async fn a_diff_names_what_was_added_changed_and_is_missing_and_nothing_else() {
    let scene = scene().await;
    let diff = scene.staging.diff(&scene.table, &how()).await.unwrap();
    assert_eq!((diff.added, diff.changed, diff.live_newer, diff.same), (1, 2, 1, 1), "{diff:?}");
    assert_eq!(diff.missing, Some(1));
    assert_eq!(diff.missing_examples, [[Some("e".to_owned())]]);
    assert_eq!(diff.added_examples, [[Some("d".to_owned())]]);
    let [count] = &diff.columns[..] else { panic!("{diff:?}") };
    assert_eq!((count.name.as_str(), count.rows, count.examples.len()), ("count", 2, 2));
    assert_eq!(count.examples[0].live.as_deref(), Some("1"));
    assert_eq!(count.examples[0].staged.as_deref(), Some("2"));
}

#[tokio::test]
async fn a_merge_never_replaces_a_higher_version_and_again_changes_nothing() {
    let scene = scene().await;
    let before = scene.live();
    let planned = scene.merge(true, true).await;
    assert_eq!(scene.live(), before, "a dry run changes nothing");
    let merged = scene.merge(true, false).await;
    assert_eq!(merged, planned);
    assert_eq!(merged, Merged { inserted: 1, replaced: 1, unchanged: 1, kept: 1, removed: 1 });
    let row = |id: &str, count, version| (id.to_owned(), count, version);
    let after = [
        row("a", 1, 5),
        row("b", 2, 5),
        row("c", 1, 9),
        row("d", 2, 5),
        row("f", 1, 101),
        row("g", 1, 1),
    ];
    assert_eq!(scene.live(), after);
    let again = scene.merge(true, false).await;
    assert_eq!(again, Merged { unchanged: 3, kept: 1, ..Merged::default() });
    assert_eq!(scene.live(), after);
}

#[tokio::test]
async fn nothing_is_removed_unless_it_is_asked_for() {
    let scene = scene().await;
    assert_eq!(scene.merge(false, false).await.removed, 0);
    assert_eq!(scene.live().len(), 7);
}

#[tokio::test]
async fn half_a_replay_is_not_merged_and_misses_nothing() {
    let scene = Scene::unfinished(vec![made("a", 1, 1)], vec![], &["a"]).await;
    let diff = scene.staging.diff(&scene.table, &how()).await.unwrap();
    assert_eq!(diff.missing, None);
    let options = MergeOptions { remove_missing: true, dry_run: false };
    for dry_run in [false, true] {
        let options = MergeOptions { dry_run, ..options };
        let merged = scene.staging.merge(&scene.table, &how(), options).await;
        assert!(matches!(merged, Err(ReprocessError::Taken(_))), "{merged:?}");
    }
    assert_eq!(scene.live().len(), 1);
}

#[tokio::test]
async fn a_staging_table_belongs_to_one_replay() {
    let scene = Scene::unfinished(vec![], vec![made("a", 1, 1)], &[]).await;
    scene.staging.stage(&scene.table, "r1").await.unwrap();
    assert_eq!(scene.staging.staged("t").await.unwrap().unwrap().rows, 1, "resumed, not emptied");
    let other = scene.staging.stage(&scene.table, "r2").await;
    assert!(matches!(&other, Err(ReprocessError::Taken(says)) if says.contains("r1")), "{other:?}");
    let other = scene.staging.complete("t", "r2").await;
    assert!(matches!(other, Err(ReprocessError::NotStaged(_))), "{other:?}");
    scene.staging.complete("t", "r1").await.unwrap();
    let ended = scene.staging.stage(&scene.table, "r1").await;
    assert!(matches!(ended, Err(ReprocessError::Taken(_))), "{ended:?}");
    assert!(scene.staging.drop_staging("t").await.unwrap());
    assert!(!scene.staging.drop_staging("t").await.unwrap());
    scene.staging.stage(&scene.table, "r2").await.unwrap();
    assert_eq!(scene.staging.staged("t").await.unwrap().unwrap().rows, 0);
}

#[tokio::test]
async fn a_column_of_another_type_is_a_mismatch_and_changes_nothing() {
    let scene = scene().await;
    let mut columns = COLUMNS;
    columns[1].1 = Text;
    let retyped = spec("t", &columns, 1);
    let diff = scene.staging.diff(&retyped, &how()).await;
    assert!(
        matches!(&diff, Err(ReprocessError::Mismatch(says)) if says.contains("count")),
        "{diff:?}"
    );
    // Staged anew, it is the live table that has the other type.
    scene.staging.drop_staging("t").await.unwrap();
    scene.staging.stage(&retyped, "r2").await.unwrap();
    scene.staging.complete("t", "r2").await.unwrap();
    let before = scene.live();
    let merged = scene.staging.merge(&retyped, &how(), MergeOptions::default()).await;
    assert!(matches!(merged, Err(ReprocessError::Mismatch(_))), "{merged:?}");
    assert_eq!(scene.live(), before);
}

#[tokio::test]
async fn a_new_column_differs_where_it_has_a_value_and_is_merged() {
    let scene = scene().await;
    let columns = [COLUMNS[0], COLUMNS[1], COLUMNS[2], ("note", Text), COLUMNS[3]];
    let wider = spec("t", &columns, 1);
    scene.staging.drop_staging("t").await.unwrap();
    let tables = scene.staging.stage(&wider, "r2").await.unwrap();
    let values = [text("a"), Value::Integer(1), text(""), text("new"), Value::Integer(5)];
    scene.staging.warehouse().write(&tables.rows, Arc::new(vec![row(values)])).await.unwrap();
    scene.staging.complete("t", "r2").await.unwrap();
    let diff = scene.staging.diff(&wider, &how()).await.unwrap();
    assert_eq!((diff.changed, diff.columns[0].name.as_str()), (1, "note"), "{diff:?}");
    let merged = scene.staging.merge(&wider, &how(), MergeOptions::default()).await.unwrap();
    assert_eq!(merged, Merged { replaced: 1, ..Merged::default() });
    let diff = scene.staging.diff(&wider, &how()).await.unwrap();
    assert!(diff.is_empty(), "{diff:?}");
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
async fn an_event_that_is_a_dead_letter_misses_no_row() {
    let scene = scene().await;
    let letter = |event: &str, processor: &str| DeadLetter {
        id: format!("{event} {processor}"),
        event_id: Some(event.into()),
        event_type: None,
        stage: Stage::Process,
        actor: String::new(),
        processor: Some(processor.to_owned()),
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
    };
    let letters = Arc::new(dead_letter_table::spec());
    let warehouse = EmbeddedWarehouse::open(scene.dir.path()).unwrap();
    warehouse.ensure_table(&letters).await.unwrap();
    let missing = async || scene.staging.diff(&scene.table, &how()).await.unwrap().missing;
    warehouse.write(&letters, Arc::new(vec![letter("e", "another").row()])).await.unwrap();
    assert_eq!(missing().await, Some(1), "another processor's letters say nothing of this table");
    warehouse.write(&letters, Arc::new(vec![letter("e", "p").row()])).await.unwrap();
    assert_eq!(missing().await, Some(0));
    assert_eq!(scene.merge(true, false).await.removed, 0);
    assert!(scene.live().iter().any(|(id, ..)| id == "e"));
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
