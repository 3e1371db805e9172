//! A long schedule: 20 killed runs, 10 replays, 5 seeks, requeues, changed rules and an import.

use std::iter::repeat_n;
use std::time::Instant;

use super::place::Place;
use super::schedule::{Schedule, Size};

/// How often each step of [`Schedule::step`] is done.
const STEPS: [(usize, u64); 8] =
    [(17, 3), (3, 4), (2, 5), (5, 6), (5, 7), (3, 9), (3, 10), (1, 12)];

/// Plays a schedule of so many events, more or less one in 23, and prints each step. `begin` takes the
/// number of event ids and the size of one publication.
pub(super) fn play<P: Place>(events: u64, begin: impl FnOnce((u64, Size)) -> Schedule<P>) {
    let mut steps: Vec<_> =
        STEPS.into_iter().flat_map(|(times, step)| repeat_n(step, times)).collect();
    let publishing = 1 + steps.iter().filter(|step| matches!(step, 3 | 5 | 10)).count() as u64;
    let mut schedule = begin((events / 4 + 1, Size::Exactly(events.div_ceil(publishing))));
    let began = Instant::now();
    let report = |schedule: &Schedule<P>, step: &str| {
        let (events, seconds) = (schedule.model.messages.len(), began.elapsed().as_secs());
        eprintln!("{seconds:>6} s, {events} events: {step}");
    };
    schedule.publish();
    schedule.run();
    while !steps.is_empty() {
        let step = steps.swap_remove(schedule.random.below(steps.len() as u64) as usize);
        let step = schedule.step(step);
        report(&schedule, step);
        schedule.check(step);
        report(&schedule, "compared");
    }
    schedule.finish();
    report(&schedule, "equal to a fold");
}
