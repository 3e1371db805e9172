//! From a processor's configuration to its plan, with every mistake named.

mod cells;
mod table;

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::config::ProcessorConfig;
use super::plan::{EventLimits, Explode, ProcessorPlan};
use super::{MAX_REVISION, PlanError, matcher, names};
use crate::envelope::EnvelopePlan;
use crate::json::{Pointer, Trie};

/// Bounds of an objective: it is checked each second, and rows older than a month are history.
const OBJECTIVES: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(31 * 86_400);

impl ProcessorPlan {
    /// Checks the configuration of the processor `name` and makes it ready.
    ///
    /// `envelope` holds the pointer to the event's id, so that a key can be known to contain it. An event that
    /// exceeds `limits` will be a bad row.
    ///
    /// # Errors
    /// [`PlanError`] for the first error found.
    pub fn compile(
        name: &str,
        config: &ProcessorConfig,
        envelope: &EnvelopePlan,
        limits: EventLimits,
    ) -> Result<Self, PlanError> {
        let mut compiler = Compiler { name, config, event: Trie::default(), explode: None };
        compiler.check_names()?;
        compiler.check_patterns()?;
        compiler.check_revision()?;
        compiler.open_explode()?;
        let mut cells = Vec::with_capacity(config.columns.len());
        for (name, column) in &config.columns {
            cells.push(compiler.cell(name, column)?);
        }
        let table = compiler.table(envelope)?;
        compiler.check_key(&table)?;
        let order_by = compiler.order_by(&table)?;
        for &column in table.key.iter().chain(&order_by) {
            cells[column].required = true;
        }
        let max_future = compiler.max_future(order_by)?;
        let freshness = compiler.freshness()?;
        let trace = compiler.trace(&table, envelope);
        Ok(Self {
            name: name.to_owned(),
            patterns: config.r#match.clone(),
            table: Arc::new(table),
            cells,
            event: compiler.event,
            explode: compiler.explode,
            revision: u16::try_from(config.revision).unwrap_or(MAX_REVISION),
            order_by,
            max_future,
            freshness,
            trace,
            limits,
        })
    }
}

/// A configuration on its way to a plan.
struct Compiler<'a> {
    name: &'a str,
    config: &'a ProcessorConfig,
    event: Trie,
    explode: Option<Explode>,
}

impl Compiler<'_> {
    fn error(&self, key: &str, reason: impl Into<String>, hint: impl Into<String>) -> PlanError {
        PlanError {
            key: format!("processors.{}.{key}", self.name),
            reason: reason.into(),
            hint: Some(hint.into()),
        }
    }

    fn check_names(&self) -> Result<(), PlanError> {
        let table = &self.config.table;
        names::check_table(table).map_err(|(why, hint)| {
            self.error("table", format!("is {table:?}, which {why}"), hint)
        })?;
        if self.config.columns.is_empty() {
            return Err(self.error("columns", "has no column", "add at least one"));
        }
        let mut seen = HashSet::new();
        for name in self.config.columns.keys() {
            let key = format!("columns.{name}");
            names::check_column(name).map_err(|(why, hint)| self.error(&key, why, hint))?;
            if !seen.insert(name.to_ascii_lowercase()) {
                let why = "differs from another column only in upper and lower case";
                return Err(self.error(&key, why, "rename one: warehouses ignore case"));
            }
        }
        Ok(())
    }

    fn check_patterns(&self) -> Result<(), PlanError> {
        if self.config.r#match.is_empty() {
            let hint = "name a prefix such as \"order.\", \"*\" for all that no other takes, or \
                        set enabled = false";
            return Err(self.error("match", "is empty", hint));
        }
        for pattern in &self.config.r#match {
            if pattern.is_empty() || (pattern != matcher::REST && pattern.contains('*')) {
                let hint = "write a prefix such as \"order.\", or \"*\" alone for all that no \
                            other processor takes";
                return Err(self.error("match", format!("has {pattern:?}"), hint));
            }
        }
        Ok(())
    }

    fn check_revision(&self) -> Result<(), PlanError> {
        let revision = self.config.revision;
        if (0..=i64::from(MAX_REVISION)).contains(&revision) {
            Ok(())
        } else {
            let hint = format!("use 0 to {MAX_REVISION}");
            Err(self.error("revision", format!("is {revision}"), hint))
        }
    }

    fn freshness(&self) -> Result<Option<Duration>, PlanError> {
        let Some(text) = &self.config.freshness else { return Ok(None) };
        let parsed = humantime::parse_duration(text).ok();
        match parsed.filter(|objective| OBJECTIVES.contains(objective)) {
            Some(objective) => Ok(Some(objective)),
            None => {
                let [least, most] = [OBJECTIVES.start(), OBJECTIVES.end()]
                    .map(|it| humantime::format_duration(*it));
                let hint = format!("use a duration from \"{least}\" to \"{most}\", such as \"1m\"");
                Err(self.error("freshness", format!("is {text:?}"), hint))
            }
        }
    }

    fn pointer(&self, key: &str, text: &str) -> Result<Pointer, PlanError> {
        Pointer::parse(text).map_err(|why| {
            let reason = format!("is no JSON pointer: {text:?} {why}");
            self.error(key, reason, "use a JSON pointer such as /data/total")
        })
    }

    fn open_explode(&mut self) -> Result<(), PlanError> {
        if let Some(text) = &self.config.explode {
            let pointer = self.pointer("explode", text)?;
            let slot = self.event.insert(&pointer);
            self.explode = Some(Explode { pointer, slot, element: Trie::default() });
        }
        Ok(())
    }
}
