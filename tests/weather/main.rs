//! Faults: the daemon as a process, compared with an oracle that knows the published events.
//!
//! Each test has a data folder of its own. This process publishes to it, and the real binary processes it. No test waits
//! for a length of time: every wait is for a condition, and has a deadline.

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
