//! The rules of a schedule: as a configuration for kappa, and as a second, small implementation
//! that the model makes its rows by.

use chrono::DateTime;
use serde_json::Value;

/// One set of rules. Each change has a higher revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) revision: u16,
    /// Where an event's time is. Some events have it at `/ts` only.
    pub(crate) time: &'static str,
    /// Where the values come from. Some events have a text at `/v`, which is no INTEGER.
    pub(crate) value: &'static str,
    /// Which types the processor `events` takes.
    pub(crate) types: &'static [&'static str],
    /// Whether the key of `latest` is (event id, type), in a table of its own, and not the event id.
    pub(crate) by_type: bool,
}

pub(crate) const TYPES: [&[&str]; 3] = [&["a."], &["a.x"], &["a.", "b.x"]];

/// A table: its name, the columns that are compared, how many of them are the key.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [&'static str],
    pub(crate) key: usize,
}

pub(crate) const TABLES: [Table; 5] = [
    Table { name: "events", columns: &["event_id", "v", "k"], key: 1 },
    Table { name: "latest", columns: &["event_id", "event_type", "v", "k"], key: 1 },
    Table { name: "latest_by_type", columns: &["event_id", "event_type", "v", "k"], key: 2 },
    Table { name: "ordered", columns: &["k", "n", "v"], key: 1 },
    Table { name: "items", columns: &["event_id", "s", "q"], key: 2 },
];

/// The processors, in the order of the configuration.
pub(crate) const PROCESSORS: [&str; 4] = ["events", "latest", "ordered", "items"];

/// A row without version and time of processing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) table: &'static str,
    pub(crate) cells: Vec<String>,
    pub(crate) order: Option<i64>,
}

/// The result of a processor for a valid event.
pub(crate) enum Outcome {
    /// Rows; none where the processor does not take the event.
    Rows(Vec<Made>),
    /// A dead letter.
    Fails,
}

impl Rules {
    pub(crate) fn first() -> Self {
        Self { revision: 1, time: "/timestamp", value: "/v", types: TYPES[0], by_type: false }
    }

    /// The table that a processor fills.
    pub(crate) fn table(&self, processor: &str) -> &'static str {
        match processor {
            "events" => "events",
            "latest" if self.by_type => "latest_by_type",
            "latest" => "latest",
            "ordered" => "ordered",
            _ => "items",
        }
    }

    pub(crate) fn configuration(&self, small: bool) -> String {
        let (events, rows) = if small { (3, 4) } else { (500, 5_000) };
        let Self { revision, time, value, types, by_type } = self;
        let latest = self.table("latest");
        let key = if *by_type { r#"["event_id", "event_type"]"# } else { r#"["event_id"]"# };
        let now = r#"at = { type = "TIMESTAMP", now = true }"#;
        format!(
            r#"
[envelope]
time = "{time}"
[actors.parser]
pool_size = 3
[actors.reader]
max_batch_events = {events}
[actors.writer]
max_batch_rows = {rows}
max_delay = "1ms"
[actors.dead_letter]
max_delay = "1ms"
[actors.archive_window]
flush_interval = "5ms"
[status]
listen = "127.0.0.1:0"
[logging]
filter = "off"
[processors]
orders.enabled = false
users.enabled = false
products.enabled = false
other.enabled = false
[processors.events]
match = {types:?}
table = "events"
key = ["event_id"]
revision = {revision}
[processors.events.columns]
event_id = {{ type = "STRING", from = "/event_id" }}
v = {{ type = "INTEGER", from = "{value}", required = true }}
k = {{ type = "STRING", from = "/k" }}
{now}
[processors.latest]
match = ["b.", "a.x"]
table = "{latest}"
key = {key}
revision = {revision}
[processors.latest.columns]
k = {{ type = "STRING", from = "/k" }}
event_type = {{ type = "STRING", from = "/event_type" }}
v = {{ type = "INTEGER", from = "/w" }}
event_id = {{ type = "STRING", from = "/event_id" }}
{now}
[processors.ordered]
match = ["a.", "b."]
table = "ordered"
key = ["k"]
order_by = "n"
revision = {revision}
[processors.ordered.columns]
k = {{ type = "STRING", from = "/k" }}
n = {{ type = "INTEGER", from = "/n" }}
v = {{ type = "INTEGER", from = "{value}", required = true }}
{now}
[processors.items]
match = ["a."]
table = "items"
key = ["event_id", "s"]
explode = "/items"
revision = {revision}
[processors.items.columns]
s = {{ type = "STRING", from = "/s" }}
q = {{ type = "INTEGER", from = "/q", required = true }}
event_id = {{ type = "STRING", root = "/event_id" }}
{now}
"#
        )
    }

    /// Whether the event is valid.
    pub(crate) fn accepts(&self, event: &Value) -> bool {
        time_of(event, self.time).is_some()
    }

    /// Computes the result of the processor for a valid event.
    pub(crate) fn make(&self, processor: &str, event: &Value) -> Outcome {
        let kind = text(&event["event_type"]);
        let takes = |prefixes: &[&str]| prefixes.iter().any(|prefix| kind.starts_with(prefix));
        let rows = match processor {
            "events" if takes(self.types) => {
                let Some(value) = self.value_of(event) else { return Outcome::Fails };
                vec![(vec![text(&event["event_id"]), value, text(&event["k"])], None)]
            }
            "latest" if takes(&["b.", "a.x"]) => {
                let [id, w, k] = ["event_id", "w", "k"].map(|name| text(&event[name]));
                vec![(vec![id, kind, w, k], None)]
            }
            "ordered" if takes(&["a.", "b."]) => {
                let Some(value) = self.value_of(event) else { return Outcome::Fails };
                vec![(vec![text(&event["k"]), text(&event["n"]), value], event["n"].as_i64())]
            }
            "items" if takes(&["a."]) => {
                let items = event["items"].as_array().map_or(&[][..], Vec::as_slice);
                if items.iter().any(|item| item["q"].as_i64().is_none()) {
                    return Outcome::Fails;
                }
                let row = |item: &Value| {
                    (vec![text(&event["event_id"]), text(&item["s"]), text(&item["q"])], None)
                };
                items.iter().map(row).collect()
            }
            _ => Vec::new(),
        };
        let table = self.table(processor);
        Outcome::Rows(rows.into_iter().map(|(cells, order)| Made { table, cells, order }).collect())
    }

    fn value_of(&self, event: &Value) -> Option<String> {
        event.pointer(self.value)?.as_i64().map(|value| value.to_string())
    }
}

/// The event's time in microseconds since 1970.
pub(crate) fn time_of(event: &Value, pointer: &str) -> Option<i64> {
    let text = event.pointer(pointer)?.as_str()?;
    Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros())
}

/// A value as the tables are compared by.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
