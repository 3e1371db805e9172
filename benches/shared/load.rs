//! The published events.

use kappa::generate::{Generator, Ids, Options};
use kappa_actors::time::Timestamp;

/// How many events a million is in this run.
pub fn million() -> u64 {
    let scale = std::env::var("KAPPA_BENCH_EVENTS").ok();
    scale.and_then(|text| text.parse().ok()).unwrap_or(1_000_000)
}

/// Events of the mix that `kappa generate` makes.
pub fn generator(ids: Ids) -> Generator {
    Generator::new(Options { seed: 7, invalid_percent: 1.0, ids, start: Timestamp::now() })
}
