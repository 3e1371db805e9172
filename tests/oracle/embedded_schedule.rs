//! Schedules of the embedded backends: logs that are damaged, copied and put back, clocks that jump.

use super::embedded::Embedded;
use super::events::Events;
use super::long;
use super::model::Model;
use super::schedule::{Schedule, Size};

impl Schedule<Embedded> {
    fn of(seed: u64, small: bool, events: (Events, Size)) -> Self {
        Self::new(seed, Embedded::new(small), Model::default(), events)
    }

    /// Plays a schedule of up to `steps` steps.
    pub(crate) fn play(seed: u64, steps: u64) {
        let mut schedule = Self::of(seed, true, (Events::new(seed, 8), Size::UpTo(12)));
        schedule.publish();
        schedule.run();
        schedule.check("the first run");
        for _ in 0..3 + schedule.random.below(steps - 2) {
            let number = schedule.random.below(18);
            let step = schedule.any_step(number);
            schedule.check(step);
        }
        schedule.finish();
    }

    /// Plays a long schedule of about so many events.
    pub(crate) fn play_long(seed: u64, events: u64) {
        long::play(events, |events| Self::of(seed, false, (Events::new(seed, events.0), events.1)));
    }

    fn any_step(&mut self, number: u64) -> &'static str {
        match number {
            14 => self.damage_log(),
            15 => {
                self.clock();
                "a clock that jumped"
            }
            16 => {
                self.place.copy_log();
                self.place.copied = Some(self.last_offset());
                self.publish();
                self.run();
                "a copy of the log and a run"
            }
            shared => self.step(shared),
        }
    }

    /// The log is put back from its copy, or is another one.
    fn damage_log(&mut self) -> &'static str {
        // The events that a healed log delivers again change nothing under the same rules.
        self.seek_to(0);
        self.run();
        let copied = self.place.copied.filter(|_| self.random.chance(70));
        self.place.replace_log(copied.is_some());
        for message in self.model.messages.iter_mut() {
            message.in_log &= copied.is_some_and(|last| message.offset <= last);
        }
        if copied.is_none() {
            self.place.copied = None;
        }
        self.publish();
        self.run();
        if copied.is_some() { "a run after a restored log" } else { "a run after another log" }
    }

    fn clock(&mut self) {
        if self.random.chance(60) {
            self.place.jump_ahead();
            self.publish();
            self.run();
        }
        if self.random.chance(70) {
            self.place.begin_generation();
        }
        self.publish();
        self.run();
    }
}
