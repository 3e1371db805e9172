//! The Pub/Sub server, seen by raw clients: each rule and each fault.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod deadlines;
mod leases;
mod messages;
mod resources;
mod streams;
mod support;
