//! The embedded backends in a data folder, and the steps that are done to it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kappa::backend::embedded::log::begin_generation;
use kappa::daemon::Daemon;
use kappa::wiring::{open_log, open_ports};
use kappa_actors::message::NewMessage;
use kappa_actors::pipeline::{Intake, Pipeline};
use kappa_actors::vitals::Board;
use rusqlite::Connection;
use rusqlite::types::Value as Cell;

use super::model::{Key, Letter, Message, Row};
use super::place::Place;
use super::project::{Project, runtime};
use super::rules::{Rules, Table};

pub(crate) struct Embedded {
    project: Project,
    /// The last offset of the copy of the log, if there is one.
    pub(crate) copied: Option<i64>,
}

impl Embedded {
    pub(crate) fn new(small: bool) -> Self {
        Self { project: Project::new(small, Vec::new()), copied: None }
    }

    pub(crate) fn begin_generation(&self) {
        begin_generation(&self.project.data()).unwrap();
    }

    /// As a clock that was an hour ahead left the log.
    pub(crate) fn jump_ahead(&self) {
        let log = self.log();
        log.execute("UPDATE log SET last_time = last_time + 3600000000", ()).unwrap();
    }

    pub(crate) fn copy_log(&self) {
        let copy = self.project.path("copy.db");
        let _ = fs::remove_file(&copy);
        self.log().execute("VACUUM INTO ?", [copy.display().to_string()]).unwrap();
    }

    /// Puts the copy in the place of the log; without a copy, the log is just gone.
    pub(crate) fn replace_log(&self, by_copy: bool) {
        for name in ["log.db", "log.db-wal", "log.db-shm"] {
            let _ = fs::remove_file(self.project.data().join(name));
        }
        if by_copy {
            fs::copy(self.project.path("copy.db"), self.project.data().join("log.db")).unwrap();
        }
    }

    fn log(&self) -> Connection {
        open(&self.project.data().join("log.db"))
    }
}

impl Place for Embedded {
    fn project(&self) -> &Project {
        &self.project
    }

    fn messages(&self, above: i64) -> Vec<Message> {
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

    fn publish(&mut self, rules: &Rules, batches: &[Vec<String>]) {
        let (settings, _) = self.project.settings(rules);
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

    fn run(&mut self, rules: &Rules) {
        let (settings, blueprint) = self.project.settings(rules);
        runtime().block_on(async {
            let mut daemon = Daemon::start(settings, &blueprint, Intake::UntilIdle).await.unwrap();
            daemon.idle().await.unwrap();
            let stopped = daemon.stop().await;
            assert_eq!(stopped.given_back, 0, "messages given back at an idle end");
        });
    }

    fn kill(&mut self, rules: &Rules, events: u64) {
        let (settings, blueprint) = self.project.settings(rules);
        let runtime = runtime();
        let daemon = runtime.block_on(async {
            let mut daemon = Daemon::start(settings, &blueprint, Intake::UntilIdle).await.unwrap();
            let board = Arc::clone(daemon.board());
            let mut tick = tokio::time::interval(Duration::from_micros(200));
            loop {
                tokio::select! {
                    idle = daemon.idle() => {
                        idle.unwrap();
                        break;
                    }
                    _ = tick.tick() => if board.counters().acked.get() >= events { break },
                }
            }
            daemon
        });
        // All tasks end where they wait.
        runtime.shutdown_timeout(Duration::from_secs(5));
        drop(daemon);
    }

    fn run_older(&mut self, rules: &Rules) {
        let (settings, blueprint) = self.project.settings(rules);
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

    fn letters(&self) -> Vec<Letter> {
        let warehouse = open(&self.project.data().join("warehouse.db"));
        let sql = "SELECT message_id, publish_time, duty FROM dead_letters \
                   WHERE requeued_at IS NULL AND replay_id IS NULL";
        let mut select = warehouse.prepare(sql).unwrap();
        let rows = select.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }

    fn read(&self, table: &Table, row_of: &mut dyn FnMut(Key, Row, Option<&str>)) {
        let warehouse = open(&self.project.data().join("warehouse.db"));
        if !warehouse.table_exists(Some("main"), table.name).unwrap() {
            return;
        }
        let (columns, key) = (table.columns.join(", "), table.columns[..table.key].join(", "));
        let sql = format!("SELECT _version, \"at\", {columns} FROM {} ORDER BY {key}", table.name);
        let mut select = warehouse.prepare(&sql).unwrap();
        let mut found = select.query(()).unwrap();
        while let Some(row) = found.next().unwrap() {
            let cell = |at: usize| match row.get::<_, Cell>(at + 2).unwrap() {
                Cell::Text(text) => text,
                Cell::Integer(integer) => integer.to_string(),
                other => panic!("{other:?} in {}", table.name),
            };
            let cells: Vec<String> = (0..table.columns.len()).map(cell).collect();
            let (version, key) = (row.get(0).unwrap(), cells[..table.key].to_vec());
            let time: String = row.get(1).unwrap();
            row_of(key, Row { version, cells }, Some(&time));
        }
    }
}

fn open(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    connection
}
