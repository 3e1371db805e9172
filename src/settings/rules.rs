//! What each key may hold: the one table of types and ranges.
//!
//! Its keys are those of `config/default.toml`, which a test ensures.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use config::{Value, ValueKind};
use tracing_subscriber::EnvFilter;

use crate::backend::faulty::Sink;

/// The allowed values of a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// Any text but the empty one.
    Text,
    /// Letters, digits, `.`, `_` and `-`; it becomes part of file names.
    Name,
    /// As [`Kind::Name`], or empty.
    NameOrEmpty,
    /// Any text, the empty one included.
    AnyText,
    /// Letters, digits and these, at most so many; or empty.
    Id(&'static str, usize),
    /// The URL of a server, or empty.
    Endpoint,
    /// What BigQuery takes as a label's value.
    Label,
    /// A bearer token, or empty; never shown.
    Secret,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// True or false.
    Flag,
    /// A whole number within these bounds.
    Integer(i64, i64),
    /// A duration within these bounds.
    Span(Duration, Duration),
    /// A JSON pointer to a member of the event.
    Pointer,
    /// An IP address and a port.
    Address,
    /// A filter for tracing.
    Filter,
    /// Where a fault is aimed.
    Sink,
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const TEN_MINUTES: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const MONTH: Duration = Duration::from_secs(31 * 86_400);
const CENTURY: Duration = Duration::from_secs(100 * 31_557_600);
const GIB: i64 = 1 << 30;
/// The upper bound of counts and sizes without a technical one.
const MANY: i64 = 1 << 50;

/// Of Cloud Storage; none takes the bucket's.
const STORAGE_CLASSES: &[&str] = &["", "STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"];

/// Every key with its allowed values. `*` matches any one segment.
pub(super) const RULES: &[(&str, Kind)] = &[
    ("data_dir", Kind::Text),
    ("instance", Kind::NameOrEmpty),
    ("drain_timeout", Kind::Span(MS, HOUR)),
    ("memory_release", Kind::Span(MS, HOUR)),
    // The largest value that the embedded warehouse and BigQuery's requests hold.
    ("max_event_bytes", Kind::Integer(1, GIB / 2)),
    ("processors_dir", Kind::Text),
    ("dead_letters.max_age", Kind::Span(Duration::ZERO, CENTURY)),
    ("event_log.backend", Kind::Choice(&["embedded", "pubsub"])),
    ("event_log.subscription", Kind::Name),
    ("event_log.retention.max_age", Kind::Span(MS, CENTURY)),
    ("event_log.retention.max_unused", Kind::Span(Duration::ZERO, CENTURY)),
    ("event_log.retention.max_bytes", Kind::Integer(1, MANY)),
    ("event_log.pubsub.topic", Kind::Id("._~+%/-", 512)),
    ("event_log.pubsub.endpoint", Kind::Endpoint),
    ("event_log.pubsub.admin_endpoint", Kind::Endpoint),
    ("event_log.pubsub.streams", Kind::Integer(1, 64)),
    // The client's own bounds: the shortest ack deadline, and the longest a lease is extended.
    ("event_log.pubsub.max_lease", Kind::Span(Duration::from_secs(10), HOUR)),
    ("event_log.pubsub.ordering", Kind::Flag),
    ("event_log.pubsub.exactly_once", Kind::Flag),
    ("event_log.pubsub.filter", Kind::AnyText),
    // What Pub/Sub takes.
    ("event_log.pubsub.topic_retention", Kind::Span(TEN_MINUTES, MONTH)),
    ("warehouse.backend", Kind::Choice(&["embedded", "bigquery"])),
    ("warehouse.bigquery.dataset", Kind::Id("_", 1_024)),
    ("warehouse.bigquery.location", Kind::Id("-", 64)),
    ("warehouse.bigquery.endpoint", Kind::Endpoint),
    ("warehouse.bigquery.write_endpoint", Kind::Endpoint),
    ("warehouse.bigquery.mode", Kind::Choice(&["auto", "upsert", "append"])),
    ("warehouse.bigquery.max_staleness", Kind::Span(Duration::ZERO, DAY)),
    ("warehouse.bigquery.labels.*", Kind::Label),
    ("warehouse.bigquery.max_requests_in_flight", Kind::Integer(1, 1_000)),
    ("warehouse.bigquery.request_timeout", Kind::Span(SECOND, HOUR)),
    ("warehouse.bigquery.quota_backoff", Kind::Span(MS, HOUR)),
    ("warehouse.bigquery.max_quota_backoff", Kind::Span(MS, HOUR)),
    ("warehouse.bigquery.schema_spread", Kind::Span(MS, DAY)),
    ("archive.backend", Kind::Choice(&["embedded", "gcs"])),
    ("archive.gcs.bucket", Kind::Id("._-", 222)),
    ("archive.gcs.prefix", Kind::Id("._/=-", 512)),
    ("archive.gcs.storage_class", Kind::Choice(STORAGE_CLASSES)),
    ("archive.gcs.location", Kind::Id("-", 64)),
    ("archive.gcs.endpoint", Kind::Endpoint),
    ("archive.gcs.control_endpoint", Kind::Endpoint),
    ("archive.gcs.attempt_timeout", Kind::Span(SECOND, HOUR)),
    ("gcp.project", Kind::Id(".:-", 64)),
    ("gcp.credentials", Kind::AnyText),
    ("archive.format", Kind::Choice(&["annotated", "envelope", "payload"])),
    ("archive.compression", Kind::Choice(&["none", "gzip", "zstd"])),
    ("envelope.id", Kind::Pointer),
    ("envelope.type", Kind::Pointer),
    ("envelope.time", Kind::Pointer),
    ("actors.reader.max_outstanding_messages", Kind::Integer(1, 100_000_000)),
    ("actors.reader.max_outstanding_bytes", Kind::Integer(1, MANY)),
    ("actors.reader.max_batch_events", Kind::Integer(1, 50_000)),
    ("actors.reader.redelivery_backoff", Kind::Span(MS, HOUR)),
    ("actors.reader.max_redelivery_backoff", Kind::Span(MS, HOUR)),
    ("actors.reader.quiet_period", Kind::Span(MS, HOUR)),
    ("actors.reader.max_attempts", Kind::Integer(1, 1_000)),
    ("actors.reader.panic_grace", Kind::Span(MS, DAY)),
    ("actors.parser.pool_size", Kind::Integer(1, 1_024)),
    ("actors.processor.max_rows_per_event", Kind::Integer(1, 1_000_000)),
    ("actors.processor.max_bytes_per_event", Kind::Integer(1_024, GIB)),
    ("actors.writer.max_batch_rows", Kind::Integer(1, 50_000)),
    ("actors.writer.max_batch_bytes", Kind::Integer(1, GIB)),
    ("actors.writer.max_in_flight", Kind::Integer(1, 1_000)),
    ("actors.writer.max_delay", Kind::Span(MS, MINUTE)),
    ("actors.*.retry_backoff", Kind::Span(MS, HOUR)),
    ("actors.*.max_retry_backoff", Kind::Span(MS, HOUR)),
    ("actors.archive_window.flush_bytes", Kind::Integer(1, GIB)),
    ("actors.archive_window.flush_interval", Kind::Span(MS, HOUR)),
    ("actors.archive_window.grace", Kind::Span(MS, DAY)),
    ("actors.archive_window.max_open", Kind::Integer(1, 10_000)),
    ("actors.dead_letter.max_batch_rows", Kind::Integer(1, 50_000)),
    ("actors.dead_letter.max_batch_bytes", Kind::Integer(1, GIB)),
    ("actors.dead_letter.max_in_flight", Kind::Integer(1, 1_000)),
    ("actors.dead_letter.max_delay", Kind::Span(MS, MINUTE)),
    ("actors.*.restart.budget", Kind::Integer(1, 1_000_000)),
    ("actors.*.restart.window", Kind::Span(MS, DAY)),
    ("actors.*.restart.backoff", Kind::Span(MS, HOUR)),
    ("actors.*.restart.max_backoff", Kind::Span(MS, HOUR)),
    // The watchdog looks once a second.
    ("actors.watchdog.degraded_after", Kind::Span(SECOND, DAY)),
    ("actors.watchdog.restart_after", Kind::Span(SECOND, DAY)),
    ("actors.watchdog.exit_after", Kind::Span(SECOND, DAY)),
    ("status.listen", Kind::Address),
    ("status.token", Kind::Secret),
    ("status.ingest", Kind::Flag),
    ("status.senders.*.token", Kind::Secret),
    ("status.senders.*.rate", Kind::Integer(1, MANY)),
    ("status.tls.certificate", Kind::AnyText),
    ("status.tls.key", Kind::AnyText),
    ("logging.format", Kind::Choice(&["text", "json"])),
    ("logging.filter", Kind::Filter),
    ("faults.enabled", Kind::Flag),
    ("faults.panic_on", Kind::Texts),
    ("faults.abort_on", Kind::Texts),
    ("faults.abort_on_letter", Kind::Texts),
    ("faults.fail.sink", Kind::Sink),
    ("faults.fail.for", Kind::Span(MS, DAY)),
    ("faults.slow.sink", Kind::Sink),
    ("faults.slow.for", Kind::Span(MS, DAY)),
    ("faults.hang.sink", Kind::Sink),
    ("faults.hang.for", Kind::Span(MS, DAY)),
];

impl Kind {
    /// Returns the allowed values of the key.
    pub(super) fn of(key: &str) -> Option<Self> {
        RULES.iter().find(|(pattern, _)| matches(pattern, key)).map(|(_, kind)| *kind)
    }

    /// Returns whether `value` is allowed.
    pub(super) fn allows(self, value: &Value) -> bool {
        match (self, &value.kind) {
            (Self::Flag, ValueKind::Boolean(_)) => true,
            (Self::Integer(min, max), ValueKind::I64(number)) => (min..=max).contains(number),
            (Self::Texts, ValueKind::Array(values)) => {
                values.iter().all(|value| matches!(value.kind, ValueKind::String(_)))
            }
            (_, ValueKind::String(text)) => self.allows_text(text),
            _ => false,
        }
    }

    fn allows_text(self, text: &str) -> bool {
        match self {
            Self::Text => !text.is_empty(),
            Self::Name => !text.is_empty() && is_name(text),
            Self::NameOrEmpty => is_name(text),
            Self::AnyText => true,
            Self::Secret => text.is_empty() || is_token(text),
            Self::Id(extra, most) => {
                text.len() <= most
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
            }
            Self::Endpoint => text.is_empty() || is_endpoint(text),
            Self::Label => is_label(text),
            Self::Choice(choices) => choices.contains(&text),
            Self::Span(min, max) => {
                humantime::parse_duration(text).is_ok_and(|span| (min..=max).contains(&span))
            }
            Self::Pointer => is_pointer(text),
            Self::Address => text.parse::<SocketAddr>().is_ok(),
            Self::Filter => EnvFilter::builder().parse(text).is_ok(),
            Self::Sink => text.parse::<Sink>().is_ok(),
            Self::Texts | Self::Flag | Self::Integer(..) => false,
        }
    }

    /// Whether a value from the environment or a flag is taken as it is, whatever TOML makes of
    /// it: a token of digits is still a text.
    pub(super) fn is_text(self) -> bool {
        !matches!(self, Self::Flag | Self::Integer(..) | Self::Texts)
    }
}

/// Formats the allowed values, to follow "use" in a hint.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("a text"),
            Self::Name => f.write_str("letters, digits, '.', '_' and '-', at most 64"),
            Self::NameOrEmpty => write!(f, "{}, or none", Self::Name),
            Self::AnyText => f.write_str("a text"),
            Self::Secret => f.write_str(
                "16 to 1024 visible ASCII characters, no spaces, as of `openssl rand -hex 24`",
            ),
            Self::Id(extra, most) => {
                write!(f, "letters, digits and any of {extra:?}, at most {most}")
            }
            Self::Endpoint => f.write_str("a URL such as \"http://localhost:8085\""),
            Self::Label => f.write_str("lower-case letters, digits, '_' and '-', at most 63"),
            Self::Choice(choices) => {
                for (index, choice) in choices.iter().enumerate() {
                    let separator = if index == 0 { "" } else { " or " };
                    write!(f, "{separator}\"{choice}\"")?;
                }
                Ok(())
            }
            Self::Texts => f.write_str("a list of texts such as [\"a\", \"b\"]"),
            Self::Flag => f.write_str("true or false"),
            Self::Integer(min, max) => write!(f, "{min} to {max}"),
            Self::Span(min, max) => {
                let (min, max) =
                    (humantime::format_duration(*min), humantime::format_duration(*max));
                write!(f, "a duration from \"{min}\" to \"{max}\"")
            }
            Self::Pointer => f.write_str("a JSON pointer such as \"/meta/id\""),
            Self::Address => f.write_str("an IP address and port such as \"127.0.0.1:8080\""),
            Self::Filter => f.write_str("a tracing filter such as \"info,kappa_actors=debug\""),
            Self::Sink => f.write_str("\"writer.TABLE\", \"archive\" or \"dead-letter\""),
        }
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// Scheme, host and perhaps port, without a path that would be dropped.
fn is_endpoint(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        let host = rest.strip_suffix('/').unwrap_or(rest);
        !host.is_empty() && !host.contains('/') && !host.contains(char::is_whitespace)
    })
}

/// A label's value; its name is the same, and begins with a letter.
pub(super) fn is_label(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    text.len() <= 63 && text.chars().all(allowed)
}

/// A header carries these unchanged, and a token of this length cannot be guessed.
fn is_token(text: &str) -> bool {
    (16..=1_024).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// RFC 6901, without the pointer to the whole document.
fn is_pointer(text: &str) -> bool {
    text.starts_with('/')
        && text.split('~').skip(1).all(|rest| rest.starts_with('0') || rest.starts_with('1'))
}

pub(super) fn matches(pattern: &str, key: &str) -> bool {
    let mut segments = key.split('.');
    pattern.split('.').all(|wanted| segments.next().is_some_and(|s| wanted == "*" || wanted == s))
        && segments.next().is_none()
}
