//! The configuration: everything the user decides, checked, with the place each value came from.
//!
//! Layers, each over the one before: `config/default.toml`, the shipped processors, the folder of
//! processors, files, the environment, flags. A configuration is refused with all its mistakes at
//! once, or it is a [`Settings`]. Nothing but the files named is read and nothing is written.

mod check;
mod cloud;
mod problem;
mod processors;
mod provenance;
pub mod reference;
mod rules;
mod schema;
mod sections;
mod sources;
#[cfg(test)]
mod tests;
mod tree;

use std::path::PathBuf;
use std::time::Duration;

use kappa_actors::envelope::EnvelopeConfig;
use kappa_actors::settings::duration;
use serde::Deserialize;

pub use cloud::{
    BigQuerySettings, GcpSettings, GcsSettings, PubSubSettings, TableMode, TableSettings,
};
pub use problem::{Problem, Problems};
pub use processors::{Fault, RawProcessor};
pub use provenance::{Provenance, Setting};
pub use sections::{
    ActorSettings, ArchiveBackend, ArchiveSettings, DeadLetterSettings, Each, EventLogBackend,
    EventLogSettings, FaultSettings, LoggingSettings, Retention, SenderSettings, StatusSettings,
    TlsSettings, Token, WarehouseBackend, WarehouseSettings,
};
pub use sources::Sources;

use schema::Schema;

/// The one place where defaults live.
const DEFAULT_TOML: &str = include_str!("../config/default.toml");

/// The place of a setting that is not set.
const DEFAULT: &str = "default";

/// A configuration without mistakes, its processors not yet compiled.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the embedded backends keep their files.
    pub data_dir: PathBuf,
    /// This daemon's name; never empty.
    pub instance: String,
    /// How long a stop may take to settle the events in flight.
    #[serde(deserialize_with = "duration")]
    pub drain_timeout: Duration,
    /// For how long freed memory is kept from the system.
    #[serde(deserialize_with = "duration")]
    pub memory_release: Duration,
    /// The largest event that is taken, in bytes.
    pub max_event_bytes: u64,
    /// The folder that processors were read from.
    pub processors_dir: PathBuf,
    /// `gcp`
    pub gcp: GcpSettings,
    /// `event_log`
    pub event_log: EventLogSettings,
    /// `warehouse`
    pub warehouse: WarehouseSettings,
    /// `archive`
    pub archive: ArchiveSettings,
    /// `envelope`
    pub envelope: EnvelopeConfig,
    /// `actors`
    pub actors: ActorSettings,
    /// `dead_letters`
    pub dead_letters: DeadLetterSettings,
    /// `status`
    pub status: StatusSettings,
    /// `logging`
    pub logging: LoggingSettings,
    /// `faults`
    pub faults: FaultSettings,
    /// The enabled processors.
    #[serde(skip)]
    pub processors: Vec<RawProcessor>,
    /// Processors that are switched off: only their keys are checked.
    #[serde(skip)]
    switched_off: Vec<RawProcessor>,
    /// Where each setting came from.
    #[serde(skip)]
    pub provenance: Provenance,
}

impl Settings {
    /// Reads and checks the configuration that `sources` make together.
    ///
    /// # Errors
    /// All mistakes in it.
    pub fn load(sources: &Sources) -> Result<Self, Problems> {
        let mut tree = sources.stack()?;
        let defaults = tree::merge(&[tree::parse(DEFAULT_TOML, DEFAULT)?])?;
        Problems::none_or(check::problems(&tree, &Schema::new(&defaults)?), ())?;
        let (processors, switched_off) = processors::of(&tree);
        let provenance = Provenance::new(&tree);
        if let config::ValueKind::Table(table) = &mut tree.kind {
            table.shift_remove("processors");
        }
        let settings: Self = tree.try_deserialize().map_err(|error| Problem {
            place: None,
            reason: error.to_string(),
            hint: None,
        })?;
        let instance = match settings.instance.as_str() {
            "" => random_instance(),
            named => named.to_owned(),
        };
        Ok(Self { instance, processors, switched_off, provenance, ..settings })
    }
}

impl Settings {
    /// Whether any backend keeps its files on this machine.
    #[must_use]
    pub fn keeps_files(&self) -> bool {
        self.event_log.backend == EventLogBackend::Embedded
            || self.warehouse.backend == WarehouseBackend::Embedded
            || self.archive.backend == ArchiveBackend::Embedded
    }

    /// Whether the user left the setting of this key alone.
    #[must_use]
    pub fn is_default(&self, key: &str) -> bool {
        self.provenance.of(key) == Some(DEFAULT)
    }
}

/// The host's name and four random digits, with nothing in it that a file name could not hold.
fn random_instance() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host: String =
        host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(48).collect();
    format!("{host}-{:04x}", rand::random::<u16>())
}
