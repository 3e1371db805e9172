//! Settings of each actor at its start. The daemon's configuration fills them; this crate has no default values.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// How an actor is started again after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartPolicy {
    /// Restarts allowed within `window`; one more fails the supervisor.
    pub budget: u32,
    /// The span in which restarts are counted.
    #[serde(deserialize_with = "duration")]
    pub window: Duration,
    /// The pause before the first restart; it doubles with each that follows within the window.
    #[serde(deserialize_with = "duration")]
    pub backoff: Duration,
    /// The longest pause.
    #[serde(deserialize_with = "duration")]
    pub max_backoff: Duration,
}

/// `actors.reader`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReaderSettings {
    /// Messages not yet acknowledged, at most.
    pub max_outstanding_messages: usize,
    /// Bytes not yet acknowledged, at most: payloads, and the rows made from them.
    pub max_outstanding_bytes: u64,
    /// Events in one batch between actors, at most.
    pub max_batch_events: usize,
    /// The pause before a returned claim is delivered again; doubles with each return.
    #[serde(deserialize_with = "duration")]
    pub redelivery_backoff: Duration,
    /// The longest such pause.
    #[serde(deserialize_with = "duration")]
    pub max_redelivery_backoff: Duration,
    /// Panics after which an event becomes a dead letter.
    pub max_attempts: u32,
    /// How long an event that panics a sink, and nothing else is stored meanwhile, is tried before it
    /// becomes a dead letter.
    #[serde(deserialize_with = "duration")]
    pub panic_grace: Duration,
    /// How long nothing must come before a run until idle ends, where the log does not know its
    /// backlog.
    #[serde(deserialize_with = "duration")]
    pub quiet_period: Duration,
    /// How it is restarted.
    pub restart: RestartPolicy,
}

/// `actors.parser`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParserSettings {
    /// Parsers at work side by side.
    pub pool_size: usize,
    /// How each is restarted.
    pub restart: RestartPolicy,
}

/// `actors.router`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouterSettings {
    /// How it is restarted.
    pub restart: RestartPolicy,
}

/// `actors.processor`, with the overrides of `actors.processor.each.NAME` applied.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessorSettings {
    /// Rows that one event may explode into, at most.
    pub max_rows_per_event: usize,
    /// Bytes that the rows of one event may take in memory, at most.
    pub max_bytes_per_event: u64,
    /// How it is restarted.
    pub restart: RestartPolicy,
}

/// `actors.writer`, with the overrides of `actors.writer.each.TABLE` applied, and
/// `actors.dead_letter`, whose actor is the writer of `dead_letters`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriterSettings {
    /// Rows that make a commit due.
    pub max_batch_rows: usize,
    /// Bytes that make a commit due.
    pub max_batch_bytes: u64,
    /// Commits on their way at a time, at most.
    pub max_in_flight: usize,
    /// How long a row may wait for a commit.
    #[serde(deserialize_with = "duration")]
    pub max_delay: Duration,
    /// The pause before a failed write is tried again; doubles with each failure.
    #[serde(deserialize_with = "duration")]
    pub retry_backoff: Duration,
    /// The longest such pause.
    #[serde(deserialize_with = "duration")]
    pub max_retry_backoff: Duration,
    /// How it is restarted.
    pub restart: RestartPolicy,
}

/// `actors.archive_window`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveWindowSettings {
    /// Bytes that make a part due.
    pub flush_bytes: u64,
    /// How long an event may wait for a part.
    #[serde(deserialize_with = "duration")]
    pub flush_interval: Duration,
    /// How long after its end a window is closed.
    #[serde(deserialize_with = "duration")]
    pub grace: Duration,
    /// Windows open at once, at most.
    pub max_open: usize,
    /// The pause before a failed write is tried again; doubles with each failure.
    #[serde(deserialize_with = "duration")]
    pub retry_backoff: Duration,
    /// The longest such pause.
    #[serde(deserialize_with = "duration")]
    pub max_retry_backoff: Duration,
    /// How the keeper and each window are restarted.
    pub restart: RestartPolicy,
}

/// `actors.supervisor`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SupervisorSettings {
    /// How a group whose own budget is spent is started afresh.
    pub restart: RestartPolicy,
}

/// `actors.watchdog`: the reaction to a call without an answer, and to an actor that takes no
/// message of its mailbox. Each time counts from the beginning of the hang.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchdogSettings {
    /// When the daemon counts as degraded.
    #[serde(deserialize_with = "duration")]
    pub degraded_after: Duration,
    /// When the actor is restarted, and again after as long.
    #[serde(deserialize_with = "duration")]
    pub restart_after: Duration,
    /// When the process ends, if restarts did not help.
    #[serde(deserialize_with = "duration")]
    pub exit_after: Duration,
}

/// The settings of the actors that every pipeline has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActorSettings {
    /// `actors.reader`
    pub reader: ReaderSettings,
    /// `actors.parser`
    pub parser: ParserSettings,
    /// `actors.router`
    pub router: RouterSettings,
    /// `actors.archive_window`
    pub archive_window: ArchiveWindowSettings,
    /// `actors.dead_letter`
    pub dead_letter: WriterSettings,
    /// `actors.supervisor`
    pub supervisor: SupervisorSettings,
    /// `actors.watchdog`
    pub watchdog: WatchdogSettings,
}

/// Reads a duration written as text with a unit: `"250ms"`, `"10s"`, `"7d"`.
///
/// # Errors
/// The deserializer's, when the value is no such text.
pub fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    struct Visitor;
    impl serde::de::Visitor<'_> for Visitor {
        type Value = Duration;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a duration such as \"250ms\", \"10s\" or \"7d\"")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
            humantime::parse_duration(text)
                .map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
        }
    }
    from.deserialize_str(Visitor)
}
