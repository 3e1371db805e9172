//! The README's figures of speed on Google Cloud: the daemon as a process, configured by `config/gcp.toml`, against the
//! servers of `tests/servers` in a process of their own.
//!
//! `cargo bench --bench cloud` runs everything and ends non-zero when a figure or a row is
//! missed. `cargo bench --bench cloud -- latency` runs the named parts. `KAPPA_BENCH_EVENTS` scales
//! the million down, for a quick look; the claims are about the million.

#![expect(unreachable_pub, reason = "a bench has no callers")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot measure ends")]

#[path = "shared/daemon.rs"]
mod daemon;
#[path = "shared/load.rs"]
mod load;
#[path = "shared/report.rs"]
mod report;

mod cloud {
    pub mod backlog;
    pub mod latency;
    pub mod oracle;
    pub mod publisher;
    pub mod serve;
    pub mod services;
}

use cloud::{backlog, latency, serve};
use report::Part;

/// Each part by its name, in the order they run.
const PARTS: [(&str, Part); 2] =
    [("backlog", backlog::worked_off), ("latency", latency::sustained)];

fn main() {
    if std::env::args().nth(1).as_deref() == Some(serve::ARGUMENT) {
        return serve::serve();
    }
    report::run(&PARTS);
}
