//! Makes the plan of the pipeline and its backends from the settings.
//!
//! [`Blueprint::of`] finds every mistake that can be found without files and services; a pipeline starts from a
//! blueprint only.

mod audit;
#[cfg(feature = "gcp")]
pub mod cloud;
mod rules;
#[cfg(feature = "gcp")]
mod setup;
mod staging;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
#[cfg(not(feature = "gcp"))]
use anyhow::bail;
use kappa_actors::archive::LineFormat;
use kappa_actors::dead_letter_table;
use kappa_actors::envelope::EnvelopePlan;
use kappa_actors::pipeline::{ArchivePlan, EventFaults, Plan, Ports, ProcessorSpec};
use kappa_actors::port::{ArchiveStore, DeadLetterStore, EventLog, Warehouse};
use kappa_actors::processor::{EventLimits, PlanError, Processor, ProcessorConfig, ProcessorPlan};
use kappa_actors::settings::ActorSettings;

use crate::backend::embedded::archive::LocalArchive;
use crate::backend::embedded::folder;
use crate::backend::embedded::log::{EmbeddedLog, LogOptions};
use crate::backend::embedded::warehouse::{self, EmbeddedWarehouse};
use crate::backend::faulty::{Faults, Sink, SinkFault};
use crate::settings::{
    ArchiveBackend, EventLogBackend, Fault, FaultSettings, Problem, Problems, Settings,
    WarehouseBackend,
};
pub use audit::{acknowledged, open_audit};
pub use rules::{RuleBook, RuleChange};
#[cfg(feature = "gcp")]
pub use setup::{lacking, set_up};
pub use staging::{find_staging, open_staging};

/// A configuration with its rules compiled.
#[derive(Clone, Debug)]
pub struct Blueprint {
    /// Where an event keeps its identity.
    pub envelope: Arc<EnvelopePlan>,
    /// The processors.
    pub processors: Vec<Rule>,
}

/// One processor.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The rule that makes the rows.
    pub plan: Arc<ProcessorPlan>,
    /// As configured.
    pub config: ProcessorConfig,
    /// A hash of all that decides which rows are made of which events, the revision aside.
    pub fingerprint: String,
}

impl Blueprint {
    /// The revision of the rule that fills this table; 0 if none does.
    pub(crate) fn revision(&self, table: &str) -> u16 {
        let rule = self.processors.iter().find(|rule| rule.plan.table().name == table);
        rule.map_or(0, |rule| rule.plan.revision())
    }

    /// Compiles the rules of a configuration.
    ///
    /// # Errors
    /// All mistakes in them.
    pub fn of(settings: &Settings) -> Result<Self, Problems> {
        let envelope = EnvelopePlan::compile(&settings.envelope, settings.max_event_bytes)
            .map_err(|error| settings.problem(&error.into()))?;
        let processors = settings.compile_processors(|name, config: ProcessorConfig| {
            let actor = settings.actors.processor.of(name);
            let limits = EventLimits {
                max_rows: actor.max_rows_per_event,
                max_bytes: actor.max_bytes_per_event,
            };
            let plan = ProcessorPlan::compile(name, &config, &envelope, limits)?;
            Ok(Rule { plan: Arc::new(plan), config, fingerprint: String::new() })
        })?;
        let processors = fingerprinted(settings, processors);
        let mut faults = shared_tables(&processors);
        faults.extend(unreplayable_columns(settings, &processors));
        faults.extend(missing_sinks(settings, &processors));
        let problems: Vec<Problem> = faults.iter().map(|fault| settings.problem(fault)).collect();
        Problems::none_or(problems, Self { envelope: Arc::new(envelope), processors })
    }

    /// Returns the plan of the pipeline.
    #[must_use]
    pub fn plan(&self, settings: &Settings) -> Plan {
        let actors = &settings.actors;
        let spec = |rule: &Rule| ProcessorSpec {
            processor: Arc::clone(&rule.plan) as Arc<dyn Processor>,
            observes: false,
            restart: actors.processor.of(rule.plan.name()).restart.clone(),
            writer: actors.writer.of(&rule.plan.table().name).clone(),
            freshness: rule.plan.freshness(),
        };
        Plan {
            envelope: Arc::clone(&self.envelope),
            processors: self.processors.iter().map(spec).collect(),
            elsewhere: Vec::new(),
            archive: Some(ArchivePlan {
                format: settings.archive.format,
                compression: settings.archive.compression,
                // The lock on the data folder keeps other daemons away; a bucket is shared.
                exclusive: settings.archive.backend == ArchiveBackend::Embedded,
            }),
            actors: ActorSettings {
                reader: actors.reader.clone(),
                parser: actors.parser.clone(),
                router: actors.router.clone(),
                archive_window: actors.archive_window.clone(),
                dead_letter: actors.dead_letter.clone(),
                supervisor: actors.supervisor.clone(),
                watchdog: actors.watchdog.clone(),
            },
            faults: EventFaults {
                panic_on: settings.faults.panic_on.iter().cloned().collect(),
                abort_on: settings.faults.abort_on.iter().cloned().collect(),
                abort_on_letter: settings.faults.abort_on_letter.clone(),
            },
            staging_replay: None,
            requeued: None,
            event_time: None,
        }
    }
}

/// Fills in the fingerprints. The envelope decides which events are valid; a processor of `*` gets
/// the events that no other processor takes, so the patterns of the others are a part of its rule.
fn fingerprinted(settings: &Settings, mut processors: Vec<Rule>) -> Vec<Rule> {
    let mut all: Vec<String> =
        processors.iter().flat_map(|rule| rule.plan.patterns()).cloned().collect();
    all.sort_unstable();
    for rule in &mut processors {
        let takes_the_rest = rule.plan.patterns().iter().any(|pattern| pattern == "*");
        let routing: &[String] = if takes_the_rest { &all } else { &[] };
        let parts = serde_json::json!([rule.config.fingerprint(), settings.envelope, routing]);
        let hash = blake3::hash(parts.to_string().as_bytes());
        hash.to_hex()[..32].clone_into(&mut rule.fingerprint);
    }
    processors
}

/// Two processors, or one and the dead letters, may not fill one table.
fn shared_tables(processors: &[Rule]) -> Vec<Fault> {
    let mut owners = HashMap::from([(dead_letter_table::NAME.to_owned(), "the dead letters")]);
    let mut faults = Vec::new();
    for rule in processors {
        let (name, table) = (rule.plan.name(), &rule.plan.table().name);
        // Some warehouses ignore case in table names, so names must differ in more than case.
        if let Some(owner) = owners.insert(table.to_lowercase(), name) {
            faults.push(Fault {
                key: format!("processors.{name}.table"),
                reason: format!("is {table:?}, the table of {owner} already"),
                hint: Some("a table belongs to one processor: choose another name".to_owned()),
            });
        }
    }
    faults
}

/// Refuses columns from the message's metadata in an archive of payloads, which does not hold them.
fn unreplayable_columns(settings: &Settings, processors: &[Rule]) -> Vec<Fault> {
    if settings.archive.format != LineFormat::Payload {
        return Vec::new();
    }
    let columns = processors.iter().flat_map(|rule| {
        rule.plan.message_columns().map(|(column, need)| Fault {
            key: format!("processors.{}.columns.{column}", rule.plan.name()),
            reason: format!("needs {need}, which an archive of payloads does not hold"),
            hint: Some("set archive.format = \"annotated\", or leave the column out".to_owned()),
        })
    });
    columns.collect()
}

/// A fault aimed at a sink that is not there would test nothing.
fn missing_sinks(settings: &Settings, processors: &[Rule]) -> Vec<Fault> {
    let tables: HashSet<&str> = processors.iter().map(|rule| &*rule.plan.table().name).collect();
    let ordered = &settings.faults;
    let aimed = [
        ("faults.fail", &ordered.fail),
        ("faults.slow", &ordered.slow),
        ("faults.hang", &ordered.hang),
    ];
    aimed
        .into_iter()
        .filter_map(|(key, fault)| match fault {
            Some(SinkFault { sink: Sink::Writer(table), .. }) if !tables.contains(&**table) => {
                Some(Fault {
                    key: format!("{key}.sink"),
                    reason: format!("is \"writer.{table}\", and no processor fills {table}"),
                    hint: None,
                })
            }
            _ => None,
        })
        .collect()
}

impl From<PlanError> for Fault {
    fn from(error: PlanError) -> Self {
        Self { key: error.key, reason: error.reason, hint: error.hint }
    }
}

/// The log of a configuration.
///
/// # Errors
/// Names the file and its fault, or the service's refusal.
pub async fn open_log(settings: &Settings) -> anyhow::Result<Arc<dyn EventLog>> {
    match settings.event_log.backend {
        EventLogBackend::Embedded => {
            Ok(Arc::new(blocking(settings, embedded_log).await?) as Arc<dyn EventLog>)
        }
        #[cfg(feature = "gcp")]
        EventLogBackend::PubSub => {
            let options = cloud::pubsub_options(settings)?;
            Ok(Arc::new(crate::backend::pubsub::PubSubLog::connect(options).await?))
        }
        #[cfg(not(feature = "gcp"))]
        EventLogBackend::PubSub => bail!(no_connection("event_log.backend", "pubsub")),
    }
}

/// The dead letters of a configuration; `None` if there is no warehouse, which is not created for this.
///
/// # Errors
/// Names the file and its fault, or the service's refusal.
pub async fn open_dead_letters(
    settings: &Settings,
) -> anyhow::Result<Option<Arc<dyn DeadLetterStore>>> {
    match settings.warehouse.backend {
        WarehouseBackend::Embedded => {
            let folder = &settings.data_dir;
            let exists = folder.join(warehouse::FILE).try_exists();
            if !exists.with_context(|| folder.display().to_string())? {
                return Ok(None);
            }
            let warehouse = blocking(settings, embedded_warehouse).await?;
            Ok(Some(Arc::new(warehouse.with_payloads(open_archive(settings).await?))))
        }
        #[cfg(feature = "gcp")]
        WarehouseBackend::BigQuery => {
            let payloads = open_archive(settings).await?;
            Ok(Some(Arc::new(bigquery(settings, payloads)?)))
        }
        #[cfg(not(feature = "gcp"))]
        WarehouseBackend::BigQuery => bail!(no_connection("warehouse.backend", "bigquery")),
    }
}

#[cfg(feature = "gcp")]
fn bigquery(
    settings: &Settings,
    payloads: Arc<dyn ArchiveStore>,
) -> anyhow::Result<crate::backend::bigquery::BigQueryWarehouse> {
    let options = cloud::bigquery_options(settings)?;
    Ok(crate::backend::bigquery::BigQueryWarehouse::connect(options, Some(payloads))?)
}

/// The archive of a configuration.
///
/// # Errors
/// Names the folder and its fault, or the service's refusal.
pub async fn open_archive(settings: &Settings) -> anyhow::Result<Arc<dyn ArchiveStore>> {
    match settings.archive.backend {
        ArchiveBackend::Embedded => Ok(Arc::new(blocking(settings, embedded_archive).await?)),
        #[cfg(feature = "gcp")]
        ArchiveBackend::Gcs => {
            let options = cloud::gcs_options(settings)?;
            Ok(Arc::new(crate::backend::gcs::GcsArchive::connect(options).await?))
        }
        #[cfg(not(feature = "gcp"))]
        ArchiveBackend::Gcs => bail!(no_connection("archive.backend", "gcs")),
    }
}

/// All backends of a configuration, with its faults. Each may be of another kind.
///
/// # Errors
/// Names the file and its fault, or the service's refusal.
pub async fn open_ports(settings: &Settings) -> anyhow::Result<Ports> {
    let log = open_log(settings).await?;
    let archive = open_archive(settings).await?;
    #[cfg(feature = "gcp")]
    let log = cloud::tried(settings, log, &archive);
    let warehouse = open_warehouse(settings, Arc::clone(&archive)).await?;
    Ok(with_faults(settings, Ports { log, warehouse, archive }))
}

/// The warehouse of a configuration. Payloads that are too large for a row go to `payloads`.
///
/// # Errors
/// Names the file and its fault, or the service's refusal.
pub async fn open_warehouse(
    settings: &Settings,
    payloads: Arc<dyn ArchiveStore>,
) -> anyhow::Result<Arc<dyn Warehouse>> {
    match settings.warehouse.backend {
        WarehouseBackend::Embedded => Ok(Arc::new(blocking(settings, embedded_warehouse).await?)),
        #[cfg(feature = "gcp")]
        WarehouseBackend::BigQuery => Ok(Arc::new(bigquery(settings, payloads)?)),
        #[cfg(not(feature = "gcp"))]
        WarehouseBackend::BigQuery => bail!(no_connection("warehouse.backend", "bigquery")),
    }
}

/// Wraps the ports with the configured faults.
#[must_use]
pub fn with_faults(settings: &Settings, ports: Ports) -> Ports {
    let FaultSettings { fail, slow, hang, .. } = &settings.faults;
    let faults = Faults::armed(fail.as_ref(), slow.as_ref(), hang.as_ref());
    let Ports { log, warehouse, archive } = ports;
    Ports { log, warehouse: faults.warehouse(warehouse), archive: faults.archive(archive) }
}

/// A service is never replaced by files on this machine.
#[cfg(not(feature = "gcp"))]
fn no_connection(key: &str, backend: &str) -> String {
    format!("{key} is \"{backend}\", which this version of kappa does not connect to")
}

/// The embedded log of a configuration, read through a job's own subscription, which is forgotten
/// when it was not used for `life`.
///
/// # Errors
/// Names the file and its fault.
pub async fn open_embedded_log(
    settings: &Settings,
    subscription: &str,
    life: Duration,
) -> anyhow::Result<EmbeddedLog> {
    let (settings, subscription) = (settings.clone(), subscription.to_owned());
    let open = move || embedded_log_of(&settings, subscription, Some(life));
    tokio::task::spawn_blocking(open).await?
}

fn embedded_log(settings: &Settings) -> anyhow::Result<EmbeddedLog> {
    embedded_log_of(settings, settings.event_log.subscription.clone(), None)
}

fn embedded_log_of(
    settings: &Settings,
    subscription: String,
    subscription_life: Option<Duration>,
) -> anyhow::Result<EmbeddedLog> {
    let options = LogOptions {
        max_in_flight: settings.actors.reader.max_outstanding_messages,
        subscription,
        subscription_life,
        max_age: settings.event_log.retention.max_age,
        max_bytes: settings.event_log.retention.max_bytes,
        max_unused: settings.event_log.retention.max_unused,
        max_event_bytes: settings.max_event_bytes,
    };
    Ok(EmbeddedLog::open(made(&settings.data_dir)?, options)?)
}

fn embedded_warehouse(settings: &Settings) -> anyhow::Result<EmbeddedWarehouse> {
    Ok(EmbeddedWarehouse::open(made(&settings.data_dir)?)?)
}

fn embedded_archive(settings: &Settings) -> anyhow::Result<LocalArchive> {
    let folder = settings.data_dir.join("archive");
    LocalArchive::open(&folder).with_context(|| folder.display().to_string())
}

/// Opens files on a thread that may wait for them.
async fn blocking<T: Send + 'static>(
    settings: &Settings,
    open: fn(&Settings) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let settings = settings.clone();
    tokio::task::spawn_blocking(move || open(&settings)).await?
}

/// The folder, made if there is none.
fn made(data_dir: &Path) -> anyhow::Result<&Path> {
    folder::make(data_dir).with_context(|| data_dir.display().to_string())?;
    Ok(data_dir)
}
