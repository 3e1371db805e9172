use std::collections::BTreeMap;
use std::time::Duration;

use google_cloud_auth::credentials::Credentials;

/// Where the warehouse is, and how it is written.
#[derive(Clone, Debug)]
pub struct BigQueryOptions {
    /// The project of the dataset, also the one that queries are billed to.
    pub project: String,
    /// The dataset of all tables.
    pub dataset: String,
    /// Where a dataset is made: `EU`, `us-central1`.
    pub location: String,
    /// Another address than the service's for REST: `http://host:port`.
    pub endpoint: Option<String>,
    /// Another address than the service's for the Storage Write API: `http://host:port`.
    pub write_endpoint: Option<String>,
    /// Who asks.
    pub credentials: Credentials,
    /// Requests of one table sent and not yet answered, at most.
    pub max_requests_in_flight: usize,
    /// How long one request waits for its answer.
    pub request_timeout: Duration,
    /// The first pause after a quota error; it doubles up to `max_quota_backoff`.
    pub quota_backoff: Duration,
    /// The longest pause after a quota error.
    pub max_quota_backoff: Duration,
    /// How long a change of a table's columns may take to reach the Storage Write API.
    pub schema_spread: Duration,
    /// Of all tables that `each` does not name.
    pub tables: TableOptions,
    /// Of single tables.
    pub each: BTreeMap<String, TableOptions>,
}

/// How a table with a key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// BigQuery keeps the newest row of a key (change data capture).
    Upsert,
    /// Every row is added; a view shows the newest of a key.
    Append,
}

/// Options of one table. A table without a key is appended to in any mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableOptions {
    /// How it is written. `None`: it is appended to if it keeps events, and takes upserts if it keeps
    /// the latest state of its keys.
    pub mode: Option<WriteMode>,
    /// How stale a query's answer may be, for upserts; zero asks for the newest always.
    pub max_staleness: Duration,
    /// Labels of the table.
    pub labels: BTreeMap<String, String>,
}
