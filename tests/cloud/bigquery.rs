//! BigQuery as the warehouse, against a server that speaks its protocols.

mod faults;
mod letters;
mod staging;
mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use google_cloud_auth::credentials::anonymous;
use kappa::backend::bigquery::{BigQueryOptions, BigQueryWarehouse, TableOptions, WriteMode};
use kappa_actors::port::{ArchiveStore, EnsureError, Ensured, Refusal, Warehouse, WriteError};
use kappa_actors::row::{ColumnType, Row, TableSpec, Value};
use kappa_actors::testing::warehouse::{
    ReadBack, conforms, conforms_but_for_equal_versions, row, table, text,
};
use kappa_actors::time::Timestamp;
use kappa_test_servers::bigquery::{BigQueryServer, Control};
use serde_json::{Value as Json, json};

const VERSIONED: [(&str, ColumnType); 3] =
    [("id", ColumnType::String), ("said", ColumnType::String), ("_version", ColumnType::Integer)];

/// A warehouse on a server of its own.
struct Cloud {
    server: BigQueryServer,
    warehouse: BigQueryWarehouse,
    mode: WriteMode,
}

fn options(server: &BigQueryServer, mode: WriteMode) -> BigQueryOptions {
    let labels = BTreeMap::from([("team".to_owned(), "data".to_owned())]);
    BigQueryOptions {
        project: "p".to_owned(),
        dataset: "d".to_owned(),
        location: "EU".to_owned(),
        endpoint: Some(server.rest_endpoint()),
        write_endpoint: Some(server.grpc_endpoint()),
        credentials: anonymous::Builder::new().build(),
        max_requests_in_flight: 4,
        request_timeout: Duration::from_secs(10),
        quota_backoff: Duration::from_millis(300),
        max_quota_backoff: Duration::from_secs(2),
        tables: TableOptions { mode, max_staleness: Duration::from_secs(600), labels },
        each: BTreeMap::new(),
    }
}

impl Cloud {
    async fn start(mode: WriteMode) -> Self {
        Self::with(mode, |_| {}, None).await
    }

    async fn with(
        mode: WriteMode,
        change: impl FnOnce(&mut BigQueryOptions),
        payloads: Option<Arc<dyn ArchiveStore>>,
    ) -> Self {
        let server = BigQueryServer::start().await.unwrap();
        let mut options = options(&server, mode);
        change(&mut options);
        let warehouse = BigQueryWarehouse::connect(options, payloads).unwrap();
        Self { server, warehouse, mode }
    }

    fn control(&self) -> Control {
        self.server.control()
    }

    /// What a reader sees of the ids and what they say.
    async fn said(&self, table: &TableSpec) -> Vec<(String, String)> {
        let show = |value: &Value| match value {
            Value::Text(text) => text.to_string(),
            other => format!("{other:?}"),
        };
        let rows = self.read_back(table).await;
        let mut said: Vec<_> = rows.iter().map(|row| (show(&row.0[0]), show(&row.0[1]))).collect();
        said.sort();
        said
    }

    async fn query(&self, sql: &str) -> Vec<Vec<Json>> {
        let url = format!("{}/bigquery/v2/projects/p/queries", self.server.rest_endpoint());
        let body = json!({ "query": sql, "useLegacySql": false }).to_string();
        let client = reqwest::Client::new();
        let mut answer = client.post(&url).body(body).send().await.unwrap();
        let mut found = Vec::new();
        loop {
            let page: Json = answer.json().await.unwrap();
            let rows = page["rows"].as_array().cloned().unwrap_or_default();
            let cells = |row: &Json| {
                row["f"].as_array().unwrap().iter().map(|cell| cell["v"].clone()).collect()
            };
            found.extend(rows.iter().map(cells));
            let Some(token) = page["pageToken"].as_str() else { return found };
            let job = page["jobReference"]["jobId"].as_str().unwrap();
            answer = client.get(format!("{url}/{job}?pageToken={token}")).send().await.unwrap();
        }
    }
}

#[async_trait]
impl Warehouse for Cloud {
    async fn ensure_table(&self, table: &TableSpec) -> Result<Ensured, EnsureError> {
        self.warehouse.ensure_table(table).await
    }

    async fn write(
        &self,
        table: &Arc<TableSpec>,
        rows: Arc<Vec<Row>>,
    ) -> Result<Vec<Refusal>, WriteError> {
        self.warehouse.write(table, rows).await
    }
}

#[async_trait]
impl ReadBack for Cloud {
    async fn read_back(&self, table: &TableSpec) -> Vec<Row> {
        let name = format!("p.d.{}", table.name);
        let by_view =
            self.mode == WriteMode::Append && !table.key.is_empty() && table.version.is_some();
        let rows: Vec<Vec<Json>> = if by_view {
            let columns: Vec<_> =
                table.columns.iter().map(|column| format!("`{}`", column.name)).collect();
            let sql = format!("SELECT {} FROM `{name}_deduplicated`", columns.join(", "));
            self.query(&sql).await
        } else {
            let cell = |row: &serde_json::Map<String, Json>, column: &str| {
                row.get(column).cloned().unwrap_or(Json::Null)
            };
            let rows = self.control().rows(&name);
            let cells = rows
                .iter()
                .map(|row| table.columns.iter().map(|column| cell(row, &column.name)).collect());
            cells.collect()
        };
        let value = |(at, cell): (usize, &Json)| value(table.columns[at].kind, cell);
        rows.iter().map(|cells| Row(cells.iter().enumerate().map(value).collect())).collect()
    }
}

/// A value as the server shows it, as such or as a text.
fn value(kind: ColumnType, cell: &Json) -> Value {
    let text = match cell {
        Json::Null => return Value::Null,
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    match kind {
        ColumnType::String | ColumnType::Numeric | ColumnType::Json => Value::Text(text.into()),
        ColumnType::Integer => Value::Integer(text.parse().unwrap()),
        ColumnType::Float => Value::Float(text.parse().unwrap()),
        ColumnType::Boolean => Value::Boolean(text == "1" || text == "true"),
        ColumnType::Timestamp => Value::Timestamp(Timestamp::from_micros(text.parse().unwrap())),
        // As it is stored, or as a query shows it.
        ColumnType::Date => Value::Date(
            text.parse()
                .unwrap_or_else(|_| text.parse::<chrono::NaiveDate>().unwrap().to_epoch_days()),
        ),
        ColumnType::Bytes => {
            let bytes = base64::prelude::BASE64_STANDARD.decode(text).unwrap();
            Value::Bytes(Box::new(bytes.into()))
        }
    }
}

fn said(id: &str, said: &str, version: i64) -> Row {
    row([text(id), text(said), Value::Integer(version)])
}

/// Ids with what they say, `count` of them from `first` on.
fn many(first: usize, count: usize) -> Arc<Vec<Row>> {
    Arc::new((first..first + count).map(|n| said(&format!("{n:06}"), "hello", 1)).collect())
}

#[tokio::test]
async fn upserts_conform() {
    let cloud = Cloud::start(WriteMode::Upsert).await;
    conforms(&cloud).await;
    assert_eq!(cloud.control().violations(), [""; 0]);
}

#[tokio::test]
async fn appends_conform_through_their_view() {
    let cloud = Cloud::start(WriteMode::Append).await;
    conforms_but_for_equal_versions(&cloud).await;
    cloud.warehouse.close().await;
    assert_eq!(cloud.control().violations(), [""; 0]);
    let streams = cloud.control().streams();
    assert!(!streams.is_empty() && streams.iter().all(|stream| stream.finalized), "{streams:?}");
}
