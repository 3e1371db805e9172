//! Whole pipelines over backends in memory: what the promises say, in the weather they are for.
//!
//! Every test runs on one thread with tokio's clock paused: it moves on only when every actor waits
//! for time to pass. So a pipeline that hangs runs into [`rig::within`] at once, and no timer of an
//! [`rig::HOUR`], as most settings here have, can ever be what brought a test to its end.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod commits;
mod crashes;
mod faults;
mod hangs;
mod permits;
mod poison;
mod refusals;
mod replay;
mod rig;
mod stops;
mod windows;
mod world;
