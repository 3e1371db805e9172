//! Servers on the loopback, which need no credentials.

use std::collections::BTreeMap;
use std::time::Duration;

use google_cloud_auth::credentials::anonymous;
use kappa::backend::bigquery::{BigQueryOptions, TableOptions, WriteMode};

/// Options of a warehouse there; its addresses are the caller's to say.
pub(crate) fn bigquery(project: &str, dataset: &str, mode: WriteMode) -> BigQueryOptions {
    BigQueryOptions {
        project: project.to_owned(),
        dataset: dataset.to_owned(),
        location: "EU".to_owned(),
        endpoint: None,
        write_endpoint: None,
        credentials: anonymous::Builder::new().build(),
        max_requests_in_flight: 4,
        request_timeout: Duration::from_secs(10),
        quota_backoff: Duration::from_millis(300),
        max_quota_backoff: Duration::from_secs(2),
        schema_spread: Duration::from_secs(60),
        tables: TableOptions {
            mode: Some(mode),
            max_staleness: Duration::ZERO,
            labels: BTreeMap::new(),
        },
        each: BTreeMap::new(),
    }
}
