//! A data folder and the operations on it, each done as a process of its own would do it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kappa::backend::embedded::log::begin_generation;
use kappa::daemon::Daemon;
use kappa::replay::{Job, Options, ReplayPlan, Requeue, Selected, Source, Target};
use kappa::settings::{Settings, Sources};
use kappa::wiring::{Blueprint, RuleBook, open_dead_letters, open_log, open_ports, open_staging};
use kappa_actors::message::NewMessage;
use kappa_actors::pipeline::{Intake, Pipeline};
use kappa_actors::port::{Comparison, DeadLetterFilter, MergeOptions, Scope};
use kappa_actors::processor::Processor as _;
use kappa_actors::replay::ReplayRange;
use kappa_actors::time::Timestamp;
use kappa_actors::vitals::Board;
use rusqlite::Connection;
use rusqlite::types::Value as Cell;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::model::{Key, Message, Row, Rows};
use super::rules::{Rules, Table};

pub(crate) struct World {
    root: TempDir,
    /// With batches of a few events and rows, so that they overtake each other.
    small: bool,
    /// Each set of rules with its settings, read once.
    read: RefCell<Vec<(Rules, Settings, Blueprint)>>,
}

/// The times of processing of the rows of a table.
pub(crate) type Times = BTreeMap<(Key, Vec<u8>), String>;

impl World {
    pub(crate) fn new(small: bool) -> Self {
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let world = Self { root: root.unwrap(), small, read: RefCell::default() };
        fs::create_dir(world.path("processors")).unwrap();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    fn settings(&self, rules: &Rules) -> (Settings, Blueprint) {
        let mut read = self.read.borrow_mut();
        if let Some((_, settings, blueprint)) = read.iter().find(|(it, ..)| it == rules) {
            return (settings.clone(), blueprint.clone());
        }
        let file = self.path("kappa.toml");
        fs::write(&file, rules.configuration(self.small)).unwrap();
        let set = vec![format!("processors_dir={}", self.path("processors").display())];
        let data_dir = Some(self.data());
        let sources = Sources { files: vec![file], set, data_dir, ..Sources::default() };
        let settings = Settings::load(&sources).unwrap();
        let blueprint = Blueprint::of(&settings).unwrap();
        read.push((rules.clone(), settings.clone(), blueprint.clone()));
        (settings, blueprint)
    }

    /// Publishes batches, each in one commit.
    pub(crate) fn publish(&self, rules: &Rules, batches: &[Vec<String>]) {
        let (settings, _) = self.settings(rules);
        runtime().block_on(async {
            let log = open_log(&settings).await.unwrap();
            for batch in batches {
                let messages = batch.iter().cloned().map(NewMessage::from_payload).collect();
                for outcome in log.publish(messages).await {
                    outcome.unwrap();
                }
            }
            log.close().await;
        });
    }

    /// Runs a daemon until nothing is left to do.
    pub(crate) fn run(&self, rules: &Rules) {
        let (settings, blueprint) = self.settings(rules);
        runtime().block_on(async {
            let mut daemon = Daemon::start(settings, &blueprint, Intake::UntilIdle).await.unwrap();
            daemon.idle().await.unwrap();
            let stopped = daemon.stop().await;
            assert_eq!(stopped.given_back, 0, "messages given back at an idle end");
        });
    }

    /// Runs a daemon, and kills it when it has acknowledged `events` or has nothing left to do.
    pub(crate) fn kill(&self, rules: &Rules, events: u64) {
        let (settings, blueprint) = self.settings(rules);
        let runtime = runtime();
        let daemon = runtime.block_on(async {
            let mut daemon = Daemon::start(settings, &blueprint, Intake::UntilIdle).await.unwrap();
            let board = Arc::clone(daemon.board());
            let mut tick = tokio::time::interval(Duration::from_micros(200));
            loop {
                tokio::select! {
                    idle = daemon.idle() => break idle.unwrap(),
                    _ = tick.tick() => if board.counters().acked.get() >= events { break },
                }
            }
            daemon
        });
        // All tasks end where they wait.
        runtime.shutdown_timeout(Duration::from_secs(5));
        drop(daemon);
    }

    /// Runs a daemon that was started before the rules changed: the notes of rules do not concern
    /// it any more.
    pub(crate) fn run_older(&self, rules: &Rules) {
        let (settings, blueprint) = self.settings(rules);
        runtime().block_on(async {
            let ports = open_ports(&settings).await.unwrap();
            let plan = blueprint.plan(&settings);
            let others = Arc::new(Vec::new);
            let mut pipeline =
                Pipeline::start(plan, ports, Board::new(), Intake::UntilIdle, others)
                    .await
                    .unwrap();
            pipeline.idle().await.unwrap();
            let stopped = pipeline.stop(Duration::from_secs(30)).await;
            assert_eq!(stopped.given_back, 0, "messages given back at an idle end");
        });
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
                    scope: Some(Scope { revision: rule.plan.revision() }),
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
                id_prefix: None,
                reason: None,
                requeued: Some(false),
                live_only: true,
                limit: usize::MAX,
            };
            let mut ids = store.find(&filter).await.unwrap();
            ids.reverse();
            let mut requeue =
                Requeue::start(&settings, &blueprint, (store, ids), false).await.unwrap();
            requeue.run().await.unwrap();
            assert_eq!(requeue.end().await.unfinished, 0);
        });
    }

    pub(crate) fn begin_generation(&self) {
        begin_generation(&self.data()).unwrap();
    }

    /// As a clock that was an hour ahead left the log.
    pub(crate) fn jump_ahead(&self) {
        let log = self.log();
        log.execute("UPDATE log SET last_time = last_time + 3600000000", ()).unwrap();
    }

    pub(crate) fn copy_log(&self) {
        let copy = self.path("copy.db");
        let _ = fs::remove_file(&copy);
        self.log().execute("VACUUM INTO ?", [copy.display().to_string()]).unwrap();
    }

    /// Puts the copy in the place of the log; without a copy, the log is just gone.
    pub(crate) fn replace_log(&self, by_copy: bool) {
        for name in ["log.db", "log.db-wal", "log.db-shm"] {
            let _ = fs::remove_file(self.data().join(name));
        }
        if by_copy {
            fs::copy(self.path("copy.db"), self.data().join("log.db")).unwrap();
        }
    }

    fn log(&self) -> Connection {
        open(&self.data().join("log.db"))
    }

    /// The messages of the log above an offset, by SQL.
    pub(crate) fn messages(&self, above: i64) -> Vec<Message> {
        let log = self.log();
        let id: i64 = log.query_row("SELECT id FROM log", (), |row| row.get(0)).unwrap();
        let sql = "SELECT offset, publish_time, payload, (SELECT max(generation) FROM generations \
                   WHERE first_offset <= offset) FROM events WHERE offset > ? ORDER BY offset";
        let mut select = log.prepare(sql).unwrap();
        let message = |row: &rusqlite::Row<'_>| {
            let (offset, generation): (i64, i64) = (row.get(0)?, row.get(3)?);
            let log_id = format!("{id:016x}");
            let payload: Vec<u8> = row.get(2)?;
            Ok(Message {
                id: format!("{}.{generation}-{offset}", &log_id[4..]),
                micros: row.get(1)?,
                payload: String::from_utf8(payload).unwrap(),
                offset,
                in_log: true,
            })
        };
        select.query_map([above], message).unwrap().map(Result::unwrap).collect()
    }

    /// The open letters of live runs: message id, publish time as text and duty.
    pub(crate) fn letters(&self) -> Vec<(String, String, String)> {
        let warehouse = open(&self.data().join("warehouse.db"));
        let sql = "SELECT message_id, publish_time, duty FROM dead_letters \
                   WHERE requeued_at IS NULL AND replay_id IS NULL";
        let mut select = warehouse.prepare(sql).unwrap();
        let rows = select.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// The rows of a table, and when they were made.
    pub(crate) fn rows(&self, table: &Table) -> (Rows, Times) {
        let warehouse = open(&self.data().join("warehouse.db"));
        let (mut rows, mut times) = (Rows::new(), Times::new());
        if !warehouse.table_exists(Some("main"), table.name).unwrap() {
            return (rows, times);
        }
        let columns = table.columns.join(", ");
        let sql = format!("SELECT _version, \"at\", {columns} FROM {}", table.name);
        let mut select = warehouse.prepare(&sql).unwrap();
        let mut found = select.query(()).unwrap();
        while let Some(row) = found.next().unwrap() {
            let cell = |at: usize| match row.get::<_, Cell>(at + 2).unwrap() {
                Cell::Text(text) => text,
                Cell::Integer(integer) => integer.to_string(),
                other => panic!("{other:?} in {}", table.name),
            };
            let cells: Vec<String> = (0..table.columns.len()).map(cell).collect();
            let (version, key): (Vec<u8>, _) = (row.get(0).unwrap(), cells[..table.key].to_vec());
            times.insert((key.clone(), version.clone()), row.get(1).unwrap());
            let before = rows.insert(key, Row { version, cells });
            assert!(before.is_none(), "two rows of one key in {}", table.name);
        }
        (rows, times)
    }
}

fn open(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    connection
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
