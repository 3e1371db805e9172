//! The sections of the configuration, typed.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use config::{Map, Value, ValueKind};
use kappa_actors::archive::{Compression, LineFormat};
use kappa_actors::settings::{
    ArchiveWindowSettings, ParserSettings, ProcessorSettings, ReaderSettings, RouterSettings,
    SupervisorSettings, WatchdogSettings, WriterSettings, duration,
};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};

use super::cloud::{BigQuerySettings, GcsSettings, PubSubSettings};
use super::tree::{self, Layer};
use crate::backend::faulty::SinkFault;
use crate::telemetry::LogFormat;

/// The backend of the event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventLogBackend {
    /// Files on this machine.
    Embedded,
    /// Google Cloud Pub/Sub.
    PubSub,
}

impl EventLogBackend {
    /// As the configuration names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::PubSub => "pubsub",
        }
    }
}

/// The backend of the warehouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WarehouseBackend {
    /// Files on this machine.
    Embedded,
    /// Google Cloud BigQuery.
    BigQuery,
}

impl WarehouseBackend {
    /// As the configuration names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::BigQuery => "bigquery",
        }
    }
}

/// The backend of the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArchiveBackend {
    /// Files on this machine.
    Embedded,
    /// Google Cloud Storage.
    Gcs,
}

impl ArchiveBackend {
    /// As the configuration names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Gcs => "gcs",
        }
    }
}

/// `event_log`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventLogSettings {
    /// Which log events are read from.
    pub backend: EventLogBackend,
    /// The subscription whose acknowledgements this daemon keeps.
    pub subscription: String,
    /// How long the log keeps events.
    pub retention: Retention,
    /// `event_log.pubsub`
    pub pubsub: PubSubSettings,
}

/// `event_log.retention`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// How old an acknowledged event may grow.
    #[serde(deserialize_with = "duration")]
    pub max_age: Duration,
    /// How large the log may grow, in bytes.
    pub max_bytes: u64,
    /// How long a subscription is kept unused.
    #[serde(deserialize_with = "duration_or_none")]
    pub max_unused: Option<Duration>,
}

/// Reads a duration; zero is none.
fn duration_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    Ok(Some(duration(from)?).filter(|duration| !duration.is_zero()))
}

/// `dead_letters`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterSettings {
    /// How old a letter may grow before the daemon purges it.
    #[serde(deserialize_with = "duration_or_none")]
    pub max_age: Option<Duration>,
}

/// `warehouse`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarehouseSettings {
    /// Where rows are written.
    pub backend: WarehouseBackend,
    /// `warehouse.bigquery`
    pub bigquery: BigQuerySettings,
}

/// `archive`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveSettings {
    /// Where events are archived.
    pub backend: ArchiveBackend,
    /// The format of a line.
    pub format: LineFormat,
    /// How archived lines are compressed.
    pub compression: Compression,
    /// `archive.gcs`
    pub gcs: GcsSettings,
}

/// `actors`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActorSettings {
    /// `actors.reader`
    pub reader: ReaderSettings,
    /// `actors.parser`
    pub parser: ParserSettings,
    /// `actors.router`
    pub router: RouterSettings,
    /// `actors.processor`, by processor.
    pub processor: Each<ProcessorSettings>,
    /// `actors.writer`, by table.
    pub writer: Each<WriterSettings>,
    /// `actors.archive_window`
    pub archive_window: ArchiveWindowSettings,
    /// `actors.dead_letter`
    pub dead_letter: WriterSettings,
    /// `actors.supervisor`
    pub supervisor: SupervisorSettings,
    /// `actors.watchdog`
    pub watchdog: WatchdogSettings,
}

/// Settings of several actors of one kind: the same for all but those named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Each<T> {
    all: T,
    each: BTreeMap<String, T>,
}

impl<T> Each<T> {
    /// The settings of the actor for `name`, its overrides applied.
    #[must_use]
    pub fn of(&self, name: &str) -> &T {
        self.each.get(name).unwrap_or(&self.all)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Each<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut all = Map::<String, Value>::deserialize(from)?;
        let each = all.shift_remove("each").map(|value| value.kind);
        let read = |layers: &[Layer]| {
            let merged = tree::merge(layers).map_err(D::Error::custom)?;
            merged.try_deserialize().map_err(D::Error::custom)
        };
        let all = Layer(all);
        let mut overridden = BTreeMap::new();
        if let Some(ValueKind::Table(each)) = each {
            for (name, over) in each {
                let over = Layer(over.into_table().map_err(D::Error::custom)?);
                overridden.insert(name, read(&[all.clone(), over])?);
            }
        }
        Ok(Self { all: read(&[all])?, each: overridden })
    }
}

/// `status`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusSettings {
    /// Where the endpoint listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What requests must bring; empty for nothing, which only a loopback address may have.
    pub token: Token,
    /// Whether events are taken by POST.
    pub ingest: bool,
    /// `status.senders`, by name.
    #[serde(default)]
    pub senders: BTreeMap<String, SenderSettings>,
    /// `status.tls`
    pub tls: TlsSettings,
}

/// `status.senders.NAME`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SenderSettings {
    /// What its requests must bring.
    pub token: Token,
    /// How many events it may publish in a second.
    pub rate: Option<u64>,
}

/// `status.tls`: both files, or neither.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// A PEM file with the certificate and the certificates between it and its root; or empty.
    pub certificate: PathBuf,
    /// A PEM file with the certificate's private key; or empty.
    pub key: PathBuf,
}

/// A secret that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// `logging`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggingSettings {
    /// For people or for machines.
    pub format: LogFormat,
    /// A tracing filter.
    pub filter: String,
}

/// `faults`: the other keys have an effect only if `enabled` is true.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultSettings {
    /// Whether any fault is allowed.
    pub enabled: bool,
    /// Ids of events that panic the processor that meets them.
    pub panic_on: Vec<String>,
    /// Ids of events that abort the process.
    pub abort_on: Vec<String>,
    /// Texts of events whose whole dead letters abort the process.
    pub abort_on_letter: Vec<String>,
    /// A sink that fails for a while after the start.
    pub fail: Option<SinkFault>,
    /// A sink that waits for a while after the start.
    pub slow: Option<SinkFault>,
    /// A sink that never answers the calls of a while after the start.
    pub hang: Option<SinkFault>,
}
