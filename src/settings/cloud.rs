//! The sections of the configuration that only the backends on Google Cloud read, typed.
//!
//! An empty text means that a key is not set. This module does not need the feature `gcp`: a build without it reads
//! the same files, and refuses the backends, not their keys.

use std::collections::BTreeMap;
use std::time::Duration;

use kappa_actors::row::TableSpec;
use kappa_actors::settings::duration;
use serde::{Deserialize, Deserializer};

/// `gcp`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GcpSettings {
    /// The project of topic, subscription, dataset and bucket.
    pub project: String,
    /// A file with credentials; empty for application default credentials.
    pub credentials: String,
}

/// `event_log.pubsub`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PubSubSettings {
    /// The topic to publish to.
    pub topic: String,
    /// Another address than the service's, for gRPC.
    #[serde(deserialize_with = "optional")]
    pub endpoint: Option<String>,
    /// The endpoint of the administration over REST.
    #[serde(deserialize_with = "optional")]
    pub admin_endpoint: Option<String>,
    /// Streams that messages are pulled on side by side.
    pub streams: usize,
    /// How long a message's lease is extended at most.
    #[serde(deserialize_with = "duration")]
    pub max_lease: Duration,
    /// Whether messages are published, and the subscription is made, with ordering.
    pub ordering: bool,
    /// Whether the subscription is made with exactly-once delivery.
    pub exactly_once: bool,
    /// The filter that the subscription is made with.
    #[serde(deserialize_with = "optional")]
    pub filter: Option<String>,
    /// How long the topic is made to keep messages.
    #[serde(deserialize_with = "duration")]
    pub topic_retention: Duration,
}

/// `warehouse.bigquery`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BigQuerySettings {
    /// The dataset of all tables.
    pub dataset: String,
    /// Where the dataset is made.
    pub location: String,
    /// Another address than the service's for REST.
    #[serde(deserialize_with = "optional")]
    pub endpoint: Option<String>,
    /// Another address than the service's for the Storage Write API.
    #[serde(deserialize_with = "optional")]
    pub write_endpoint: Option<String>,
    /// Requests of one table sent and not yet answered, at most.
    pub max_requests_in_flight: usize,
    /// How long one request waits for its answer.
    #[serde(deserialize_with = "duration")]
    pub request_timeout: Duration,
    /// The first pause after a quota error.
    #[serde(deserialize_with = "duration")]
    pub quota_backoff: Duration,
    /// The longest pause after a quota error.
    #[serde(deserialize_with = "duration")]
    pub max_quota_backoff: Duration,
    /// How long a change of a table's columns may take to reach the service.
    #[serde(deserialize_with = "duration")]
    pub schema_spread: Duration,
    /// How tables with a key are written.
    mode: TableMode,
    /// How stale a query's answer may be.
    #[serde(deserialize_with = "duration")]
    max_staleness: Duration,
    /// Labels of every table.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Overrides for single tables.
    #[serde(default)]
    each: BTreeMap<String, TableOverride>,
}

/// How a table with a key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableMode {
    /// Appended to if the key holds the event's id, otherwise upserted.
    Auto,
    /// BigQuery keeps the newest row of a key.
    Upsert,
    /// Every row is added; a view shows the newest of a key.
    Append,
}

/// `warehouse.bigquery.each.TABLE`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableOverride {
    mode: Option<TableMode>,
    #[serde(default, deserialize_with = "optional_duration")]
    max_staleness: Option<Duration>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// How one table is made and written, its overrides applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSettings {
    /// How it is written, if it has a key.
    pub mode: TableMode,
    /// How stale a query's answer may be.
    pub max_staleness: Duration,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl TableSettings {
    /// Whether rows of a table with a key are appended.
    #[must_use]
    pub fn appends(&self, table: &TableSpec) -> bool {
        match self.mode {
            TableMode::Auto => table.keeps_events,
            mode => mode == TableMode::Append,
        }
    }
}

impl BigQuerySettings {
    /// Returns the settings of one table.
    #[must_use]
    pub fn of(&self, table: &str) -> TableSettings {
        self.each().remove(table).unwrap_or_else(|| self.tables())
    }

    /// Returns the settings of the tables without overrides.
    #[must_use]
    pub fn tables(&self) -> TableSettings {
        let labels = self.labels.clone();
        TableSettings { mode: self.mode, max_staleness: self.max_staleness, labels }
    }

    /// Returns the settings of each table with overrides.
    #[must_use]
    pub fn each(&self) -> BTreeMap<String, TableSettings> {
        let over = |over: &TableOverride| {
            let mut table = self.tables();
            table.mode = over.mode.unwrap_or(table.mode);
            table.max_staleness = over.max_staleness.unwrap_or(table.max_staleness);
            table.labels.extend(over.labels.clone());
            table
        };
        self.each.iter().map(|(name, table)| (name.clone(), over(table))).collect()
    }
}

/// `archive.gcs`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GcsSettings {
    /// The bucket.
    pub bucket: String,
    /// The prefix of every object's name.
    pub prefix: String,
    /// The storage class of final objects from their second day on; `None` leaves them as they are.
    #[serde(deserialize_with = "optional")]
    pub storage_class: Option<String>,
    /// Where the bucket is made.
    pub location: String,
    /// Another address than the service's for JSON/HTTP.
    #[serde(deserialize_with = "optional")]
    pub endpoint: Option<String>,
    /// Another address than the service's for gRPC.
    #[serde(deserialize_with = "optional")]
    pub control_endpoint: Option<String>,
    /// How long one call may take, its retries included.
    #[serde(deserialize_with = "duration")]
    pub attempt_timeout: Duration,
}

fn optional<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Some(String::deserialize(from)?).filter(|text| !text.is_empty()))
}

fn optional_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    duration(from).map(Some)
}
