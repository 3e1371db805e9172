//! The README's figures of reprocessing: history replayed, compared, merged and audited, by the commands, on a folder
//! whose events have all been processed.
//!
//! `cargo bench --bench history` ends non-zero when a figure is missed. `KAPPA_BENCH_EVENTS` scales
//! the million down, for a quick look; the claims are about the million.

#![expect(unreachable_pub, reason = "a bench has no callers")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot measure ends")]

#[path = "shared/daemon.rs"]
mod daemon;
#[path = "shared/load.rs"]
mod load;
#[path = "pipeline/log.rs"]
mod log;
#[expect(dead_code, reason = "each bench uses a part of it")]
#[path = "shared/report.rs"]
mod report;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use daemon::{Cost, Daemon, figures};
use kappa::generate::Ids;
use load::million;
use report::{Part, Report};

/// Resident memory of a replay, at most, in MB.
const PEAK_MB: f64 = 200.0;
/// Each replay is measured so often, in turn with the live run, and the best is taken: a busy neighbour
/// makes any of them slower, and none faster.
const ROUNDS: usize = 3;
/// Greatest time of an audit, a diff and a merge of a million events, in seconds.
const SECONDS: f64 = 10.0;
/// All that ever was, and will be.
const EVER: [&str; 4] = ["--from", "2020-01-01", "--to", "2100-01-01"];
/// One table takes every event, so that a million events are a million rows of it.
const ONE_TABLE: [&str; 6] = [
    "--set",
    "processors.orders.enabled=false",
    "--set",
    "processors.users.enabled=false",
    "--set",
    "processors.products.enabled=false",
];
/// The rule of that table, changed: every row differs.
const CHANGED: [&str; 4] = [
    "--set",
    "processors.other.revision=1",
    "--set",
    "processors.other.columns.source={type=\"STRING\",value=\"changed\"}",
];

/// Each part by its name, in the order they run.
const PARTS: [(&str, Part); 2] = [("replay", replay), ("tables", tables)];

fn main() {
    report::run(&PARTS);
}

/// A replay beside the live run of the same events, and an audit of both.
fn replay(report: &mut Report) {
    let events = million();
    println!("{events} archived events, by the shipped processors, best of {ROUNDS}");
    let mut live = Best::default();
    let mut replays = ["staging", "live"].map(|into| (into, Best::default()));
    for round in 1..=ROUNDS {
        let folder = tempfile::tempdir().unwrap();
        live.note(events, process(folder.path(), events, &[]));
        if round == 1 {
            let audit = kappa(folder.path(), "audit", &[&EVER]);
            report.at_most("audit", audit.wall.as_secs_f64(), SECONDS, "s");
            report.show("audit, peak memory", audit.peak_mb, "MB");
        }
        for (into, best) in &mut replays {
            best.note(events, history(folder.path(), into));
        }
    }
    report.show("live rate", live.rate / 1e3, "k events/s");
    report.show("live, processor seconds a million", live.cpu_seconds * 1e6 / events as f64, "s");
    report.show("live, peak memory", live.peak_mb, "MB");
    for (into, best) in replays {
        let ratio = best.rate / live.rate;
        report.at_least(&format!("replay into {into}, to the live rate"), ratio, 1.0, "");
        report.at_most(&format!("replay into {into}, peak memory"), best.peak_mb, PEAK_MB, "MB");
    }
}

/// The best of some runs, but for their memory: the most that any held.
struct Best {
    rate: f64,
    cpu_seconds: f64,
    peak_mb: f64,
}

impl Default for Best {
    fn default() -> Self {
        Self { rate: 0.0, cpu_seconds: f64::INFINITY, peak_mb: 0.0 }
    }
}

impl Best {
    fn note(&mut self, events: u64, (wall, cost): (Duration, Cost)) {
        self.rate = self.rate.max(rate(events, wall));
        self.cpu_seconds = self.cpu_seconds.min(cost.cpu_seconds);
        self.peak_mb = self.peak_mb.max(cost.peak_mb);
    }
}

/// A diff and a merge of a million rows that all differ.
fn tables(report: &mut Report) {
    let events = million();
    let folder = tempfile::tempdir().unwrap();
    println!("a table of {events} rows, all changed");
    process(folder.path(), events, &ONE_TABLE);
    kappa(folder.path(), "replay", &[&EVER, &ONE_TABLE, &CHANGED]);
    for command in ["diff", "merge"] {
        let ran = kappa(folder.path(), command, &[&["other"], &ONE_TABLE, &CHANGED]);
        report.at_most(command, ran.wall.as_secs_f64(), SECONDS, "s");
        report.show(&format!("{command}, peak memory"), ran.peak_mb, "MB");
    }
}

/// Publishes, and has a daemon process all events; returns the time and the cost.
fn process(folder: &Path, events: u64, settings: &[&str]) -> (Duration, Cost) {
    log::publish(folder, events, Ids::Ordered);
    let arguments = [&["--until-idle"], settings].concat();
    let mut daemon = Daemon::start(folder, &arguments);
    let wall = daemon.wait_for("nothing is left to do");
    (wall, daemon.finish())
}

/// Replays all history; returns the time by the same clock, and the cost.
fn history(folder: &Path, into: &str) -> (Duration, Cost) {
    let told = ["--into", into, "--set", "logging.filter=info"];
    let mut replay = Daemon::start_command("replay", folder, &[&EVER[..], &told].concat());
    let wall = replay.wait_for("nothing is left to do");
    (wall, replay.finish())
}

fn rate(events: u64, wall: Duration) -> f64 {
    events as f64 / wall.as_secs_f64()
}

/// A command that ran.
struct Ran {
    wall: Duration,
    peak_mb: f64,
}

/// Runs a command, which must succeed.
fn kappa(folder: &Path, command: &str, arguments: &[&[&str]]) -> Ran {
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_kappa"))
        .arg(command)
        .args(arguments.concat())
        .arg("--data-dir")
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut peak_mb = 0.0;
    loop {
        // A zombie's figures can still be read: the last look before it ends is enough.
        if let Some((_, peak)) = figures(child.id()) {
            peak_mb = peak;
        }
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "kappa {command} ended with {status}");
            return Ran { wall: began.elapsed(), peak_mb };
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
