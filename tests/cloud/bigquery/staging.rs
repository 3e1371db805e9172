//! Staging tables of BigQuery, beyond the conformance suite.

mod appended;
mod commands;
mod upserted;

use kappa::backend::bigquery::BigQueryStaging;
use kappa_actors::port::{
    Comparison, Diff, MergeOptions, Merged, ReprocessError, Reprocessing, Scope,
};
use kappa_actors::testing::reprocessing;
use kappa_actors::testing::warehouse::read_row;

use super::*;

const COLUMNS: [(&str, ColumnType); 3] =
    [("id", ColumnType::String), ("count", ColumnType::Integer), ("_version", ColumnType::Bytes)];

/// A row of the message of this time, in microseconds.
fn counted(id: &str, count: i64, micros: i64) -> Row {
    row([text(id), Value::Integer(count), version(micros)])
}

fn position(micros: i64) -> Position {
    Position::of("1", Timestamp::from_micros(micros), 0)
}

fn version_of(micros: i64) -> Version {
    Version::new(None, position(micros), 0)
}

/// The note that the message of this time was replayed.
fn replayed(micros: i64) -> Row {
    row([Value::Bytes(Box::new(position(micros).to_bytes().to_vec().into()))])
}

fn how() -> Comparison {
    let scope = Scope { revision: 0 };
    Comparison { passed_over: vec![], scope: Some(scope), examples: 2 }
}

/// A live table `t`, and the rows that the replay `r` staged for it.
struct Scene {
    cloud: Cloud,
    staging: BigQueryStaging,
    table: Arc<TableSpec>,
}

impl Scene {
    async fn new(mode: WriteMode, live: &[(&str, i64, i64)]) -> Self {
        let cloud = Cloud::start(mode).await;
        let table = table("t", &COLUMNS, 1);
        cloud.ensure_table(&table).await.unwrap();
        let scene = Self { staging: staging(&cloud), cloud, table };
        scene.write(live).await;
        scene
    }

    async fn write(&self, rows: &[(&str, i64, i64)]) {
        let rows = rows.iter().map(|it| counted(it.0, it.1, it.2)).collect();
        assert_eq!(self.cloud.write(&self.table, Arc::new(rows)).await.unwrap(), []);
    }

    /// Stages the rows of a complete replay over the messages of these times.
    async fn staged(self, rows: Vec<Row>, events: &[i64]) -> Self {
        let tables = self.staging.stage(&self.table, "r", 0).await.unwrap();
        let to = self.staging.warehouse();
        assert_eq!(to.write(&tables.rows, Arc::new(rows)).await.unwrap(), []);
        let events = events.iter().map(|&at| replayed(at)).collect();
        assert_eq!(to.write(&tables.events, Arc::new(events)).await.unwrap(), []);
        self.staging.complete("t", "r").await.unwrap();
        self
    }

    /// As [`Scene::staged`], after dropping the staging table.
    async fn staged_again(self, rows: Vec<Row>, events: &[i64]) -> Self {
        assert!(self.staging.drop_staging("t").await.unwrap());
        self.staged(rows, events).await
    }

    async fn diff(&self) -> Diff {
        self.staging.diff(&self.table, &how()).await.unwrap()
    }

    async fn merge(&self, remove_missing: bool) -> Result<Merged, ReprocessError> {
        let options = MergeOptions { remove_missing, dry_run: false };
        self.staging.merge(&self.table, &how(), options).await
    }

    fn control(&self) -> Control {
        self.cloud.control()
    }

    /// The rows as a reader sees them, in the order of their ids.
    async fn rows(&self) -> Vec<Row> {
        let mut rows = self.cloud.read_back(&self.table).await;
        rows.sort_by(|a, b| a.cmp_by(&[0], b));
        rows
    }
}

fn staging(cloud: &Cloud) -> BigQueryStaging {
    let options = options(&cloud.server, cloud.mode);
    BigQueryStaging::beside(BigQueryWarehouse::connect(options, None).unwrap())
}

fn owned(rows: &[(&str, i64, i64)]) -> Vec<Row> {
    rows.iter().map(|&(id, count, micros)| read_row(&counted(id, count, micros))).collect()
}

#[tokio::test]
async fn staging_conforms_beside_both_kinds_of_tables_and_page_by_page() {
    for mode in [WriteMode::Append, WriteMode::Upsert] {
        let cloud = Cloud::start(mode).await;
        cloud.control().page_rows(1);
        let staging = staging(&cloud);
        reprocessing::conforms(&cloud.dataset, &staging).await;
        if mode == WriteMode::Upsert {
            reprocessing::a_removed_row_does_not_come_back(&cloud.dataset, &staging).await;
        }
        assert_eq!(cloud.control().violations(), [""; 0]);
    }
}

#[tokio::test]
async fn a_staging_table_is_appended_to_and_belongs_to_whom_the_live_one_does() {
    let scene = Scene::new(WriteMode::Upsert, &[]).await;
    scene.staging.stage(&scene.table, "r", 0).await.unwrap();
    for name in ["p.d.t_reprocessed", "p.d.replayed_events_r"] {
        let made = scene.control().resource(name).unwrap();
        assert!(made["tableConstraints"].is_null() && made["maxStaleness"].is_null(), "{made}");
        assert_eq!(made["labels"], json!({ "team": "data" }));
        assert!(scene.control().resource(&format!("{name}_deduplicated")).is_none());
    }
    // Who fills it makes no other in its place.
    scene.control().delete_table("p.d.t_reprocessed");
    let rows = kappa_actors::port::StagingTables::of(&scene.table, "r").rows;
    let gone = scene.staging.warehouse().ensure_table(&rows).await;
    assert!(matches!(&gone, Err(EnsureError::Mismatch(says)) if says.contains("gone")), "{gone:?}");
}

#[tokio::test]
async fn a_table_of_that_name_that_no_replay_made_is_left_alone() {
    let scene = Scene::new(WriteMode::Upsert, &[]).await;
    let mut other = TableSpec::clone(&scene.table);
    other.name = "t_reprocessed".to_owned();
    scene.cloud.ensure_table(&other).await.unwrap();
    for answer in [
        scene.staging.stage(&scene.table, "r", 0).await.map(drop),
        scene.staging.drop_staging("t").await.map(drop),
        scene.merge(false).await.map(drop),
    ] {
        let told = answer.unwrap_err();
        assert!(matches!(&told, ReprocessError::Mismatch(says) if says.contains("p.d.t_rep")));
    }
    assert!(scene.control().resource("p.d.t_reprocessed").is_some());
}

#[tokio::test]
async fn a_half_dropped_staging_table_can_be_merged_and_dropped_but_removes_no_rows() {
    let scene = Scene::new(WriteMode::Append, &[("a", 1, 1), ("b", 1, 1)]).await;
    let scene = scene.staged(vec![counted("a", 2, 2)], &[1, 2]).await;
    assert_eq!(scene.diff().await.missing, Some(1));
    scene.control().delete_table("p.d.replayed_events_r");
    assert_eq!(scene.diff().await.missing, None);
    let told = scene.merge(true).await.unwrap_err();
    assert!(matches!(told, ReprocessError::Mismatch(_)), "{told}");
    assert_eq!(scene.merge(false).await.unwrap().replaced, 1);
    assert_eq!(scene.rows().await, owned(&[("a", 2, 2), ("b", 1, 1)]));
    assert!(scene.staging.drop_staging("t").await.unwrap());
    assert!(scene.control().resource("p.d.t_reprocessed").is_none());
}

#[tokio::test]
async fn trouble_is_no_contradiction() {
    let scene = Scene::new(WriteMode::Append, &[]).await;
    let scene = scene.staged(vec![counted("a", 2, 2)], &[]).await;
    scene.control().revoke(true);
    for answer in [
        scene.staging.stage(&scene.table, "r2", 0).await.map(drop),
        scene.staging.diff(&scene.table, &how()).await.map(drop),
        scene.merge(false).await.map(drop),
        scene.staging.staged("t").await.map(drop),
    ] {
        let told = answer.unwrap_err();
        assert!(matches!(&told, ReprocessError::Unavailable(says) if says.contains("grant")));
    }
}

/// Not from a processor, but a table may have been filled by others.
#[tokio::test]
async fn nan_equals_nan_in_a_diff() {
    let columns =
        [("id", ColumnType::String), ("rate", ColumnType::Float), ("_version", ColumnType::Bytes)];
    let spec = table("rates", &columns, 1);
    let cloud = Cloud::start(WriteMode::Upsert).await;
    let rate = |id, rate, micros| row([text(id), Value::Float(rate), version(micros)]);
    cloud.ensure_table(&spec).await.unwrap();
    let live = vec![rate("a", f64::NAN, 1), rate("b", f64::NAN, 1)];
    cloud.write(&spec, Arc::new(live)).await.unwrap();
    let staging = staging(&cloud);
    let tables = staging.stage(&spec, "r", 0).await.unwrap();
    let staged = vec![rate("a", f64::NAN, 2), rate("b", 0.5, 2)];
    staging.warehouse().write(&tables.rows, Arc::new(staged)).await.unwrap();
    let diff = staging.diff(&spec, &Comparison { examples: 1, ..Comparison::default() }).await;
    let diff = diff.unwrap();
    assert_eq!((diff.same, diff.changed), (1, 1), "{diff:?}");
    assert_eq!(diff.columns[0].examples[0].live.as_deref(), Some("NaN"));
}
