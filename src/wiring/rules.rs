//! Remembers which rule ran under which revision, so that a rule changed under the same revision
//! is told: rows made by the old and the new rule could not be told apart.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Rule;

/// The file in the data folder.
const FILE: &str = "rules.json";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Noted {
    revision: i64,
    fingerprint: String,
}

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

/// Notes the rules that run from now on, and answers those that changed under their revision.
///
/// # Errors
/// When the note in `data_dir` cannot be read or written.
pub fn note_rules(data_dir: &Path, rules: &[Rule]) -> anyhow::Result<Vec<RuleChange>> {
    let path = data_dir.join(FILE);
    let before: BTreeMap<String, Noted> = match std::fs::read(&path) {
        // A torn note only means that a change goes unnoticed once.
        Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => return Err(anyhow::Error::new(error).context(path.display().to_string())),
    };
    let now: BTreeMap<String, Noted> = rules
        .iter()
        .map(|Rule { plan, config }| {
            use kappa_actors::processor::Processor as _;
            let noted = Noted { revision: config.revision, fingerprint: config.fingerprint() };
            (plan.name().to_owned(), noted)
        })
        .collect();
    let changed = now.iter().filter(|(name, now)| {
        before.get(*name).is_some_and(|before| {
            before.revision == now.revision && before.fingerprint != now.fingerprint
        })
    });
    let changed = changed
        .map(|(name, now)| RuleChange { processor: name.clone(), revision: now.revision })
        .collect();
    if before != now {
        let text = serde_json::to_vec_pretty(&now)?;
        std::fs::write(&path, text)
            .map_err(|error| anyhow::Error::new(error).context(path.display().to_string()))?;
    }
    Ok(changed)
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
    fn a_rule_changed_under_its_revision_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let changed = "processors.orders.columns.currency.default=EUR";
        assert_eq!(note_rules(dir.path(), &rules(&[])).unwrap(), []);
        let told = note_rules(dir.path(), &rules(&[changed])).unwrap();
        assert_eq!(told, [RuleChange { processor: "orders".to_owned(), revision: 0 }]);
        assert_eq!(note_rules(dir.path(), &rules(&[changed])).unwrap(), []);
        let raised = rules(&["processors.orders.revision=1"]);
        assert_eq!(note_rules(dir.path(), &raised).unwrap(), []);
    }
}
