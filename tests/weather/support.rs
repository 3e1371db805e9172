//! What every test here works with: a scene, a daemon in it, and an oracle.

mod archive;
mod daemon;
mod events;
mod oracle;
mod publisher;
mod rows;
mod scene;

use std::thread;
use std::time::{Duration, Instant};

pub(crate) use daemon::Daemon;
pub(crate) use events::{Fate, Published, envelope, generated};
pub(crate) use oracle::Oracle;
pub(crate) use publisher::Publisher;
pub(crate) use scene::Scene;

/// How long anything may take on a busy machine before it counts as never.
const DEADLINE: Duration = Duration::from_secs(120);

/// How long between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until `look` sees `what`.
pub(crate) fn await_that<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begin.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        thread::sleep(LOOK);
    }
}
