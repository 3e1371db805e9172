//! The backends against other people's emulators, which `tests/emulators/run` installs and starts.
//!
//! Google's fake of Pub/Sub has no flow control, no confirmed acknowledgements, no REST, and loses what
//! was acknowledged at a seek: those stand in `tests/cloud/pubsub.rs`.
#![cfg(feature = "gcp")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod pubsub;

/// The address of an emulator.
fn endpoint(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set; start this by tests/emulators/run"))
}
