//! A project of random rules, and the commands that work on it: each as a process of its own would
//! do it.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use kappa::replay::{Job, Options, ReplayPlan, Requeue, Selected, Source, Target};
use kappa::settings::{Settings, Sources};
use kappa::wiring::{Blueprint, RuleBook, open_dead_letters, open_log, open_staging};
use kappa_actors::port::{Comparison, DeadLetterFilter, MergeOptions, Scope};
use kappa_actors::processor::Processor as _;
use kappa_actors::replay::ReplayRange;
use kappa_actors::time::Timestamp;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::rules::Rules;

pub(crate) struct Project {
    root: TempDir,
    /// With batches of a few events and rows, so that they overtake each other.
    small: bool,
    /// Settings besides the rules, `KEY=VALUE`.
    set: Vec<String>,
    /// Each set of rules with its settings, read once.
    read: RefCell<Vec<(Rules, Settings, Blueprint)>>,
}

impl Project {
    pub(crate) fn new(small: bool, set: Vec<String>) -> Self {
        // Many small folders are quicker in memory; a large one may not fit.
        let memory = Path::new("/dev/shm");
        let root = match small && memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        let project = Self { root: root.unwrap(), small, set, read: RefCell::default() };
        fs::create_dir(project.path("processors")).unwrap();
        project
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub(crate) fn settings(&self, rules: &Rules) -> (Settings, Blueprint) {
        let mut read = self.read.borrow_mut();
        if let Some((_, settings, blueprint)) = read.iter().find(|(it, ..)| it == rules) {
            return (settings.clone(), blueprint.clone());
        }
        let file = self.path("kappa.toml");
        fs::write(&file, rules.configuration(self.small)).unwrap();
        let mut set = vec![format!("processors_dir={}", self.path("processors").display())];
        set.extend(self.set.iter().cloned());
        let data_dir = Some(self.data());
        let sources = Sources { files: vec![file], set, data_dir, ..Sources::default() };
        let settings = Settings::load(&sources).unwrap();
        let blueprint = Blueprint::of(&settings).unwrap();
        read.push((rules.clone(), settings.clone(), blueprint.clone()));
        (settings, blueprint)
    }

    pub(crate) fn seek(&self, rules: &Rules, micros: i64) {
        let (settings, _) = self.settings(rules);
        runtime().block_on(async {
            let log = open_log(&settings).await.unwrap();
            log.seek(Timestamp::from_micros(micros)).await.unwrap();
            log.close().await;
        });
    }

    /// Replays messages published in `from..to`; how many events that were.
    pub(crate) fn replay(
        &self,
        rules: &Rules,
        (source, into): (Source, Target),
        (from, to): (i64, i64),
        only: Option<&str>,
        files: &[PathBuf],
    ) -> u64 {
        let (settings, blueprint) = self.settings(rules);
        let [from, to] = [from, to].map(Timestamp::from_micros);
        let selected = Selected {
            range: ReplayRange { from, to },
            event_time: None,
            files: files.iter().map(|path| path.display().to_string()).collect(),
        };
        let names: Vec<_> = only.iter().map(ToString::to_string).collect();
        runtime().block_on(async {
            let book = RuleBook::of(&settings).await.unwrap();
            assert!(book.changed(&blueprint.processors).await.unwrap().is_empty());
            if into == Target::Live {
                book.note(&blueprint.processors).await.unwrap();
            }
            let plan = ReplayPlan::new(selected, (source, into), &names, &blueprint).unwrap();
            let options =
                Options { rate: None, replace: true, skip_damaged: false, as_import: false };
            let mut job = Job::begin(&settings, &blueprint, plan, options).await.unwrap();
            job.run(|_, _| {}).await.unwrap();
            let ended = job.end().await.unwrap();
            assert!(ended.complete, "{ended:?}");
            ended.events
        })
    }

    /// Merges the tables of the chosen processors, as far as anything is staged.
    pub(crate) fn merge(&self, rules: &Rules, only: Option<&str>, remove_missing: bool) {
        let (settings, blueprint) = self.settings(rules);
        runtime().block_on(async {
            let store = open_staging(&settings).await.unwrap();
            for rule in &blueprint.processors {
                let table = rule.plan.table();
                if only.is_some_and(|only| only != rule.plan.name()) {
                    continue;
                }
                let Some(staged) = store.staged(&table.name).await.unwrap() else { continue };
                assert!(staged.completed.is_some(), "{} is not complete", table.name);
                let how = Comparison {
                    passed_over: vec!["at".to_owned()],
                    scope: Some(Scope { revision: staged.revision }),
                    examples: 3,
                };
                let book = RuleBook::of(&settings).await.unwrap();
                book.note(std::slice::from_ref(rule)).await.unwrap();
                let options = MergeOptions { remove_missing, dry_run: false };
                store.merge(table, &how, options).await.unwrap();
                let diff = store.diff(table, &how).await.unwrap();
                assert!(
                    !remove_missing || diff.is_empty(),
                    "{} differs after the merge: {diff:?}",
                    table.name
                );
                store.drop_staging(&table.name).await.unwrap();
            }
        });
    }

    /// Requeues all open letters.
    pub(crate) fn requeue(&self, rules: &Rules) {
        let (settings, blueprint) = self.settings(rules);
        runtime().block_on(async {
            let Some(store) = open_dead_letters(&settings).await.unwrap() else { return };
            let filter = DeadLetterFilter {
                requeued: Some(false),
                live_only: true,
                limit: usize::MAX,
                ..DeadLetterFilter::ALL
            };
            let mut ids = store.find(&filter).await.unwrap();
            ids.reverse();
            let mut requeue =
                Requeue::start(&settings, &blueprint, (store, ids), false).await.unwrap();
            requeue.run().await.unwrap();
            assert_eq!(requeue.end().await.unfinished, 0);
        });
    }
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
