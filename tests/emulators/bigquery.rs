//! BigQuery, on bqemulator: the mode `append`, read through its view.

mod history;
mod sql;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kappa::backend::bigquery::{BigQueryOptions, WriteMode};
use kappa_actors::port::{EnsureError, Ensured, Warehouse, WriteError, Written};
use kappa_actors::row::{ColumnType, Row, TableSpec, Value};
use kappa_actors::testing::warehouse::{self as promises, ReadBack, row, table, text};
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};

use crate::dataset::Dataset;
use crate::loopback;

/// REST and appends share one connection to the emulator's database: asked by both at the same
/// moment it may stop for good.
static ONE_TEST_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Far longer than any test takes with an emulator that answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// A dataset of its own, with the manual steps that the emulator needs.
struct Emulated {
    dataset: Dataset,
    name: String,
    options: BigQueryOptions,
    http: reqwest::Client,
    _alone: MutexGuard<'static, ()>,
}

fn rest() -> String {
    format!("{}/bigquery/v2/projects/local", endpoint())
}

fn endpoint() -> String {
    super::endpoint("KAPPA_EMULATOR_BIGQUERY")
}

fn write_endpoint() -> String {
    super::endpoint("KAPPA_EMULATOR_BIGQUERY_WRITE")
}

/// A name that no other test has.
fn fresh_name() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("d{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Emulated {
    async fn start() -> Self {
        let alone = ONE_TEST_AT_A_TIME.lock().await;
        let (name, http) = (fresh_name(), reqwest::Client::new());
        // To a table in a dataset that is not there the emulator answers 500, not 404.
        let body = json!({ "datasetReference": { "projectId": "local", "datasetId": name } });
        let answer = http.post(format!("{}/datasets", rest())).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        let options = BigQueryOptions {
            endpoint: Some(endpoint()),
            write_endpoint: Some(write_endpoint()),
            ..loopback::bigquery("local", &name, WriteMode::Append)
        };
        let dataset = Dataset::open(options.clone(), None);
        Self { dataset, name, options, http, _alone: alone }
    }

    /// The emulator tells of a view, but not its query: what is found would never be the view that
    /// is wanted.
    async fn drop_view(&self, table: &str) {
        let view = format!("{}/datasets/{}/tables/{table}_deduplicated", rest(), self.name);
        self.http.delete(view).send().await.unwrap();
    }
}

#[async_trait]
impl Warehouse for Emulated {
    async fn ensure_table(&self, table: &TableSpec) -> Result<Ensured, EnsureError> {
        self.drop_view(&table.name).await;
        let ensured = self.dataset.ensure_table(table).await?;
        for column in &ensured.added {
            // The emulator adds it to the table's description, not to the table.
            let name = self.dataset.sql.name(&table.name);
            self.dataset.sql.query(&format!("ALTER TABLE {name} ADD COLUMN {column} STRING")).await;
        }
        Ok(ensured)
    }

    async fn is_empty(&self, table: &TableSpec) -> Result<bool, EnsureError> {
        self.dataset.is_empty(table).await
    }

    async fn write(
        &self,
        table: &Arc<TableSpec>,
        rows: Arc<Vec<Row>>,
    ) -> Result<Written, WriteError> {
        self.dataset.write(table, rows).await
    }
}

#[async_trait]
impl ReadBack for Emulated {
    async fn read_back(&self, table: &TableSpec) -> Vec<Row> {
        let mut rows = self.dataset.read_back(table).await;
        for row in &mut rows {
            for (column, value) in table.columns.iter().zip(&mut row.0) {
                if let (ColumnType::Numeric, Value::Text(number)) = (column.kind, &*value) {
                    *value = Value::Text(plain(number).into());
                }
            }
        }
        rows
    }
}

/// A decimal as BigQuery shows it; the emulator shows `12.000000000` and `-1E-9`.
fn plain(number: &str) -> String {
    let (mantissa, exponent) = number.split_once('E').unwrap_or((number, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let behind = fraction.len().checked_add_signed(-exponent.parse::<isize>().unwrap()).unwrap();
    let digits = format!("{:0>1$}", format!("{whole}{fraction}"), behind + 1);
    let (whole, fraction) = digits.split_at(digits.len() - behind);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}

/// Runs a check on a dataset of its own, alone; an emulator that hangs fails it.
async fn shows(check: impl AsyncFnOnce(&Emulated)) {
    let emulated = Emulated::start().await;
    let hung = format!("the emulator hung: no end within {PATIENCE:?}");
    tokio::time::timeout(PATIENCE, check(&emulated)).await.expect(&hung);
    tokio::time::timeout(PATIENCE, emulated.dataset.warehouse.close()).await.expect(&hung);
}

#[tokio::test]
async fn a_table_is_created_once() {
    shows(async |it| promises::a_table_is_created_once(it).await).await;
}

#[tokio::test]
async fn a_column_no_longer_configured_stays_and_is_null_in_new_rows() {
    shows(async |it| {
        promises::a_column_no_longer_configured_stays_and_is_null_in_new_rows(it).await;
    })
    .await;
}

#[tokio::test]
async fn a_changed_column_type_is_a_mismatch() {
    shows(async |it| promises::a_changed_column_type_is_a_mismatch(it).await).await;
}

#[tokio::test]
async fn every_type_comes_back_as_it_went_in() {
    shows(async |it| promises::every_type_comes_back_as_it_went_in(it).await).await;
}

#[tokio::test]
async fn a_row_replaces_an_older_one() {
    shows(async |it| promises::a_row_replaces_an_older_one(it).await).await;
}

#[tokio::test]
async fn without_a_key_every_row_is_added() {
    shows(async |it| promises::without_a_key_every_row_is_added(it).await).await;
}

#[tokio::test]
async fn a_key_of_two_columns_needs_both_to_match() {
    shows(async |it| promises::a_key_of_two_columns_needs_both_to_match(it).await).await;
}

#[tokio::test]
async fn keys_are_compared_byte_by_byte() {
    shows(async |it| promises::keys_are_compared_byte_by_byte(it).await).await;
}

#[tokio::test]
async fn writing_nothing_is_no_error() {
    shows(async |it| promises::writing_nothing_is_no_error(it).await).await;
}

#[tokio::test]
async fn a_table_that_is_not_there_is_gone() {
    shows(async |it| promises::a_table_that_is_not_there_is_gone(it).await).await;
}

#[tokio::test]
async fn writers_side_by_side_lose_nothing() {
    shows(async |it| promises::writers_side_by_side_lose_nothing(it).await).await;
}

/// The suite's own check of it has a table without a version, which is upserted.
#[tokio::test]
async fn a_new_column_is_added_and_is_null_in_old_rows() {
    shows(async |it| {
        let columns = [
            ("id", ColumnType::String),
            ("_version", ColumnType::Integer),
            ("note", ColumnType::String),
        ];
        let (before, after) = (table("widened", &columns[..2], 1), table("widened", &columns, 1));
        it.ensure_table(&before).await.unwrap();
        let old = row([text("old"), Value::Integer(1)]);
        assert_eq!(it.write(&before, Arc::new(vec![old])).await.unwrap(), []);
        assert_eq!(it.ensure_table(&after).await.unwrap().added, ["note"]);
        let new = row([text("new"), Value::Integer(1), text("noted")]);
        assert_eq!(it.write(&after, Arc::new(vec![new.clone()])).await.unwrap(), []);
        let mut rows = it.read_back(&after).await;
        rows.sort_by_key(|row| format!("{row:?}"));
        assert_eq!(rows, [new, row([text("old"), Value::Integer(1), Value::Null])]);
    })
    .await;
}

#[tokio::test]
async fn setup_makes_dataset_and_tables_and_keeps_them() {
    let _alone = ONE_TEST_AT_A_TIME.lock().await;
    let dataset = fresh_name();
    let setup = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kappa"));
        command.arg("setup");
        for set in [
            "gcp.project=local",
            "warehouse.backend=bigquery",
            "warehouse.bigquery.mode=append",
            "warehouse.bigquery.labels.team=data",
            &format!("warehouse.bigquery.dataset={dataset}"),
            &format!("warehouse.bigquery.endpoint={}", endpoint()),
            &format!("warehouse.bigquery.write_endpoint={}", write_endpoint()),
        ] {
            command.args(["--set", set]);
        }
        let output = command.output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), told, String::from_utf8(output.stderr).unwrap())
    };
    let tables = ["dead_letters", "orders", "users", "products", "other"];
    let (code, told, error) = setup();
    assert_eq!((code, &*error), (Some(0), ""), "{told}");
    for table in tables {
        assert!(told.contains(&format!("created\ttable\tlocal.{dataset}.{table}\n")), "{told}");
    }
    // The emulator keeps no primary keys, which dead letters are upserted by.
    let (_, told, error) = setup();
    assert_eq!(error, "", "{told}");
    assert!(told.contains(&format!("kept\tdataset\tlocal.{dataset}\n")), "{told}");
    for table in &tables[1..] {
        assert!(told.contains(&format!("kept\ttable\tlocal.{dataset}.{table}\n")), "{told}");
    }
}
