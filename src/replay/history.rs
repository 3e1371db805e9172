//! Where a replay's events come from, and how far it is.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use kappa_actors::envelope::EnvelopePlan;
use kappa_actors::port::{ArchiveStore, DeadLetterFilter, DeadLetterStore, EventLog};
use kappa_actors::replay::{
    ArchiveLog, EndedBy, Fault, FileSource, ImportFile, LetterLog, LogRange, OpenLetters, Paced,
    ReplayRange, Selection,
};

use super::own_log::OwnLog;

/// How far a replay is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Events handed out by this process.
    pub events: u64,
    /// What share of the range is read, from 0 to 1.
    pub share: f64,
    /// Archived objects that could not be read to their end.
    pub faults: Vec<Fault>,
    /// The sign of the end of the log's range, after it was reached.
    pub ended_by: Option<EndedBy>,
}

/// A history with an end.
#[derive(Clone)]
pub(super) enum History {
    Archive(Arc<Paced<ArchiveLog>>),
    Log(Arc<Paced<LogRange>>, ReplayRange, OwnLog),
    Letters(Arc<Paced<LetterLog>>),
}

impl History {
    /// The archived events of a range, but for the objects in `done`.
    pub(super) fn archive(
        store: Arc<dyn ArchiveStore>,
        range: ReplayRange,
        envelope: Arc<EnvelopePlan>,
        done: HashSet<String>,
        rate: Option<NonZeroU32>,
    ) -> Self {
        let log = ArchiveLog::open(store, range, Some(envelope), done);
        Self::Archive(Arc::new(Paced::new(log, rate)))
    }

    /// The events of the files, but for those in `done`.
    pub(super) fn files(
        (source, files): (Arc<dyn FileSource>, Vec<ImportFile>),
        range: ReplayRange,
        envelope: &Arc<EnvelopePlan>,
        done: HashSet<String>,
        rate: Option<NonZeroU32>,
    ) -> Self {
        let log = ArchiveLog::import(source, files, range, Arc::clone(envelope), done);
        Self::Archive(Arc::new(Paced::new(log, rate)))
    }

    /// The events of the open dead letters of a range that no staging replay left, the oldest
    /// failure first. None is marked.
    pub(super) async fn letters(
        store: Option<Arc<dyn DeadLetterStore>>,
        range: ReplayRange,
        rate: Option<NonZeroU32>,
    ) -> anyhow::Result<Self> {
        let Some(store) = store else { anyhow::bail!("no dead letters: there is no warehouse") };
        let filter =
            DeadLetterFilter { requeued: Some(false), live_only: true, ..DeadLetterFilter::ALL };
        let mut ids = store.find(&filter).await?;
        ids.reverse();
        let selection = Selection { requeued_too: false, marks: false, range: Some(range) };
        Ok(Self::Letters(Arc::new(Paced::new(LetterLog::new(store, ids, selection), rate))))
    }

    /// The dead letters that are under way, where history is one of letters.
    pub(super) fn open_letters(&self) -> Option<Arc<OpenLetters>> {
        match self {
            Self::Letters(log) => Some(log.inner().open_letters()),
            Self::Archive(_) | Self::Log(..) => None,
        }
    }

    /// The events of a range that the log still holds.
    pub(super) fn of_log(own: OwnLog, range: ReplayRange, rate: Option<NonZeroU32>) -> Self {
        let log = LogRange::new(own.log(), range, own.ending());
        Self::Log(Arc::new(Paced::new(log, rate)), range, own)
    }

    /// Removes the subscription that the replay made for itself.
    pub(super) async fn remove(&self) {
        let Self::Log(_, _, own) = self else { return };
        if let Err(error) = own.remove().await {
            tracing::warn!(%error, "the replay's subscription is left; it expires after a day");
        }
    }

    /// Whether the replay's own subscription is known to be gone. A service that does not answer
    /// is asked again later.
    pub(super) async fn is_gone(&self) -> bool {
        match self {
            Self::Archive(_) | Self::Letters(_) => false,
            Self::Log(_, _, own) => matches!(own.exists().await, Ok(false)),
        }
    }

    pub(super) fn log(&self) -> Arc<dyn EventLog> {
        match self {
            Self::Archive(log) => Arc::clone(log) as Arc<dyn EventLog>,
            Self::Log(log, ..) => Arc::clone(log) as Arc<dyn EventLog>,
            Self::Letters(log) => Arc::clone(log) as Arc<dyn EventLog>,
        }
    }

    pub(super) fn progress(&self) -> Progress {
        match self {
            Self::Archive(log) => {
                let progress = log.inner().progress();
                Progress {
                    events: progress.lines,
                    share: share(progress.bytes_read, progress.bytes),
                    faults: progress.faults,
                    ended_by: None,
                }
            }
            Self::Letters(log) => {
                let (events, all) = log.inner().progress();
                Progress { events, share: share(events, all), ..Progress::default() }
            }
            Self::Log(log, range, _) => {
                let progress = log.inner().progress();
                let of_range = |micros: i64| u64::try_from(micros - range.from.micros());
                let read = progress.latest.map_or(0, |at| of_range(at.micros()).unwrap_or(0));
                Progress {
                    events: progress.events,
                    share: share(read, of_range(range.to.micros()).unwrap_or(0)),
                    faults: Vec::new(),
                    ended_by: progress.ended_by,
                }
            }
        }
    }

    /// The archived objects that became done since the last call.
    pub(super) fn take_done(&self) -> Vec<String> {
        match self {
            Self::Archive(log) => log.inner().take_done(),
            Self::Log(..) | Self::Letters(_) => Vec::new(),
        }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
