//! How long it takes from publishing an event to its row, under a steady load.

use std::time::{Duration, Instant};

use super::oracle;
use super::publisher::Publisher;
use super::services::Services;
use crate::daemon::Daemon;
use crate::load::million;
use crate::report::Report;

/// Events a second.
const RATE: u64 = 5_000;

/// Requests a second.
const REQUESTS: u64 = 100;

/// From publishing to the row, at most, in milliseconds.
const P99_MS: f64 = 1_000.0;

/// 5,000 events a second for half a minute.
pub fn sustained(report: &mut Report) {
    let seconds = (30 * million() / 1_000_000).max(5);
    println!("{RATE} events/s for {seconds} s");
    let dir = tempfile::tempdir().unwrap();
    let mut services = Services::start();
    let mut publisher = Publisher::connect(&services);
    let mut daemon = Daemon::start(dir.path(), &services.arguments());
    daemon.wait_for("running");
    let started = Instant::now();
    for request in 0..seconds * REQUESTS {
        let due = started + Duration::from_millis(request * 1_000 / REQUESTS);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        publisher.publish((RATE / REQUESTS) as usize);
    }
    let rate = publisher.count as f64 / started.elapsed().as_secs_f64();
    report.at_least("published", rate / RATE as f64, 0.99, "of that rate");
    services.until("appended", publisher.valid.len());
    report.latencies("publish to row", oracle::latencies(&mut services, &publisher), P99_MS);
}
