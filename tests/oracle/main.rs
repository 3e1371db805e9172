//! A table is a function of the log: random schedules against a model.
//!
//! `KAPPA_ORACLE_SEED` plays one schedule again, `KAPPA_ORACLE_SCHEDULES` sets their number.

mod model;
mod random;
mod rules;
mod schedule;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use schedule::Schedule;

/// Schedules played at a time.
const PLAYERS: usize = 2;
/// Steps of a schedule, at most.
const STEPS: u64 = 8;

#[test]
fn every_table_is_a_function_of_the_log() {
    if let Some(seed) = number("KAPPA_ORACLE_SEED") {
        Schedule::play(seed, STEPS);
        return;
    }
    let schedules = number("KAPPA_ORACLE_SCHEDULES").unwrap_or(200);
    let next = AtomicU64::new(0);
    let play = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= schedules {
                break;
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| Schedule::play(seed, STEPS))) {
                eprintln!("the schedule failed: play it again with KAPPA_ORACLE_SEED={seed}");
                next.store(schedules, Ordering::Relaxed);
                resume_unwind(panic);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..PLAYERS {
            scope.spawn(play);
        }
    });
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect(variable))
}
