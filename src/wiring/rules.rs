//! Remembers which rule ran under which revision. A rule that changed under its revision is refused:
//! the rows that the old and the new rule make of one event would have the same version.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use futures::TryStreamExt as _;
use kappa_actors::port::{ArchiveStore, Warehouse};
use kappa_actors::processor::Processor as _;
use kappa_actors::row::TableSpec;
use serde::{Deserialize, Serialize};

use super::Rule;
use crate::backend::embedded::folder;
use crate::settings::Settings;

/// The file in the data folder.
const FILE: &str = "rules.json";

/// Prefix and suffix of the notes' names in an archive store.
const OBJECTS: &str = "rules/";
const SUFFIX: &str = ".json";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Noted {
    revision: i64,
    fingerprint: String,
}

/// By the processor's name.
type Notes = BTreeMap<String, Noted>;

/// A rule that changed without a higher revision.
#[derive(Clone, Debug)]
pub struct RuleChange {
    /// The processor.
    pub processor: String,
    /// Its table.
    pub table: Arc<TableSpec>,
    /// The highest revision under which another rule ran.
    pub revision: i64,
}

impl std::fmt::Display for RuleChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { processor, revision, .. } = self;
        let next = revision + 1;
        write!(
            f,
            "the rule of processor {processor} has changed since revision {revision} (its own \
             configuration, the envelope, or which events reach it): set \
             processors.{processor}.revision = {next}, so that its rows win over the earlier ones"
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
    /// Opens the rules of a configuration.
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

    /// The rules that changed since they were noted and have no higher revision. Writes nothing.
    ///
    /// # Errors
    /// When the note cannot be read.
    pub async fn changed(&self, rules: &[Rule]) -> anyhow::Result<Vec<RuleChange>> {
        let before = self.read().await?.1;
        let change = |rule: &Rule| {
            let before = before.get(rule.plan.name())?;
            let changed =
                before.fingerprint != rule.fingerprint && rule.config.revision <= before.revision;
            changed.then(|| RuleChange {
                processor: rule.plan.name().to_owned(),
                table: Arc::clone(rule.plan.table()),
                revision: before.revision,
            })
        };
        Ok(rules.iter().filter_map(change).collect())
    }

    /// Opens it, and refuses rules as [`Self::check`] does. The warehouse is opened only for rules
    /// that changed.
    ///
    /// # Errors
    /// As [`Self::check`], or when a backend cannot be opened.
    pub async fn refuse_changed(settings: &Settings, rules: &[Rule]) -> anyhow::Result<Self> {
        let book = Self::of(settings).await?;
        if !book.changed(rules).await?.is_empty() {
            let archive = super::open_archive(settings).await?;
            book.check(rules, &*super::open_warehouse(settings, archive).await?).await?;
        }
        Ok(book)
    }

    /// Refuses rules that changed without a higher revision, unless their tables are empty.
    ///
    /// # Errors
    /// All such changes, or why the note or a table cannot be read.
    pub async fn check(&self, rules: &[Rule], warehouse: &dyn Warehouse) -> anyhow::Result<()> {
        let mut refused = Vec::new();
        for change in self.changed(rules).await? {
            if !warehouse.is_empty(&change.table).await? {
                refused.push(change.to_string());
            }
        }
        anyhow::ensure!(refused.is_empty(), refused.join("\n"));
        Ok(())
    }

    /// Notes the rules that run from now on. Processors that are not among them keep their notes.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub async fn note(&self, rules: &[Rule]) -> anyhow::Result<()> {
        let (number, before) = self.read().await?;
        let mut now = before.clone();
        for rule in rules {
            let noted = now.entry(rule.plan.name().to_owned()).or_default();
            let same = noted.fingerprint == rule.fingerprint;
            let at_least = if same { noted.revision } else { 0 };
            noted.revision = rule.config.revision.max(at_least);
            noted.fingerprint.clone_from(&rule.fingerprint);
        }
        if before == now {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(&now)?;
        match self {
            Self::File(path) => replace(path, &text).with_context(|| path.display().to_string()),
            Self::Objects(store) => {
                // If the name is taken, a replica that starts at the same time was faster.
                store.put_if_absent(&object(number + 1), text.into()).await?;
                Ok(())
            }
        }
    }

    /// The last note and its number.
    async fn read(&self) -> anyhow::Result<(u32, Notes)> {
        let parse = |text: &[u8]| {
            serde_json::from_slice(text).context("the notes of the rules cannot be read")
        };
        match self {
            Self::File(path) => match std::fs::read(path) {
                Ok(text) => Ok((0, parse(&text).with_context(|| path.display().to_string())?)),
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
                Ok((last, parse(&chunks.concat()).with_context(|| object(last))?))
            }
        }
    }
}

fn object(number: u32) -> String {
    format!("{OBJECTS}{number:06}{SUFFIX}")
}

/// Replaces the file as a whole: a torn note would let a change pass.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    // A replay of files may be the first to write into the data folder.
    let parent = path.parent().unwrap_or(Path::new("."));
    folder::make(parent)?;
    let temporary = path.with_extension("json.new");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    folder::sync(parent)
}

/// There is no note; nor is there where the data folder is no folder, which others complain of.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use kappa_actors::row::{Row, Value};
    use kappa_actors::testing::memory::archive_store::MemoryArchive;
    use kappa_actors::testing::memory::warehouse::MemoryWarehouse;

    use super::*;
    use crate::settings::Sources;
    use crate::wiring::Blueprint;

    fn rules(sets: &[&str]) -> Vec<Rule> {
        let set = sets.iter().map(ToString::to_string).collect();
        let sources = Sources { set, ..Sources::default() };
        Blueprint::of(&Settings::load(&sources).unwrap()).unwrap().processors
    }

    #[tokio::test]
    async fn a_rule_changed_without_a_higher_revision_is_refused_unless_its_table_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let archive: Arc<dyn ArchiveStore> = Arc::new(MemoryArchive::new());
        for book in [RuleBook::File(dir.path().join(FILE)), RuleBook::Objects(archive)] {
            let warehouse = MemoryWarehouse::new();
            let refused = async |rules: &[Rule]| match book.check(rules, &warehouse).await {
                Ok(()) => String::new(),
                Err(error) => error.to_string(),
            };
            let changed = rules(&["processors.orders.columns.currency.default=EUR"]);
            let raised = |revision: i64| {
                let revision = format!("processors.orders.revision={revision}");
                rules(&["processors.orders.columns.currency.default=EUR", &revision])
            };
            assert_eq!(refused(&rules(&[])).await, "", "nothing ran yet");
            book.note(&rules(&[])).await.unwrap();
            assert_eq!(refused(&changed).await, "", "the table is empty");
            let orders = Arc::clone(rules(&[])[0].plan.table());
            warehouse.ensure_table(&orders).await.unwrap();
            let row = Row(vec![Value::Null; orders.columns.len()].into());
            warehouse.write(&orders, Arc::new(vec![row])).await.unwrap();
            let says = refused(&changed).await;
            assert!(says.contains("set processors.orders.revision = 1"), "{says}");
            assert_eq!(refused(&raised(1)).await, "");
            book.note(&raised(1)).await.unwrap();
            // The old rule comes back only under a revision of its own.
            for revision in [0, 1] {
                let back = format!("processors.orders.revision={revision}");
                let says = refused(&rules(&[&back])).await;
                assert!(says.contains("set processors.orders.revision = 2"), "{says}");
            }
            assert_eq!(refused(&rules(&["processors.orders.revision=2"])).await, "");
            // An unchanged rule may get a lower revision; the note keeps the higher one.
            assert_eq!(refused(&raised(0)).await, "");
            book.note(&raised(0)).await.unwrap();
            assert!(!refused(&rules(&["processors.orders.revision=1"])).await.is_empty());
        }
    }

    #[test]
    fn the_envelope_and_the_routing_are_parts_of_a_rule() {
        let fingerprints = |sets: &[&str]| {
            let rules = rules(sets).into_iter();
            rules
                .map(|rule| (rule.plan.name().to_owned(), rule.fingerprint))
                .collect::<BTreeMap<_, _>>()
        };
        let plain = fingerprints(&[]);
        let envelope = fingerprints(&["envelope.time=/data/at"]);
        assert!(plain.iter().all(|(name, rule)| envelope[name] != *rule));
        // `other` takes the events that no prefix matches, so every prefix is a part of its rule.
        let routed = fingerprints(&["processors.users.match=[\"user.\", \"account.\"]"]);
        let differ = plain.iter().filter(|(name, rule)| routed[*name] != **rule);
        assert_eq!(differ.map(|(name, _)| name).collect::<Vec<_>>(), ["other", "users"]);
    }
}
