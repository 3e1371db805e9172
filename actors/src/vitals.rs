//! The state of all actors: one board for each pipeline, shared by them.
//!
//! The board only observes. No promise depends on a number that is read back from it, so every number
//! here is relaxed: each is right by itself, two of them may be a moment apart. Actors write to
//! their own [`Vitals`] and to the [`Counters`] without waiting; the status endpoint reads a
//! [`Snapshot`].

mod actor;
mod announcer;
mod board;
mod counters;
mod rate;
mod snapshot;

pub use actor::{ActorState, Trouble, Vitals};
pub use board::{Board, Holding, Holdings, Phase};
pub use counters::{Counter, Counters, Gauge};
pub use snapshot::{ActorReport, CounterReport, DaemonState, LastError, Reason, Snapshot};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a value that is only replaced as a whole: a holder that panicked left no half-written state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
