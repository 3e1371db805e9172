//! Schedules of two replicas on the test servers.

use super::cloud::Cloud;
use super::events::Events;
use super::kept::Keeping;
use super::long;
use super::model::Model;
use super::schedule::{Schedule, Size};

impl Schedule<Cloud> {
    /// Even seeds have upserts, odd ones append.
    fn of(seed: u64, small: bool, events: (Events, Size)) -> Self {
        let keeping = if seed.is_multiple_of(2) { Keeping::Numbered } else { Keeping::All };
        Self::new(seed, Cloud::new(seed, small, keeping), Model::new(keeping), events)
    }

    /// Plays a schedule of up to `steps` steps.
    pub(crate) fn play(seed: u64, steps: u64) {
        let mut schedule = Self::of(seed, true, (Events::new(seed, 8), Size::UpTo(12)));
        schedule.publish();
        schedule.run();
        schedule.check("the first run");
        for _ in 0..3 + schedule.random.below(steps - 2) {
            // Late copies more often than other steps: only they need a removal's number.
            let number = schedule.random.below(18);
            let step = schedule.step(number);
            schedule.check(step);
        }
        schedule.finish();
    }

    /// Plays a long schedule of about so many events, in which a replica is killed 20 times.
    pub(crate) fn play_long(seed: u64, events: u64) {
        long::play(events, |events| Self::of(seed, false, (Events::new(seed, events.0), events.1)));
    }
}
