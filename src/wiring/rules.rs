//! Remembers which rule ran under which revision, so that a rule changed under the same revision
//! is told: rows made by the old and the new rule could not be told apart.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use futures::TryStreamExt as _;
use kappa_actors::port::ArchiveStore;
use kappa_actors::processor::Processor as _;
use serde::{Deserialize, Serialize};

use super::Rule;
use crate::settings::Settings;

/// The file in the data folder.
const FILE: &str = "rules.json";

/// What the names of the notes in an archive store begin and end with.
const OBJECTS: &str = "rules/";
const SUFFIX: &str = ".json";

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

/// Where it is remembered, for as long as the tables are.
pub enum RuleBook {
    /// A file in the data folder.
    File(PathBuf),
    /// Numbered objects of an archive store, each written once: the last one counts. A daemon whose
    /// backends are all services keeps nothing on this machine.
    Objects(Arc<dyn ArchiveStore>),
}

impl RuleBook {
    /// That of a configuration.
    ///
    /// # Errors
    /// When the archive cannot be opened.
    pub async fn of(settings: &Settings) -> anyhow::Result<Self> {
        if settings.keeps_files() {
            Ok(Self::File(settings.data_dir.join(FILE)))
        } else {
            Ok(Self::Objects(super::open_archive(settings).await?))
        }
    }

    /// The rules that changed under their revision since they were noted. Writes nothing.
    ///
    /// # Errors
    /// When the note cannot be read.
    pub async fn changed(&self, rules: &[Rule]) -> anyhow::Result<Vec<RuleChange>> {
        let before = self.read().await?.1;
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
    /// When the note cannot be written.
    pub async fn note(&self, rules: &[Rule]) -> anyhow::Result<()> {
        let now = notes(rules);
        let text = serde_json::to_vec_pretty(&now)?;
        match self {
            Self::File(path) => {
                std::fs::write(path, text).with_context(|| path.display().to_string())
            }
            Self::Objects(store) => {
                let (number, before) = self.read().await?;
                if before != now {
                    // If the name is taken, a replica that starts at the same time was faster.
                    store.put_if_absent(&object(number + 1), text.into()).await?;
                }
                Ok(())
            }
        }
    }

    /// The last note and its number.
    async fn read(&self) -> anyhow::Result<(u32, Notes)> {
        // A torn note only means that a change goes unnoticed once.
        let parse = |text: &[u8]| serde_json::from_slice(text).unwrap_or_default();
        match self {
            Self::File(path) => match std::fs::read(path) {
                Ok(text) => Ok((0, parse(&text))),
                Err(error) if is_gone(&error) => Ok((0, Notes::new())),
                Err(error) => Err(error).with_context(|| path.display().to_string()),
            },
            Self::Objects(store) => {
                let names = store.list(OBJECTS).await?.into_iter();
                let number =
                    |name: &str| name.strip_prefix(OBJECTS)?.strip_suffix(SUFFIX)?.parse().ok();
                let Some(last) = names.filter_map(|info| number(&info.name)).max() else {
                    return Ok((0, Notes::new()));
                };
                let chunks: Vec<Bytes> = store.read(&object(last)).await?.try_collect().await?;
                Ok((last, parse(&chunks.concat())))
            }
        }
    }
}

fn object(number: u32) -> String {
    format!("{OBJECTS}{number:06}{SUFFIX}")
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
    use kappa_actors::testing::memory::archive_store::MemoryArchive;

    use super::*;
    use crate::settings::Sources;
    use crate::wiring::Blueprint;

    fn rules(sets: &[&str]) -> Vec<Rule> {
        let set = sets.iter().map(ToString::to_string).collect();
        let sources = Sources { set, ..Sources::default() };
        Blueprint::of(&Settings::load(&sources).unwrap()).unwrap().processors
    }

    #[tokio::test]
    async fn a_rule_changed_under_its_revision_is_told_until_it_is_noted() {
        let dir = tempfile::tempdir().unwrap();
        let archive: Arc<dyn ArchiveStore> = Arc::new(MemoryArchive::new());
        for book in [RuleBook::File(dir.path().join(FILE)), RuleBook::Objects(archive)] {
            let changed = rules(&["processors.orders.columns.currency.default=EUR"]);
            let told = async |rules: &[Rule]| book.changed(rules).await.unwrap();
            assert_eq!(told(&rules(&[])).await, [], "nothing ran yet");
            book.note(&rules(&[])).await.unwrap();
            book.note(&rules(&[])).await.unwrap();
            let change = RuleChange { processor: "orders".to_owned(), revision: 0 };
            assert_eq!(told(&changed).await, [change]);
            assert_eq!(told(&rules(&["processors.orders.revision=1"])).await, []);
            book.note(&changed).await.unwrap();
            assert_eq!(told(&changed).await, []);
            // Back again is a change as well.
            assert_eq!(told(&rules(&[])).await.len(), 1);
            book.note(&rules(&[])).await.unwrap();
            assert_eq!(told(&rules(&[])).await, []);
        }
    }
}
