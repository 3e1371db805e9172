//! The daemon as a process, and what it costs.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kappa::backend::embedded::log::{EmbeddedLog, LogOptions};
use kappa::generate::{Generator, Ids, Options};
use kappa_actors::message::NewMessage;
use kappa_actors::port::EventLog;
use kappa_actors::time::Timestamp;
use tokio::runtime::Runtime;

/// How many events a million is in this run.
pub fn million() -> u64 {
    let scale = std::env::var("KAPPA_BENCH_EVENTS").ok();
    scale.and_then(|text| text.parse().ok()).unwrap_or(1_000_000)
}

/// Events of the mix that `kappa generate` makes.
pub fn generator(ids: Ids) -> Generator {
    Generator::new(Options { seed: 7, invalid_percent: 1.0, ids, start: Timestamp::now() })
}

/// Opens the log in `data`, for publishing.
pub fn log_in(data: &Path) -> EmbeddedLog {
    let options = LogOptions {
        subscription: "kappa".to_owned(),
        subscription_life: None,
        max_age: Duration::from_secs(7 * 86_400),
        max_bytes: 1 << 40,
        max_event_bytes: 10 << 20,
    };
    EmbeddedLog::open(data, options).unwrap()
}

/// Publishes `count` events into the log of `data`.
pub fn publish(data: &Path, count: u64, ids: Ids) {
    let log = log_in(data);
    let runtime = Runtime::new().unwrap();
    let mut events = generator(ids);
    let mut left = count;
    while left > 0 {
        let batch = left.min(5_000);
        let mut messages = Vec::new();
        for _ in 0..batch {
            let mut payload = Vec::new();
            events.write_next(&mut payload);
            messages.push(NewMessage::from_payload(Bytes::from(payload)));
        }
        runtime.block_on(log.publish(messages)).into_iter().for_each(|one| drop(one.unwrap()));
        left -= batch;
    }
}

/// A running `kappa run`.
pub struct Daemon {
    child: Child,
    started: Instant,
    lines: BufReader<std::process::ChildStderr>,
}

/// What a finished run cost.
pub struct Cost {
    /// From the start to the last acknowledgement.
    pub wall: Duration,
    /// Processor seconds, until the end of the process.
    pub cpu_seconds: f64,
    /// The most memory it held, in MB.
    pub peak_mb: f64,
}

impl Daemon {
    /// Starts the daemon on `data`.
    pub fn start(data: &Path, args: &[&str]) -> Self {
        let started = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_kappa"))
            .args(["run", "--set", "status.listen=127.0.0.1:0", "--data-dir"])
            .arg(data)
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        Self { child, started, lines }
    }

    /// Reads the log up to the line that holds `words`; the time since the start.
    pub fn wait_for(&mut self, words: &str) -> Duration {
        let mut line = String::new();
        while self.lines.read_line(&mut line).unwrap() > 0 {
            if line.contains(words) {
                return self.started.elapsed();
            }
            line.clear();
        }
        panic!("the daemon ended without saying {words:?}");
    }

    /// Waits for a run `--until-idle` to end.
    pub fn finish(mut self) -> Cost {
        let wall = self.wait_for("nothing is left to do");
        // A zombie's figures can still be read: the last look before it ends is enough.
        let mut cost = Cost { wall, cpu_seconds: 0.0, peak_mb: 0.0 };
        loop {
            if let Some((cpu_seconds, peak_mb)) = self.figures() {
                cost = Cost { wall, cpu_seconds, peak_mb };
            }
            match self.child.try_wait().unwrap() {
                Some(status) if status.success() => return cost,
                Some(status) => panic!("the daemon ended with {status}"),
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Ends the daemon.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn figures(&self) -> Option<(f64, f64)> {
        let read =
            |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).ok();
        let status = read("status")?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let peak_kb: f64 = peak.trim().trim_end_matches(" kB").parse().ok()?;
        let stat = read("stat")?;
        // Behind the name in brackets: the 14th and 15th field of all, in ticks of 10 ms.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: f64 =
            fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        Some((ticks / 100.0, peak_kb / 1024.0))
    }
}
