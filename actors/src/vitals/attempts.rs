//! Attempts by stage and outcome: how often something was tried, and how it ended.

use super::counters::Counter;

/// Where something is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Messages are asked of the log: one call.
    Pull,
    /// An event's envelope is read: one event.
    Parse,
    /// Rows are made of an event: one event.
    Process,
    /// Rows are committed: one call.
    Commit,
    /// Dead letters are committed: one call.
    DeadLetter,
    /// A part is stored in the archive: one call.
    Upload,
    /// A window's parts are composed: one incarnation.
    Compose,
    /// Messages are acknowledged to the log: one call.
    Acknowledge,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Done,
    /// An event or a row in it will never succeed as it is.
    Refused,
    /// The table is missing or lacks columns, or the object's name is taken: it is tried again with
    /// another.
    Gone,
    /// It failed and is repeated after a pause.
    Unavailable,
}

impl Step {
    /// All of them, in the order of an event's life, with their names.
    pub const ALL: [(Self, &str); 8] = [
        (Self::Pull, "pull"),
        (Self::Parse, "parse"),
        (Self::Process, "process"),
        (Self::Commit, "commit"),
        (Self::DeadLetter, "dead-letter"),
        (Self::Upload, "upload"),
        (Self::Compose, "compose"),
        (Self::Acknowledge, "acknowledge"),
    ];
}

impl Outcome {
    /// All of them with their names.
    pub const ALL: [(Self, &str); 4] = [
        (Self::Done, "done"),
        (Self::Refused, "refused"),
        (Self::Gone, "gone"),
        (Self::Unavailable, "unavailable"),
    ];

    /// Whether an attempt at this step can end so.
    #[must_use]
    pub fn ends(self, step: Step) -> bool {
        let on_events = matches!(step, Step::Parse | Step::Process);
        let on_rows = matches!(step, Step::Commit | Step::DeadLetter);
        match self {
            Self::Done => true,
            Self::Refused => on_events || on_rows,
            Self::Gone => on_rows || step == Step::Upload,
            Self::Unavailable => !on_events,
        }
    }

    /// Returns the outcome of a call that either succeeds or is repeated.
    #[must_use]
    pub fn of<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() { Self::Done } else { Self::Unavailable }
    }
}

/// The number of attempts for each step and outcome.
#[derive(Debug, Default)]
pub struct Attempts([[Counter; Outcome::ALL.len()]; Step::ALL.len()]);

impl Attempts {
    /// Counts `n` more.
    pub fn add(&self, step: Step, outcome: Outcome, n: u64) {
        debug_assert!(outcome.ends(step), "{step:?} cannot end {outcome:?}");
        self.0[step as usize][outcome as usize].add(n);
    }

    /// The count so far.
    #[must_use]
    pub fn get(&self, step: Step, outcome: Outcome) -> u64 {
        self.0[step as usize][outcome as usize].get()
    }
}
