//! Actors as metrics know them: a bounded number, however long the daemon runs.

use std::collections::BTreeMap;

use super::actor::{ActorState, Vitals};

/// Totals of the actors that share a label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActorSeries {
    /// Their role.
    pub kind: &'static str,
    /// Events handled, by actors that are gone too.
    pub events: u64,
    /// Restarts, of actors that are gone too.
    pub restarts: u64,
    /// Messages that wait in their mailboxes.
    pub mailbox: u64,
    /// The number of those that run.
    pub running: u64,
}

/// The label of the actor at `path`, or of another source of trouble. All windows of the archive share
/// one: there is a new window every five minutes.
#[must_use]
pub fn series_of(path: &str) -> &str {
    const WINDOW: &str = "/window";
    match path.rfind("/window.") {
        Some(at) => &path[..at + WINDOW.len()],
        None => path,
    }
}

/// Totals by label.
pub(super) type AllSeries = BTreeMap<String, ActorSeries>;

/// Adds an actor that is still registered.
pub(super) fn add(all: &mut AllSeries, vitals: &Vitals) {
    let series = add_gone(all, vitals);
    series.mailbox += vitals.mailbox();
    series.running += u64::from(vitals.state() == ActorState::Running);
}

/// Adds the counts of an actor that has ended, so that they are not lost.
pub(super) fn add_gone<'a>(all: &'a mut AllSeries, vitals: &Vitals) -> &'a mut ActorSeries {
    let series = all.entry(series_of(vitals.path()).to_owned()).or_default();
    series.kind = vitals.kind();
    series.events += vitals.events();
    series.restarts += vitals.restarts();
    series
}
