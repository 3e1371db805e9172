//! A table is a function of the log: random schedules against a model.
//!
//! `KAPPA_ORACLE_SEED` plays one schedule again, `KAPPA_ORACLE_SCHEDULES` sets their number.
//! `KAPPA_ORACLE_EVENTS` plays one long schedule of so many events instead.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

#[cfg(feature = "gcp")]
mod cloud;
#[cfg(feature = "gcp")]
mod cloud_schedule;
mod embedded;
mod embedded_schedule;
mod events;
mod kept;
mod long;
mod model;
mod oracles;
mod place;
mod project;
mod random;
mod rules;
mod schedule;

use std::panic::{RefUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use embedded::Embedded;
use schedule::Schedule;

/// Schedules played at a time: they wait more than they work.
const PLAYERS: usize = 8;
/// Steps of a schedule, at most.
const STEPS: u64 = 6;

#[test]
fn every_table_is_a_function_of_the_log() {
    match number("KAPPA_ORACLE_EVENTS") {
        Some(events) => play_all(1, |seed| Schedule::<Embedded>::play_long(seed, events)),
        None => play_all(200, |seed| Schedule::<Embedded>::play(seed, STEPS)),
    }
}

#[cfg(feature = "gcp")]
#[test]
fn every_table_of_two_replicas_is_a_function_of_the_log() {
    match number("KAPPA_ORACLE_EVENTS") {
        // One of each mode of BigQuery.
        Some(events) => play_all(2, |seed| Schedule::<cloud::Cloud>::play_long(seed, events)),
        None => play_all(12, |seed| Schedule::<cloud::Cloud>::play(seed, STEPS)),
    }
}

/// Plays so many schedules, or those that the environment asks for.
fn play_all(schedules: u64, play: impl Fn(u64) + Sync + RefUnwindSafe) {
    if let Some(seed) = number("KAPPA_ORACLE_SEED") {
        play(seed);
        return;
    }
    let schedules = number("KAPPA_ORACLE_SCHEDULES").unwrap_or(schedules);
    let (next, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let player = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= schedules {
                break;
            }
            if catch_unwind(|| play(seed)).is_err() {
                eprintln!("^ KAPPA_ORACLE_SEED={seed}");
                failed.lock().unwrap().push(seed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..PLAYERS {
            scope.spawn(player);
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "play again with KAPPA_ORACLE_SEED, one of {failed:?}");
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect(variable))
}
