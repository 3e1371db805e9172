//! The plan of a replay, as its journal keeps it.

use std::collections::BTreeMap;
use std::fmt;

use kappa_actors::processor::Processor as _;
use kappa_actors::replay::ReplayRange;
use kappa_actors::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ReplayError;
use crate::settings::{Problem, Problems};
use crate::wiring::{Blueprint, Rule};

/// Where history is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The archived events
    Archive,
    /// The log, as far back as it still holds them
    Log,
    /// The open dead letters, each for the duty that failed; into staging only
    DeadLetters,
    /// The files that match the PATTERNs, local or `gs://`: one event a line, plain, gzip or zstd
    Files,
}

/// Where rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Into `TABLE_reprocessed`, to be compared and merged
    Staging,
    /// Over the rows of the live tables, by key and version
    Live,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Archive => "archive",
            Self::Log => "log",
            Self::DeadLetters => "dead-letters",
            Self::Files => "files",
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Staging => "staging",
            Self::Live => "live",
        })
    }
}

/// The range, sources and target of a replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayPlan {
    /// The first moment of publish time that belongs to it.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub from: Timestamp,
    /// The first moment that belongs to it no more.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub to: Timestamp,
    /// Where history is read.
    pub source: Source,
    /// The patterns of the files that are read, for [`Source::Files`].
    #[serde(default)]
    pub files: Vec<String>,
    /// Only events of this time of their own.
    #[serde(default)]
    pub event_time: Option<EventTime>,
    /// Where rows are written.
    pub into: Target,
    /// The rules it began with, by the processor's name: one that changed since would leave rows of
    /// both behind.
    pub rules: BTreeMap<String, String>,
}

/// A range of the events' own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventTime {
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    from: Timestamp,
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    to: Timestamp,
}

/// Which events a replay goes through.
#[derive(Clone, Debug)]
pub struct Selected {
    /// By the time they were published.
    pub range: ReplayRange,
    /// By their own time.
    pub event_time: Option<ReplayRange>,
    /// The patterns of files, for [`Source::Files`].
    pub files: Vec<String>,
}

impl ReplayPlan {
    /// A replay of the `selected` events by the named processors; by all if `names` is empty.
    ///
    /// # Errors
    /// For a processor that there is not, and a range that ends before it begins.
    pub fn new(
        selected: Selected,
        (source, into): (Source, Target),
        names: &[String],
        blueprint: &Blueprint,
    ) -> Result<Self, Problems> {
        let Selected { range, event_time, files } = selected;
        if source == Source::DeadLetters && into == Target::Live {
            return Err(Problem::new(
                "--source",
                "dead letters go into the live tables by a requeue, which marks them",
                "use `kappa dead-letters requeue`, or leave --into live out",
            )
            .into());
        }
        if range.to < range.from {
            let reason = format!("{} is before {}, where the range begins", range.to, range.from);
            return Err(Problem::new("--to", reason, "give --from the earlier time").into());
        }
        for name in names {
            if !blueprint.processors.iter().any(|rule| rule.plan.name() == name) {
                let known: Vec<_> =
                    blueprint.processors.iter().map(|rule| rule.plan.name()).collect();
                let reason = format!("there is no processor {name:?}");
                let hint = format!("choose from {}", known.join(", "));
                return Err(Problem::new("--processors", reason, hint).into());
            }
        }
        let chosen =
            |rule: &&Rule| names.is_empty() || names.iter().any(|it| it == rule.plan.name());
        let rules = blueprint.processors.iter().filter(chosen).map(fingerprint).collect();
        let event_time = event_time.map(|it| EventTime { from: it.from, to: it.to });
        Ok(Self { from: range.from, to: range.to, source, files, event_time, into, rules })
    }

    /// The events that it goes through.
    #[must_use]
    pub fn range(&self) -> ReplayRange {
        ReplayRange { from: self.from, to: self.to }
    }

    /// The range of the events' own time, if they are selected by it.
    #[must_use]
    pub fn event_range(&self) -> Option<ReplayRange> {
        self.event_time.map(|EventTime { from, to }| ReplayRange { from, to })
    }

    /// Whether this processor has a part in it.
    #[must_use]
    pub fn has(&self, rule: &Rule) -> bool {
        self.rules.contains_key(rule.plan.name())
    }

    /// The rules are those that it began with.
    ///
    /// # Errors
    /// [`ReplayError::Refused`], naming the rule that is not.
    pub fn check_unchanged(&self, blueprint: &Blueprint) -> Result<(), ReplayError> {
        let now: BTreeMap<_, _> = blueprint.processors.iter().map(fingerprint).collect();
        for (name, then) in &self.rules {
            if now.get(name) != Some(then) {
                return Err(ReplayError::refused(
                    format!("the rule of {name} has changed since this replay began"),
                    "begin a new replay, so that all rows are made by one rule",
                ));
            }
        }
        Ok(())
    }
}

/// Returns a rule's name, and a text that differs for another rule or revision.
fn fingerprint(rule: &Rule) -> (String, String) {
    let told = format!("{}:{}", rule.config.revision, rule.fingerprint);
    (rule.plan.name().to_owned(), told)
}

fn as_text<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(time)
}

fn from_text<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    Timestamp::parse_rfc3339(&String::deserialize(from)?).map_err(serde::de::Error::custom)
}
