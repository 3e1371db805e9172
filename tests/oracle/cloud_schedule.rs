//! Schedules of two replicas on the test servers.

use super::cloud::Cloud;
use super::events::Events;
use super::kept::Keeping;
use super::model::Model;
use super::schedule::{Schedule, Size};

impl Schedule<Cloud> {
    /// Plays a schedule of up to `steps` steps. Even seeds have upserts, odd ones append.
    pub(crate) fn play(seed: u64, steps: u64) {
        let keeping = if seed.is_multiple_of(2) { Keeping::Numbered } else { Keeping::All };
        let events = (Events::new(seed, 8), Size::UpTo(12));
        let mut schedule = Self::new(seed, Cloud::new(seed, keeping), Model::new(keeping), events);
        schedule.publish();
        schedule.run();
        schedule.check("the first run");
        for _ in 0..3 + schedule.random.below(steps - 2) {
            // Late copies more often than other steps: only they need a removal's number.
            let number = schedule.random.below(16);
            let step = schedule.step(number);
            schedule.check(step);
        }
        schedule.finish();
    }
}
