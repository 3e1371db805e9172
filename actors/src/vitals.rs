//! The state of all actors: one board for each pipeline, shared by them.
//!
//! The board only observes. No promise depends on a number that is read back from it, so every number
//! here is relaxed: each is right by itself, two of them may be a moment apart. Actors write to
//! their own [`Vitals`] and to the [`Counters`] without waiting; the status endpoint reads a
//! [`Snapshot`].

mod actor;
mod announcer;
mod attempts;
mod board;
mod calls;
mod counters;
mod histogram;
mod rate;
mod read_mark;
mod series;
mod snapshot;
mod table;
mod watchdog;

pub use actor::{ActorState, Trouble, Vitals, Waits};
pub use attempts::{Attempts, Outcome, Step};
pub use board::{AskOnLoan, Board, Holding, OnLoan, Phase};
pub use calls::Calls;
pub(crate) use calls::MayWait;
pub use counters::{Counter, Counters, Gauge};
pub(crate) use histogram::micros;
pub use histogram::{Histogram, Tally};
pub use series::{ActorSeries, series_of};
pub use snapshot::{
    ActorReport, ClassReport, CounterReport, DaemonState, LastError, Reason, Snapshot,
};
pub use table::{Freshness, TableMeter};
pub(crate) use watchdog::{Fatal, Watchdog};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a value that is only replaced as a whole: a holder that panicked left no half-written state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
