//! A table is a function of the log: random schedules against a model.
//!
//! `KAPPA_ORACLE_SEED` plays one schedule again, `KAPPA_ORACLE_SCHEDULES` sets their number.
//! `KAPPA_ORACLE_EVENTS` plays one long schedule of so many events instead; use `--release`.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod embedded;
mod embedded_schedule;
mod events;
mod kept;
mod model;
mod oracles;
mod place;
mod project;
mod random;
mod rules;
mod schedule;

use std::panic::catch_unwind;
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
    if let Some(events) = number("KAPPA_ORACLE_EVENTS") {
        Schedule::<Embedded>::play_long(number("KAPPA_ORACLE_SEED").unwrap_or_default(), events);
        return;
    }
    if let Some(seed) = number("KAPPA_ORACLE_SEED") {
        Schedule::<Embedded>::play(seed, STEPS);
        return;
    }
    let schedules = number("KAPPA_ORACLE_SCHEDULES").unwrap_or(200);
    let (next, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let play = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= schedules {
                break;
            }
            if catch_unwind(|| Schedule::<Embedded>::play(seed, STEPS)).is_err() {
                eprintln!("^ KAPPA_ORACLE_SEED={seed}");
                failed.lock().unwrap().push(seed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..PLAYERS {
            scope.spawn(play);
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "play again with KAPPA_ORACLE_SEED, one of {failed:?}");
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect(variable))
}
