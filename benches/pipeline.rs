//! The README's figures of speed, as ratios in one run: the daemon as a process, beside a tight loop that does its
//! work without its promises.
//!
//! `cargo bench --bench pipeline` runs everything and ends non-zero when a figure is missed.
//! `cargo bench --bench pipeline -- ordered latency` runs the named parts. `KAPPA_BENCH_EVENTS`
//! scales the million down, for a quick look; the claims are about the million.

#![expect(unreachable_pub, reason = "a bench has no callers")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot measure ends")]

#[path = "shared/daemon.rs"]
mod daemon;
#[path = "shared/load.rs"]
mod load;
#[path = "shared/report.rs"]
mod report;

mod pipeline {
    pub mod baseline;
    pub mod latency;
    pub mod log;
    pub mod restart;
    pub mod throughput;
}

use pipeline::{baseline, latency, restart, throughput};
use report::Part;

/// Each part by its name, in the order they run.
const PARTS: [(&str, Part); 5] = [
    ("loop", baseline::honest),
    ("ordered", throughput::ordered),
    ("random", throughput::random),
    ("latency", latency::sustained),
    ("start", restart::start_and_restart),
];

fn main() {
    report::run(&PARTS);
}
