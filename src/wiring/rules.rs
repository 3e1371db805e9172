//! Remembers which rule ran under which revision, so that a rule changed under the same revision
//! is told: rows made by the old and the new rule could not be told apart.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use anyhow::Context as _;
use kappa_actors::processor::Processor as _;
use serde::{Deserialize, Serialize};

use super::Rule;

/// The file in the data folder.
const FILE: &str = "rules.json";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Noted {
    revision: i64,
    fingerprint: String,
}

/// By the processor's name.
type Notes = BTreeMap<String, Noted>;

/// A rule that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleChange {
    /// The processor.
    pub processor: String,
    /// The revision that both rules have.
    pub revision: i64,
}

impl std::fmt::Display for RuleChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { processor, revision } = self;
        write!(
            f,
            "processor {processor} makes its rows by another rule than before under the same \
             revision, {revision}: raise processors.{processor}.revision, so that a replay's rows win"
        )
    }
}

/// The rules that changed under their revision since they were noted. Writes nothing.
///
/// # Errors
/// When the note in `data_dir` cannot be read.
pub fn changed_rules(data_dir: &Path, rules: &[Rule]) -> anyhow::Result<Vec<RuleChange>> {
    let path = data_dir.join(FILE);
    let before: Notes = match std::fs::read(&path) {
        // A torn note only means that a change goes unnoticed once.
        Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let changed = notes(rules).into_iter().filter(|(name, now)| {
        before.get(name).is_some_and(|before| {
            before.revision == now.revision && before.fingerprint != now.fingerprint
        })
    });
    Ok(changed
        .map(|(processor, Noted { revision, .. })| RuleChange { processor, revision })
        .collect())
}

/// Notes the rules that run from now on.
///
/// # Errors
/// When the note in `data_dir` cannot be written.
pub fn note_rules(data_dir: &Path, rules: &[Rule]) -> anyhow::Result<()> {
    let path = data_dir.join(FILE);
    let text = serde_json::to_vec_pretty(&notes(rules))?;
    std::fs::write(&path, text).with_context(|| path.display().to_string())
}

fn notes(rules: &[Rule]) -> Notes {
    let note = |Rule { plan, config }: &Rule| {
        let noted = Noted { revision: config.revision, fingerprint: config.fingerprint() };
        (plan.name().to_owned(), noted)
    };
    rules.iter().map(note).collect()
}

/// There is no note; nor is there where the data folder is no folder, which others complain of.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Settings, Sources};
    use crate::wiring::Blueprint;

    fn rules(sets: &[&str]) -> Vec<Rule> {
        let set = sets.iter().map(ToString::to_string).collect();
        let sources = Sources { set, ..Sources::default() };
        Blueprint::of(&Settings::load(&sources).unwrap()).unwrap().processors
    }

    #[test]
    fn a_rule_changed_under_its_revision_is_told_until_it_is_noted() {
        let dir = tempfile::tempdir().unwrap();
        let changed = "processors.orders.columns.currency.default=EUR";
        let told = |rules: &[Rule]| changed_rules(dir.path(), rules).unwrap();
        assert_eq!(told(&rules(&[])), [], "nothing ran yet");
        note_rules(dir.path(), &rules(&[])).unwrap();
        let changed = rules(&[changed]);
        assert_eq!(told(&changed), [RuleChange { processor: "orders".to_owned(), revision: 0 }]);
        assert_eq!(told(&rules(&["processors.orders.revision=1"])), []);
        note_rules(dir.path(), &changed).unwrap();
        assert_eq!(told(&changed), []);
    }
}
