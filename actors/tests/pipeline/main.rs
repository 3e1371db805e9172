//! Whole pipelines over backends in memory: the promises, under the faults that they are about.
//!
//! Every test runs on one thread with tokio's clock paused: it advances only when every actor waits for time to pass.
//! So a hanging pipeline reaches the limit of [`rig::within`] at once. Most timers here are an [`rig::HOUR`], so no
//! timer can end a test.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod commits;
mod crashes;
mod faults;
mod freshness;
mod hangs;
mod permits;
mod poison;
mod refusals;
mod replay;
mod rig;
mod stops;
mod windows;
mod world;
