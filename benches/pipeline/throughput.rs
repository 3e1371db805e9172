//! A backlog worked off, beside the loop.

use std::time::Duration;

use kappa::generate::Ids;

use super::baseline;
use super::log::publish;
use crate::daemon::{Cost, Daemon};
use crate::load::million;
use crate::report::Report;

/// Resident memory, at most, in MB.
const PEAK_MB: f64 = 200.0;

/// Ids in the order of time.
pub fn ordered(report: &mut Report) {
    let rate = million_of(report, Ids::Ordered, 0.5);
    report.show("rate", rate / 1e3, "k events/s");
}

/// Ids anywhere: the key's index is met at random, and grows.
pub fn random(report: &mut Report) {
    let rate = million_of(report, Ids::Random, 0.12);
    let events = 5 * million();
    println!("a backlog of {events} events, random ids");
    let (wall, cost) = work_off(events, Ids::Random);
    let grown = events as f64 / wall.as_secs_f64();
    report.show("rate", grown / 1e3, "k events/s");
    report.at_least("rate, to that of the fifth", grown / rate, 0.5, "");
    report.at_most("peak memory", cost.peak_mb, PEAK_MB, "MB");
}

/// Measures a million beside the loop; the daemon's rate in events a second.
fn million_of(report: &mut Report, ids: Ids, least: f64) -> f64 {
    let events = million();
    println!("a backlog of {events} events, {ids:?} ids");
    let limit = events as f64 / baseline::run(events, ids).wall.as_secs_f64();
    let (wall, cost) = work_off(events, ids);
    let rate = events as f64 / wall.as_secs_f64();
    report.at_least("rate, to that of the loop", rate / limit, least, "");
    report.show("the loop's rate", limit / 1e3, "k events/s");
    report.show("processor seconds a million", cost.cpu_seconds * 1e6 / events as f64, "s");
    report.at_most("peak memory", cost.peak_mb, PEAK_MB, "MB");
    rate
}

/// Returns the time from the daemon's start to the last acknowledgement, and the cost.
fn work_off(events: u64, ids: Ids) -> (Duration, Cost) {
    let dir = tempfile::tempdir().unwrap();
    publish(dir.path(), events, ids);
    let mut daemon = Daemon::start(dir.path(), &["--until-idle"]);
    let wall = daemon.wait_for("nothing is left to do");
    (wall, daemon.finish())
}
