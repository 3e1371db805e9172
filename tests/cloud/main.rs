//! The cloud backends against servers on loopback that speak the real protocols.
#![cfg(feature = "gcp")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod bigquery;
mod gcs;
mod pubsub;
mod replicas;
mod setup;
mod spoiled;
