//! The cloud backends against servers on loopback that speak the real protocols.
#![cfg(feature = "gcp")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod bigquery;
#[path = "../shared/dataset.rs"]
mod dataset;
mod gcs;
mod history;
mod killed;
#[path = "../shared/letters.rs"]
mod letters;
mod live;
#[path = "../shared/loopback.rs"]
mod loopback;
mod outside;
#[path = "../shared/patience.rs"]
mod patience;
#[path = "../shared/project.rs"]
mod project;
mod pubsub;
mod replicas;
mod roles;
#[path = "../shared/roles.rs"]
mod roles_table;
mod setup;
mod spoiled;
#[path = "../shared/suites.rs"]
mod suites;
