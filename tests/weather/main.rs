//! Bad weather: the daemon as a process, held to an oracle that knows what was published.
//!
//! Each test has a data folder of its own, published to by this process and worked on by the real
//! binary. Nothing waits for a length of time: every wait is for a fact, and has a deadline.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

mod announcements;
mod any_event;
mod archive_forms;
mod broken_sinks;
mod clock;
mod exploding;
mod hangs;
mod killed_actors;
mod killed_daemon;
mod misconfigured;
mod permits;
mod poison;
mod signals;
mod unfit_folder;
