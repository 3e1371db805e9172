//! The backends against emulators of third parties, which `tests/emulators/run` installs and starts.
//!
//! Their gaps, and the test that covers each gap, are listed in `README.md` here.
#![cfg(feature = "gcp")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod bigquery;
#[path = "../shared/dataset.rs"]
mod dataset;
#[path = "../shared/letters.rs"]
mod letters;
#[path = "../shared/loopback.rs"]
mod loopback;
mod pubsub;

/// The address of an emulator.
fn endpoint(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set; start this by tests/emulators/run"))
}
