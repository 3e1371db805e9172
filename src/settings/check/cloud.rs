//! The required keys of the backends on Google Cloud, and the overrides for single tables.

use config::{Value, ValueKind};

use super::{Check, is_default, quoted};
use crate::settings::rules::{Kind, is_label};
use crate::settings::{processors, tree};

/// The required keys of a backend: the key that chooses it, its name, the required key, an example.
const NEEDED: &[(&str, &str, &str, &str)] = &[
    ("event_log.backend", "pubsub", "gcp.project", "my-project"),
    ("event_log.backend", "pubsub", "event_log.pubsub.topic", "events"),
    ("warehouse.backend", "bigquery", "gcp.project", "my-project"),
    ("warehouse.backend", "bigquery", "warehouse.bigquery.dataset", "kappa"),
    ("archive.backend", "gcs", "archive.gcs.bucket", "my-project-kappa"),
];

/// The keys that one table may have for itself.
const OF_A_TABLE: &[&str] = &["mode", "max_staleness", "labels"];

/// Whether the backends on Google Cloud are in this build.
const BUILT_IN: bool = cfg!(feature = "gcp");

impl Check<'_> {
    /// Checks that the required keys of the chosen backends are set.
    pub(super) fn cloud(&mut self) {
        let mut told = Vec::new();
        for &(choice, backend, key, example) in NEEDED {
            let Some(chosen) = tree::get(self.tree, choice) else { continue };
            if text(chosen) != Some(backend) {
                continue;
            }
            let missing = if BUILT_IN { key } else { choice };
            if told.contains(&missing) {
                continue;
            }
            if !BUILT_IN {
                told.push(missing);
                let reason = format!("{choice} is \"{backend}\", which is not in this build");
                self.report(
                    chosen,
                    reason,
                    "use \"embedded\", or build kappa with the feature gcp",
                );
                continue;
            }
            let Some(value) = tree::get(self.tree, key) else { continue };
            if text(value) == Some("") {
                told.push(missing);
                // An empty default value is the fault of the key that chose the backend.
                let blamed = if is_default(value) { chosen } else { value };
                let reason = format!("{choice} is \"{backend}\", and {key} is not set");
                self.report(blamed, reason, format!("set it, as in {key} = \"{example}\""));
            }
        }
    }

    /// Checks `warehouse.bigquery.each`: a table has only some of the section's keys.
    pub(super) fn each_table(&mut self, shown: &str, value: &Value) {
        let mut known = processors::tables(self.tree);
        known.push(kappa_actors::dead_letter_table::NAME);
        self.each(shown, "warehouse.bigquery", value, "table", &known);
        let tables = tree::table(value).into_iter().flatten();
        for (table, over) in tables {
            for (key, value) in tree::table(over).into_iter().flatten() {
                let general = format!("warehouse.bigquery.{key}");
                if self.schema.key(&general).is_some() && !OF_A_TABLE.contains(&key.as_str()) {
                    let reason = format!("{shown}.{table}.{key} cannot differ from table to table");
                    self.report(value, reason, format!("set {general} for all of them"));
                }
            }
        }
    }

    /// Checks labels, whose names are the user's.
    pub(super) fn labels(&mut self, shown: &str, name: &str, value: &Value) {
        let Some(labels) = tree::table(value) else {
            let hint = "write it as { team = \"data\" }";
            return self.report(value, format!("{shown} is {}", quoted(value)), hint);
        };
        for (label, value) in labels {
            let shown = tree::child(shown, label);
            let begins = label.starts_with(|c: char| c.is_ascii_lowercase());
            if !begins || !is_label(label) {
                let hint = format!("use {}, a letter first, for a label's name", Kind::Label);
                self.report(value, format!("{shown} is no name"), hint);
            } else if !Kind::of(&format!("{name}.any")).is_some_and(|kind| kind.allows(value)) {
                let hint = format!("use {}", Kind::Label);
                self.report(value, format!("{shown} is {}", quoted(value)), hint);
            }
        }
    }
}

fn text(value: &Value) -> Option<&str> {
    match &value.kind {
        ValueKind::String(text) => Some(text),
        _ => None,
    }
}
