//! The servers' process, seen from outside.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::serve::{ARGUMENT, BUCKET, PROJECT, TABLES};
use crate::daemon::figures;

/// How long nothing may move before a bench gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often counts are looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The servers. They end when dropped.
pub struct Services {
    // Declared first, dropped first: the process ends with its input.
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    child: Child,
    addresses: Vec<String>,
}

impl Services {
    /// Starts the process.
    pub fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let addresses = line.split_whitespace().map(str::to_owned).collect();
        Self { commands, answers, child, addresses }
    }

    /// Where messages are published.
    pub fn pubsub(&self) -> String {
        self.addresses[0].clone()
    }

    /// The daemon's arguments: the shipped configuration, except names and addresses.
    pub fn arguments(&self) -> Vec<String> {
        let shipped = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/gcp.toml");
        let mut arguments = vec!["--config".to_owned(), shipped.to_str().unwrap().to_owned()];
        let named = [("gcp.project", PROJECT), ("archive.gcs.bucket", BUCKET)];
        let endpoints = [
            "event_log.pubsub.endpoint",
            "event_log.pubsub.admin_endpoint",
            "warehouse.bigquery.endpoint",
            "warehouse.bigquery.write_endpoint",
            "archive.gcs.endpoint",
            "archive.gcs.control_endpoint",
        ];
        let reached = endpoints.into_iter().zip(self.addresses.iter().map(String::as_str));
        for (key, value) in named.into_iter().chain(reached) {
            arguments.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        arguments
    }

    /// One command and its answer.
    pub fn ask(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the servers ended");
        line.trim_end().to_owned()
    }

    /// Waits until a count of the servers has reached `count`.
    pub fn until(&mut self, what: &str, count: usize) {
        let mut last = (0, Instant::now());
        while last.0 < count {
            let now = self.ask(what).parse().unwrap();
            if now != last.0 {
                last = (now, Instant::now());
            }
            assert!(last.1.elapsed() < PATIENCE, "{what} stays at {} of {count}", last.0);
            std::thread::sleep(LOOK);
        }
    }

    /// The keys of all rows of events that arrived, and when they were to be seen, in microseconds
    /// since 1970.
    pub fn rows(&mut self) -> Vec<(String, u128)> {
        let mut rows = Vec::new();
        for table in TABLES {
            let told = self.ask(&format!("keys {table}"));
            rows.extend(told.split_whitespace().map(|row| {
                let (key, micros) = row.rsplit_once('=').unwrap();
                (key.to_owned(), micros.parse().unwrap())
            }));
        }
        rows
    }

    /// Processor seconds that the servers have used.
    pub fn cpu_seconds(&self) -> f64 {
        figures(self.child.id()).unwrap().0
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
