//! Finds all that is wrong with a configuration, not only the first.

mod cloud;
mod status;
mod watchdog;

use std::time::Duration;

use config::{Value, ValueKind};

use super::problem::Problem;
use super::rules::Kind;
use super::schema::{self, Schema};
use super::{processors, tree};

/// The longest part of a value that a message quotes, in characters.
const QUOTED: usize = 60;

/// Everything that is wrong with `tree`.
pub(super) fn problems(tree: &Value, schema: &Schema) -> Vec<Problem> {
    let mut check = Check { tree, schema, problems: Vec::new() };
    check.section("", "", tree);
    check.pauses();
    check.watchdog();
    check.endpoint();
    check.faults();
    check.cloud();
    check.problems
}

struct Check<'a> {
    tree: &'a Value,
    schema: &'a Schema,
    problems: Vec<Problem>,
}

impl<'a> Check<'a> {
    /// Checks `value`, written at the key `shown`, against the schema's `name`: the two differ in
    /// the overrides of one processor or table.
    fn node(&mut self, shown: &str, name: &str, value: &Value) {
        if let Some(key) = self.schema.key(name) {
            if !key.kind.allows(value) {
                let reason = match key.kind {
                    Kind::Secret => format!("{shown} is no token that a request can bring"),
                    _ => format!("{shown} is {}", quoted(value)),
                };
                self.report(value, reason, key.hint());
            }
        } else if self.schema.is_section(name) {
            self.section(shown, name, value);
        } else {
            let hint = match self.schema.nearest(name) {
                Some(nearest) => format!("did you mean {nearest}?"),
                None => "`kappa config reference` lists every key".to_owned(),
            };
            self.report(value, format!("{shown} is no setting"), hint);
        }
    }

    fn section(&mut self, shown: &str, name: &str, value: &Value) {
        let Some(table) = tree::table(value) else {
            let hint = format!("it is a section: write [{shown}] and its keys below");
            // In place of this section a token may have been written.
            let reason = match shown.starts_with("status") {
                true => format!("{shown} is no section"),
                false => format!("{shown} is {}", quoted(value)),
            };
            return self.report(value, reason, hint);
        };
        for (segment, below) in table {
            let (shown, inner) = (tree::child(shown, segment), tree::child(name, segment));
            match inner.as_str() {
                "processors" => self.processors(below),
                "actors.processor.each" => {
                    self.each(&shown, name, below, "processor", &processors::names(self.tree));
                }
                "actors.writer.each" => {
                    self.each(&shown, name, below, "table", &processors::tables(self.tree));
                }
                "warehouse.bigquery.each" => self.each_table(&shown, below),
                "status.senders" => self.senders(below),
                "warehouse.bigquery.labels" => self.labels(&shown, &inner, below),
                _ => self.node(&shown, &inner, below),
            }
        }
    }

    /// Checks the overrides for one of several actors.
    fn each(&mut self, shown: &str, name: &str, value: &Value, noun: &str, known: &[&str]) {
        let Some(table) = tree::table(value) else {
            let hint = format!("it is a section: write [{shown}.NAME] and its keys below");
            return self.report(value, format!("{shown} is {}", quoted(value)), hint);
        };
        for (one, below) in table {
            let shown = tree::child(shown, one);
            if known.contains(&one.as_str()) {
                self.section(&shown, name, below);
            } else {
                let hint = match schema::nearest(one, known.iter().copied()) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => format!("use one of {}", known.join(", ")),
                };
                self.report(below, format!("{shown}: no {noun} {one}"), hint);
            }
        }
    }

    /// Checks the parts of processors that do not depend on their rules.
    fn processors(&mut self, value: &Value) {
        let Some(table) = tree::table(value) else {
            let hint = "it is a section: write [processors.NAME] and its keys below";
            return self.report(value, format!("processors is {}", quoted(value)), hint);
        };
        for (name, processor) in table {
            let shown = tree::child("processors", name);
            if tree::table(processor).is_none() {
                let hint = format!("it is a section: write [{shown}] and its keys below");
                self.report(processor, format!("{shown} is {}", quoted(processor)), hint);
            }
            if !processors::is_name(name) {
                let hint = "use letters, digits, '_' and '-', at most 64, for a processor's name";
                self.report(processor, format!("{shown} is no name"), hint);
            }
            if let Some(enabled) = tree::get(processor, processors::ENABLED)
                && !Kind::Flag.allows(enabled)
            {
                let reason = format!("{shown}.enabled is {}", quoted(enabled));
                self.report(enabled, reason, "use true or false, or leave it out");
            }
        }
    }

    /// A pause may not begin longer than it can become.
    fn pauses(&mut self) {
        for (key, _) in tree::leaves(self.tree) {
            let Some((parent, name)) = key.rsplit_once('.') else { continue };
            let first = tree::child(parent, name.trim_start_matches("max_"));
            // A pair is looked at once: at its first pause, if that is written here at all.
            if !name.ends_with("backoff") || key != first && tree::get(self.tree, &first).is_some()
            {
                continue;
            }
            let most = tree::child(parent, &format!("max_{}", name.trim_start_matches("max_")));
            self.not_longer(&first, &most);
        }
    }

    /// The span at one key may not be longer than the span at another.
    fn not_longer(&mut self, first: &str, most: &str) {
        let values = self.effective(first).zip(self.effective(most));
        let Some((shortest, longest)) = values else { return };
        if span(shortest).zip(span(longest)).is_some_and(|(first, most)| first > most) {
            // Blame the user's value, not a default.
            let blamed = if is_default(longest) { shortest } else { longest };
            let (shortest, longest) = (tree::show(shortest), tree::show(longest));
            let reason = format!("{first} is {shortest}, more than {most}, {longest}");
            self.report(blamed, reason, format!("lower {first}, or raise {most}"));
        }
    }

    /// The value at a key; where it belongs to one of several actors, the value of all of them
    /// unless it has its own.
    fn effective(&self, key: &str) -> Option<&'a Value> {
        tree::get(self.tree, key).or_else(|| {
            let (section, one) = key.split_once(".each.")?;
            tree::get(self.tree, &format!("{section}.{}", one.split_once('.')?.1))
        })
    }

    fn faults(&mut self) {
        let Some(faults) = tree::get(self.tree, "faults") else { return };
        let enabled = tree::get(faults, "enabled").map(|value| &value.kind);
        if enabled == Some(&ValueKind::Boolean(true)) {
            for (key, missing) in
                ["fail", "slow", "hang"].into_iter().flat_map(|key| [(key, "sink"), (key, "for")])
            {
                if let Some(fault) = tree::get(faults, key)
                    && tree::table(fault).is_some_and(|table| !table.contains_key(missing))
                {
                    let hint = "write it as { sink = \"writer.orders\", for = \"5s\" }";
                    self.report(fault, format!("faults.{key} has no {missing}"), hint);
                }
            }
            return;
        }
        for key in ["panic_on", "abort_on", "abort_on_letter", "fail", "slow", "hang"] {
            if let Some(value) = tree::get(faults, key).filter(|value| !is_unset(value)) {
                let reason = format!("faults.{key} is set, and faults are not enabled");
                self.report(value, reason, "set faults.enabled = true, in a chaos test only");
            }
        }
    }

    fn report(&mut self, at: &Value, reason: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem {
            place: tree::place(at).map(str::to_owned),
            reason: reason.into(),
            hint: Some(hint.into()),
        });
    }
}

fn is_unset(fault: &Value) -> bool {
    matches!(&fault.kind, ValueKind::Array(ids) if ids.is_empty())
}

fn is_default(value: &Value) -> bool {
    tree::place(value).is_none_or(|place| place == super::DEFAULT)
}

fn span(value: &Value) -> Option<Duration> {
    match &value.kind {
        ValueKind::String(text) => humantime::parse_duration(text).ok(),
        _ => None,
    }
}

fn quoted(value: &Value) -> String {
    let text = tree::show(value);
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
