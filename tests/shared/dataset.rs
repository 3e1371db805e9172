//! A dataset: written by the backend, and read as anybody reads it, by SQL over REST.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use chrono::NaiveDate;
use google_cloud_auth::credentials::{CacheableResource, Credentials};
use kappa::backend::bigquery::{BigQueryOptions, BigQueryWarehouse, WriteMode};
use kappa_actors::port::{ArchiveStore, EnsureError, Ensured, Warehouse, WriteError, Written};
use kappa_actors::row::{ColumnType, Row, TableSpec, Value};
use kappa_actors::testing::warehouse::ReadBack;
use kappa_actors::time::Timestamp;
use serde_json::{Value as Json, json};

/// The service's own address.
const SERVICE: &str = "https://bigquery.googleapis.com";

/// One dataset, all tables in one mode.
pub(crate) struct Dataset {
    pub(crate) warehouse: BigQueryWarehouse,
    pub(crate) mode: WriteMode,
    pub(crate) sql: Sql,
}

impl Dataset {
    pub(crate) fn open(options: BigQueryOptions, payloads: Option<Arc<dyn ArchiveStore>>) -> Self {
        let (mode, sql) = (options.tables.mode.unwrap(), Sql::new(&options));
        let warehouse = BigQueryWarehouse::connect(options, payloads).unwrap();
        Self { warehouse, mode, sql }
    }
}

#[async_trait]
impl Warehouse for Dataset {
    async fn ensure_table(&self, table: &TableSpec) -> Result<Ensured, EnsureError> {
        self.warehouse.ensure_table(table).await
    }

    async fn is_empty(&self, table: &TableSpec) -> Result<bool, EnsureError> {
        self.warehouse.is_empty(table).await
    }

    async fn write(
        &self,
        table: &Arc<TableSpec>,
        rows: Arc<Vec<Row>>,
    ) -> Result<Written, WriteError> {
        self.warehouse.write(table, rows).await
    }
}

#[async_trait]
impl ReadBack for Dataset {
    /// A keyed table that is appended to is read through its view.
    async fn read_back(&self, table: &TableSpec) -> Vec<Row> {
        let by_view =
            self.mode == WriteMode::Append && !table.key.is_empty() && table.version.is_some();
        let view = if by_view { "_deduplicated" } else { "" };
        let columns = table.columns.iter().map(|column| format!("`{}`", column.name));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let from = self.sql.name(&format!("{}{view}", table.name));
        let rows = self.sql.query(&format!("SELECT {columns} FROM {from}")).await;
        let value = |(at, cell): (usize, &Json)| value(table.columns[at].kind, cell);
        rows.iter().map(|cells| Row(cells.iter().enumerate().map(value).collect())).collect()
    }
}

/// Queries, with a client that shares nothing with the backend's.
pub(crate) struct Sql {
    http: reqwest::Client,
    credentials: Credentials,
    url: String,
    dataset: String,
    location: String,
}

impl Sql {
    pub(crate) fn new(options: &BigQueryOptions) -> Self {
        let base = options.endpoint.as_deref().unwrap_or(SERVICE);
        Self {
            http: reqwest::Client::new(),
            credentials: options.credentials.clone(),
            url: format!("{base}/bigquery/v2/projects/{}/queries", options.project),
            dataset: format!("{}.{}", options.project, options.dataset),
            location: options.location.clone(),
        }
    }

    /// Returns the name of a table or a view in a query.
    pub(crate) fn name(&self, table: &str) -> String {
        format!("`{}.{table}`", self.dataset)
    }

    /// The rows that a query finds, each value as a text or null.
    pub(crate) async fn query(&self, sql: &str) -> Vec<Vec<Json>> {
        // Queries of small tables: no answer is worth waiting for longer.
        let body = json!({
            "query": sql,
            "useLegacySql": false,
            "useQueryCache": false,
            "location": self.location,
            "timeoutMs": "60000",
            "formatOptions": { "useInt64Timestamp": true },
        });
        let mut request = self.http.post(&self.url).json(&body);
        let mut rows = Vec::new();
        loop {
            let asked = request.headers(headers(&self.credentials).await);
            let page: Json = asked.send().await.unwrap().json().await.unwrap();
            // An emulator answers a failed query with success; an incomplete query has no rows.
            let well = page["error"].is_null() && page["errors"].is_null();
            assert!(well && page["jobComplete"] == json!(true), "{sql}: {page}");
            let cells = |row: &Json| {
                row["f"].as_array().unwrap().iter().map(|cell| cell["v"].clone()).collect()
            };
            rows.extend(page["rows"].as_array().into_iter().flatten().map(cells));
            let Some(token) = page["pageToken"].as_str() else { return rows };
            let job = page["jobReference"]["jobId"].as_str().unwrap();
            request = self.http.get(format!("{}/{job}", self.url)).query(&[
                ("pageToken", token),
                ("location", &self.location),
                ("formatOptions.useInt64Timestamp", "true"),
            ]);
        }
    }
}

/// Returns the headers that authenticate a request.
pub(crate) async fn headers(credentials: &Credentials) -> http::HeaderMap {
    match credentials.headers(http::Extensions::new()).await.unwrap() {
        CacheableResource::New { data, .. } => data,
        CacheableResource::NotModified => http::HeaderMap::new(),
    }
}

/// A value as a query shows it:
/// <https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/getQueryResults>.
fn value(kind: ColumnType, cell: &Json) -> Value {
    let Some(text) = cell.as_str() else {
        assert!(cell.is_null(), "{cell} is neither text nor null");
        return Value::Null;
    };
    match kind {
        ColumnType::String | ColumnType::Numeric | ColumnType::Json => Value::Text(text.into()),
        ColumnType::Integer => Value::Integer(text.parse().unwrap()),
        ColumnType::Float => Value::Float(text.parse().unwrap()),
        ColumnType::Boolean => Value::Boolean(text.parse().unwrap()),
        ColumnType::Timestamp => Value::Timestamp(Timestamp::from_micros(text.parse().unwrap())),
        ColumnType::Date => Value::Date(text.parse::<NaiveDate>().unwrap().to_epoch_days()),
        ColumnType::Bytes => {
            let bytes = base64::prelude::BASE64_STANDARD.decode(text).unwrap();
            Value::Bytes(Box::new(bytes.into()))
        }
    }
}
