//! BigQuery as the warehouse, against a server that speaks its protocols.

mod audit;
mod bounds;
mod compact;
mod faults;
mod gone;
mod letters;
mod staging;
mod tables;
mod wire;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use kappa::backend::bigquery::{BigQueryOptions, BigQueryWarehouse, TableOptions, WriteMode};
use kappa_actors::port::{ArchiveStore, EnsureError, Ensured, Refusal, Warehouse, WriteError};
use kappa_actors::position::Position;
use kappa_actors::row::{ColumnType, Row, TableSpec, Value};
use kappa_actors::testing::warehouse::{
    ReadBack, conforms_but_for_equal_versions, row, table, text, version,
};
use kappa_actors::time::Timestamp;
use kappa_actors::version::Version;
use kappa_test_servers::bigquery::{BigQueryServer, Control};
use serde_json::json;

use crate::dataset::Dataset;
use crate::loopback;

const VERSIONED: [(&str, ColumnType); 3] =
    [("id", ColumnType::String), ("said", ColumnType::String), ("_version", ColumnType::Bytes)];

/// A warehouse on a server of its own.
struct Cloud {
    server: BigQueryServer,
    dataset: Dataset,
}

impl Deref for Cloud {
    type Target = Dataset;

    fn deref(&self) -> &Dataset {
        &self.dataset
    }
}

fn options(server: &BigQueryServer, mode: WriteMode) -> BigQueryOptions {
    let labels = BTreeMap::from([("team".to_owned(), "data".to_owned())]);
    BigQueryOptions {
        endpoint: Some(server.rest_endpoint()),
        write_endpoint: Some(server.grpc_endpoint()),
        tables: TableOptions { mode: Some(mode), max_staleness: Duration::from_secs(600), labels },
        ..loopback::bigquery("p", "d", mode)
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
        Self { server, dataset: Dataset::open(options, payloads) }
    }

    fn control(&self) -> Control {
        self.server.control()
    }

    /// Returns the ids and texts that a reader sees.
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
}

fn said(id: &str, said: &str, version: i64) -> Row {
    row([text(id), text(said), self::version(version)])
}

/// Returns rows of ids and texts, `count` of them from `first` on.
fn many(first: usize, count: usize) -> Arc<Vec<Row>> {
    Arc::new((first..first + count).map(|n| said(&format!("{n:06}"), "hello", 1)).collect())
}

#[tokio::test]
async fn upserts_conform() {
    let cloud = Cloud::start(WriteMode::Upsert).await;
    conforms_but_for_equal_versions(&cloud.dataset).await;
    assert_eq!(cloud.control().violations(), [""; 0]);
}

#[tokio::test]
async fn appends_conform_through_their_view() {
    let cloud = Cloud::start(WriteMode::Append).await;
    conforms_but_for_equal_versions(&cloud.dataset).await;
    cloud.warehouse.close().await;
    assert_eq!(cloud.control().violations(), [""; 0]);
    let streams = cloud.control().streams();
    assert!(!streams.is_empty() && streams.iter().all(|stream| stream.finalized), "{streams:?}");
}
