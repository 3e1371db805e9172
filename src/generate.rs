//! Generated events: the same bytes for the same seed and start, on every machine.
//!
//! Six in ten events are about orders, the rest about users, products and other things, in the form of the tutorial's
//! `order.placed`: 300 to 500 bytes of JSON on one line. Some are invalid, each by one [`Defect`]. Each event has its
//! expected result, so that a test can compare it with the pipeline's.

mod body;
mod defect;
mod random;
mod text;

use compact_str::CompactString;
use kappa_actors::time::Timestamp;

pub use defect::Defect;

use body::Body;
use random::SplitMix64;
use text::Clock;

/// The default time of a generator's first event: 2026-02-17T14:30:00Z.
pub const DEFAULT_START: Timestamp = Timestamp::from_micros(1_771_338_600_000_000);

/// The time between two events, in milliseconds.
pub const STEP_MS: u64 = 1;

/// How event ids follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Ids {
    /// In the order of time, as `evt_20260217_…`: a key that a table appends to.
    Ordered,
    /// Uniformly random: a key that lands anywhere in a table.
    Random,
}

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Generators with different seeds below 2^28 never give the same ordered id.
    pub seed: u64,
    /// The share of invalid events, in percent.
    pub invalid_percent: f64,
    /// How ids follow one another.
    pub ids: Ids,
    /// When the first event happens; each later one [`STEP_MS`] after.
    pub start: Timestamp,
}

/// The expected result of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The event's id, as it would be without the defect.
    pub id: CompactString,
    /// The event's type, as it would be without the defect.
    pub kind: &'static str,
    /// When the event happened.
    pub time: Timestamp,
    /// Its defect; `None` for a valid event.
    pub defect: Option<Defect>,
}

/// One generated event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The bytes, without a line end.
    pub payload: Vec<u8>,
    /// Their expected result.
    pub expected: Expected,
}

/// An endless run of events.
#[derive(Clone, Debug)]
pub struct Generator {
    random: SplitMix64,
    /// Tells this generator's ordered ids from those of others.
    salt: u64,
    /// Of 2^32 events, how many are invalid.
    invalid_share: u64,
    ids: Ids,
    clock: Clock,
}

impl Generator {
    /// A generator at its first event. An `invalid_percent` outside 0 to 100 counts as the nearer
    /// of the two.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let share = options.invalid_percent.clamp(0.0, 100.0) / 100.0;
        let invalid_share = (share * 4_294_967_296.0) as u64;
        Self {
            random: SplitMix64::new(options.seed),
            // An odd factor: different seeds below 2^28 stay different in the 28 bits that count.
            salt: options.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            invalid_share,
            ids: options.ids,
            clock: Clock::starting_at(options.start),
        }
    }

    /// Appends the next event to `buffer`, without a line end, and returns its expected result.
    pub fn write_next(&mut self, buffer: &mut Vec<u8>) -> Expected {
        let begin = buffer.len();
        let defect = self.random.chance(self.invalid_share).then(|| Defect::any(&mut self.random));
        let id = match self.ids {
            Ids::Ordered => self.clock.ordered_id(self.salt),
            Ids::Random => text::random_id(&mut self.random),
        };
        let time = self.clock.time();
        let body = Body { id: &id, timestamp: self.clock.text(), defect };
        let kind = body.write(&mut self.random, buffer);
        if let Some(defect) = defect {
            defect.spoil(buffer, begin);
        }
        self.clock.advance(STEP_MS);
        Expected { id, kind, time, defect }
    }
}

impl Iterator for Generator {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let mut payload = Vec::with_capacity(512);
        let expected = self.write_next(&mut payload);
        Some(Event { payload, expected })
    }
}

#[cfg(test)]
mod tests;
