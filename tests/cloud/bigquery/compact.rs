//! Compaction of tables that are appended to.

use chrono::NaiveDate;
use kappa::backend::bigquery::{BigQueryStaging, CompactPlan, Days};
use kappa_actors::port::{
    Auditable as _, Comparison, CurrentRows, ReprocessError, Reprocessing as _, Scope,
};
use kappa_actors::row::Column;
use proptest::prelude::*;

use super::*;

const COLUMNS: [(&str, ColumnType); 4] = [
    ("id", ColumnType::String),
    ("at", ColumnType::Timestamp),
    ("said", ColumnType::String),
    ("_version", ColumnType::Bytes),
];
const DAY: i64 = 86_400_000_000;
/// The first day of the events: rows of years ago cannot be streamed.
const FIRST: &str = "2026-02-17T00:00:00Z";
/// Days from the first that are closed.
const CLOSED: i64 = 3;

fn first() -> i64 {
    Timestamp::parse_rfc3339(FIRST).unwrap().micros() / DAY
}

/// A table of events, partitioned by a column of its key.
fn events() -> Arc<TableSpec> {
    Arc::new(TableSpec { partition_by: Some(1), ..(*table("t", &COLUMNS, 2)).clone() })
}

/// The row of an event at the noon of this day.
fn event(id: &str, day: i64, version: i64) -> Row {
    let at = Value::Timestamp(Timestamp::from_micros((first() + day) * DAY + DAY / 2));
    row([text(id), at, text(&format!("{id}{version}")), super::version(version)])
}

fn days(to: i64) -> Days {
    let day =
        |days: i64| NaiveDate::from_epoch_days(i32::try_from(first() + days).unwrap()).unwrap();
    Days { from: None, to: day(to) }
}

struct Scene {
    cloud: Cloud,
    table: Arc<TableSpec>,
}

impl Scene {
    async fn new(table: Arc<TableSpec>, rows: Vec<Row>) -> Self {
        let cloud = Cloud::start(WriteMode::Append).await;
        cloud.ensure_table(&table).await.unwrap();
        let scene = Self { cloud, table };
        scene.write(rows).await;
        scene
    }

    async fn write(&self, rows: Vec<Row>) {
        assert_eq!(self.cloud.write(&self.table, Arc::new(rows)).await.unwrap(), []);
    }

    async fn plan(&self) -> CompactPlan {
        self.cloud.warehouse.plan_compaction(&self.table, days(CLOSED)).await.unwrap()
    }

    /// Compacts the closed days, and returns the number of removed rows.
    async fn compact(&self) -> Result<u64, ReprocessError> {
        let plan = self.plan().await;
        for partition in &plan.partitions {
            self.cloud.warehouse.compact(&self.table, partition).await?;
        }
        Ok(plan.partitions.iter().map(|it| it.removes).sum())
    }

    /// The rows of the view, sorted.
    async fn seen(&self) -> Vec<Row> {
        let mut rows = self.cloud.read_back(&self.table).await;
        rows.sort_by(|a, b| a.cmp_by(&[0, 1, 2, 3], b));
        rows
    }

    /// The column `said` of these rows.
    async fn said(&self) -> Vec<Value> {
        self.seen().await.into_iter().map(|row| row.0[2].clone()).collect()
    }

    fn stored(&self) -> usize {
        self.cloud.control().rows("p.d.t").len()
    }

    fn merges(&self) -> usize {
        let statements = self.cloud.control().statements();
        statements.iter().filter(|statement| statement.starts_with("MERGE")).count()
    }
}

/// Rows of few keys on five days, of which the first three are closed: superseded, equal, and alone.
fn rows() -> impl Strategy<Value = Vec<(u8, i64, i64)>> {
    prop::collection::vec((0..4_u8, 0..5_i64, 1..4_i64), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_view_is_the_same_before_and_after_and_each_closed_key_has_one_row(written in rows()) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let all = written.iter().map(|&(id, day, version)| event(&id.to_string(), day, version));
            let scene = Scene::new(events(), all.collect()).await;
            let before = scene.seen().await;
            let removed = scene.compact().await.unwrap();
            assert_eq!(scene.seen().await, before);
            let keys = |closed: bool| {
                let of = written.iter().filter(|it| (it.1 < CLOSED) == closed);
                of.map(|it| (it.0, it.1)).collect::<std::collections::BTreeSet<_>>().len()
            };
            let open = written.iter().filter(|it| it.1 >= CLOSED).count();
            assert_eq!(scene.stored(), keys(true) + open);
            assert_eq!(removed as usize, written.len() - open - keys(true));
            assert_eq!(scene.plan().await.partitions, []);
        });
    }
}

#[tokio::test]
async fn a_plan_changes_nothing_and_only_partitions_with_several_rows_of_a_key_are_merged() {
    let all = vec![event("a", 0, 1), event("a", 0, 2), event("b", 1, 1), event("c", 2, 1)];
    let scene = Scene::new(events(), all).await;
    scene.write(vec![event("c", 2, 1), event("open", 3, 1), event("open", 3, 1)]).await;
    let plan = scene.plan().await;
    let told: Vec<_> = plan
        .partitions
        .iter()
        .map(|it| (it.day.unwrap().to_string(), it.keys, it.removes))
        .collect();
    let day = |day: &str| day.to_owned();
    assert_eq!(told, [(day("2026-02-17"), 1, 1), (day("2026-02-19"), 1, 1)]);
    assert!(plan.looked > 0 && plan.partitions.iter().all(|it| it.bytes > 0), "{plan:?}");
    assert_eq!((scene.stored(), scene.merges()), (7, 0));
    assert_eq!(scene.compact().await.unwrap(), 2);
    assert_eq!((scene.stored(), scene.merges()), (5, 2));
    let tomorrow = Days { from: Some(days(3).to), to: days(4).to };
    let told = scene.cloud.warehouse.plan_compaction(&scene.table, tomorrow).await.unwrap();
    assert_eq!(told.partitions.len(), 1, "an open day on request: {told:?}");
}

/// As when the process is killed while the service still works on the first of two days.
#[tokio::test]
async fn a_compaction_that_ends_half_way_is_completed_by_the_next() {
    let twice = |id, day| vec![event(id, day, 1), event(id, day, 2), event(id, day, 2)];
    let scene = Scene::new(events(), [twice("a", 0), twice("b", 1)].concat()).await;
    let before = scene.seen().await;
    scene.cloud.control().lose_answer_of("MERGE");
    let told = scene.compact().await.unwrap_err();
    assert!(matches!(told, ReprocessError::Unavailable(_)), "{told}");
    assert_eq!((scene.stored(), scene.seen().await), (4, before.clone()));
    assert_eq!(scene.compact().await.unwrap(), 2);
    assert_eq!((scene.stored(), scene.seen().await), (2, before));
    assert_eq!(scene.merges(), 2, "the day that was done is not merged again");
}

/// The statement decides by the rows that it finds, not by those that were looked at.
#[tokio::test]
async fn a_row_that_is_appended_after_the_look_is_kept() {
    let scene = Scene::new(events(), vec![event("a", 0, 1), event("a", 0, 2)]).await;
    let plan = scene.plan().await;
    scene.write(vec![event("a", 0, 9), event("late", 0, 1)]).await;
    let before = scene.seen().await;
    for partition in &plan.partitions {
        scene.cloud.warehouse.compact(&scene.table, partition).await.unwrap();
    }
    assert_eq!((scene.stored(), scene.seen().await), (2, before));
    // A copy of a removed row stays below the newest.
    scene.write(vec![event("a", 0, 1)]).await;
    assert_eq!(scene.said().await, [text("a9"), text("late1")]);
}

/// The newest row of a key may be in any partition: the whole table is one unit.
#[tokio::test]
async fn a_key_without_the_partition_column_keeps_its_newest_row_of_all_partitions() {
    let latest = TableSpec { partition_by: Some(1), ..(*table("t", &COLUMNS, 1)).clone() };
    let all = vec![event("a", 0, 3), event("a", 2, 1), event("a", 4, 2), event("b", 1, 1)];
    let scene = Scene::new(Arc::new(latest), all).await;
    let before = scene.seen().await;
    let plan = scene.plan().await;
    assert_eq!((plan.partitions.len(), plan.partitions[0].day), (1, None), "{plan:?}");
    assert_eq!(scene.compact().await.unwrap(), 2);
    assert_eq!((scene.stored(), scene.seen().await), (2, before));
}

#[tokio::test]
async fn columns_that_are_not_configured_keep_their_values() {
    let all = vec![event("a", 0, 1), event("a", 0, 2)];
    let scene = Scene::new(events(), all).await;
    let narrow = TableSpec {
        columns: COLUMNS
            .iter()
            .filter(|(name, _)| *name != "said")
            .map(|&(name, kind)| Column { name: name.to_owned(), kind, description: None })
            .collect(),
        version: Some(2),
        ..(*scene.table).clone()
    };
    let plan = scene.cloud.warehouse.plan_compaction(&narrow, days(CLOSED)).await.unwrap();
    scene.cloud.warehouse.compact(&narrow, &plan.partitions[0]).await.unwrap();
    assert_eq!(scene.said().await, [text("a2")]);
    assert_eq!(scene.stored(), 1);
}

#[tokio::test]
async fn tables_that_cannot_be_compacted_are_refused_and_left() {
    let cloud = Cloud::start(WriteMode::Upsert).await;
    cloud.ensure_table(&events()).await.unwrap();
    let keyless = table("bare", &COLUMNS, 0);
    cloud.ensure_table(&keyless).await.unwrap();
    let absent = TableSpec { name: "absent".to_owned(), ..(*events()).clone() };
    for (table, word) in [(&*events(), "takes upserts"), (&*keyless, "has no key")] {
        let told = cloud.warehouse.plan_compaction(table, days(CLOSED)).await.unwrap_err();
        assert!(told.to_string().contains(word), "{told}");
    }
    let appended = Cloud::start(WriteMode::Append).await;
    let told = appended.warehouse.plan_compaction(&absent, days(CLOSED)).await.unwrap_err();
    assert!(told.to_string().contains("there is no table absent"), "{told}");
}

/// An audit finds the same before and after. A diff knows that older rows may be gone.
#[tokio::test]
async fn an_audit_holds_after_a_compaction_and_a_diff_counts_rows_that_may_hide_older_ones() {
    let scene =
        Scene::new(events(), vec![event("a", 0, 1), event("a", 0, 2), event("b", 0, 1)]).await;
    let keys = ["a", "b", "gone"].map(|id| Row(event(id, 0, 1).0[..2].into()));
    let expected = Version::new(None, Position::of("1", Timestamp::from_micros(1), 0), 0);
    let asked = CurrentRows {
        table: Arc::clone(&scene.table),
        keys: Arc::new(keys.to_vec()),
        expected: Arc::new(vec![expected; 3]),
        columns: vec![],
        near: None,
    };
    let before = scene.cloud.warehouse.current(&asked).await.unwrap();
    let staging = {
        let options = options(&scene.cloud.server, WriteMode::Append);
        BigQueryStaging::beside(BigQueryWarehouse::connect(options, None).unwrap())
    };
    // The message of version 2 was replayed, and makes no row now.
    let tables = staging.stage(&scene.table, "r", 0).await.unwrap();
    let position = Position::of("1", Timestamp::from_micros(2), 0).to_bytes().to_vec();
    let replayed = row([Value::Bytes(Box::new(position.into()))]);
    staging.warehouse().write(&tables.events, Arc::new(vec![replayed])).await.unwrap();
    staging.complete("t", "r").await.unwrap();
    let how = Comparison { passed_over: vec![], scope: Some(Scope { revision: 0 }), examples: 0 };
    let counts = async || {
        let diff = staging.diff(&scene.table, &how).await.unwrap();
        (diff.missing, diff.may_hide)
    };
    assert_eq!(counts().await, (Some(1), 0), "the older row is there to come back");
    scene.compact().await.unwrap();
    assert_eq!(counts().await, (Some(1), 1), "the older row may be gone");
    assert_eq!(scene.cloud.warehouse.current(&asked).await.unwrap(), before);
}
