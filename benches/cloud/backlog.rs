//! A backlog worked off, by sinks that answer at once and by sinks that answer late.

use std::time::Instant;

use super::oracle;
use super::publisher::Publisher;
use super::services::Services;
use crate::daemon::Daemon;
use crate::load::million;
use crate::report::Report;

/// Processor seconds a million, at most.
const CPU_SECONDS: f64 = 8.0;
/// Resident memory, at most, in MB.
const PEAK_MB: f64 = 300.0;
/// The rate with a late sink, to that with punctual ones, at least.
const LATE_RATE: f64 = 0.9;
/// Events in one request, as many as Pub/Sub takes.
const REQUEST: usize = 1_000;
/// Each is measured so often, in turn, and the best is taken: a busy neighbour makes any of them
/// slower, and none faster.
const ROUNDS: usize = 7;

/// The late service, as a command to the servers.
const SINKS: [(&str, Option<&str>); 3] = [
    ("punctual sinks", None),
    ("appends answered 50 ms late", Some("delay-appends 50")),
    ("uploads answered 50 ms late", Some("delay-uploads 50")),
];

/// The result of one run.
struct Run {
    rate: f64,
    cpu_seconds: f64,
    peak_mb: f64,
    servers_cpu_seconds: f64,
}

/// A million events.
pub fn worked_off(report: &mut Report) {
    let events = million();
    println!("a backlog of {events} events, best of {ROUNDS}");
    let mut runs: [Vec<Run>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (runs, (name, late)) in runs.iter_mut().zip(SINKS) {
            let run = run(events, late);
            println!(
                "    {name}: {:.1} k events/s, {:.2} s and the servers' {:.2} s, {:.0} MB",
                run.rate / 1e3,
                run.cpu_seconds,
                run.servers_cpu_seconds,
                run.peak_mb
            );
            runs.push(run);
        }
    }
    let [punctual, ..] = &runs;
    let best = fastest(punctual);
    report.show("rate", best / 1e3, "k events/s");
    let per_million = 1e6 / events as f64;
    let cpu = least(punctual.iter().map(|run| run.cpu_seconds)) * per_million;
    report.at_most("processor seconds a million", cpu, CPU_SECONDS, "s");
    let servers = least(punctual.iter().map(|run| run.servers_cpu_seconds)) * per_million;
    report.show("those of the servers", servers, "s");
    let peak = runs.iter().flatten().map(|run| run.peak_mb).fold(0.0, f64::max);
    report.at_most("peak memory, the highest of all runs", peak, PEAK_MB, "MB");
    for (runs, (name, _)) in runs.iter().zip(SINKS).skip(1) {
        report.at_least(&format!("rate with {name}"), fastest(runs) / best, LATE_RATE, "of that");
    }
}

fn fastest(runs: &[Run]) -> f64 {
    runs.iter().map(|run| run.rate).fold(0.0, f64::max)
}

fn least(figures: impl Iterator<Item = f64>) -> f64 {
    figures.fold(f64::INFINITY, f64::min)
}

/// Works off a backlog; nothing may be lost or doubled on the way.
fn run(events: u64, late: Option<&str>) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let mut services = Services::start();
    let mut publisher = Publisher::connect(&services);
    while (publisher.count as u64) < events {
        let left = usize::try_from(events).unwrap() - publisher.count;
        publisher.publish(left.min(REQUEST));
    }
    if let Some(late) = late {
        services.ask(late);
    }
    let before = services.cpu_seconds();
    let mut arguments = services.arguments();
    arguments.extend(["--until-idle", "--set", "actors.reader.quiet_period=1s"].map(String::from));
    let mut daemon = Daemon::start(dir.path(), &arguments);
    daemon.wait_for("running");
    let started = Instant::now();
    services.until("acknowledged", publisher.count);
    let wall = started.elapsed().as_secs_f64();
    let servers_cpu_seconds = services.cpu_seconds() - before;
    let cost = daemon.finish();
    oracle::latencies(&mut services, &publisher);
    let archived: usize = services.ask("archived").parse().unwrap();
    assert_eq!(archived, publisher.valid.len(), "lines in the archive");
    Run {
        rate: events as f64 / wall,
        cpu_seconds: cost.cpu_seconds,
        peak_mb: cost.peak_mb,
        servers_cpu_seconds,
    }
}
