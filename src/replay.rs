//! A replay: history through the whole pipeline, by the present rules, as a job with an end.
//!
//! A job is a tree of actors of its own, beside the daemon's. It archives no event. It may be killed at any time: its
//! journal records the finished part, the rest is processed again, and the key makes that harmless.

mod error;
mod files;
mod history;
mod imports;
mod job;
mod own_log;
mod plan;
mod requeue;
mod room;
mod staged;

pub use error::ReplayError;
pub use history::Progress;
pub use job::{Ended, Job, Options};
pub use plan::{ReplayPlan, Selected, Source, Target};
pub use requeue::{Requeue, Requeued};

/// The limit of events in flight, even if more are configured: an archive that is read as a log
/// keeps each of them a second time, and names it by file and line. `benches/history.rs` holds a job to
/// 200 MB.
const MAX_OUTSTANDING: usize = 18_000;
