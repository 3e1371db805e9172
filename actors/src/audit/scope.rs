//! Which windows are audited, and which are left out.
//!
//! A line may be archived before its rows are durable. Once its event is acknowledged, all its rows are durable, or a
//! dead letter is. So the archive is listed first, and then the log is asked: every listed line was published before the
//! listing, and every message before the log's answer is acknowledged. A window is audited when its end, or the listing
//! if that was earlier, is before the answer. So the open window is audited too if no event waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::report::{LeftOut, Reason};
use crate::archive::{
    ArchiveObject, FinalName, IndexName, Indexes, PartName, SealError, Window, indexes_between,
    objects_between, unfinished,
};
use crate::port::{Acknowledged, ArchiveStore};
use crate::replay::ReplayRange;
use crate::time::Timestamp;

/// Microseconds of 0001-01-01T00:00:00Z and 9999-12-31T00:00:00Z: the years that a time may have.
const EVER: (i64, i64) = (-62_135_596_800_000_000, 253_402_214_400_000_000);

/// The archive's objects of a range.
pub(super) struct Listing {
    windows: BTreeMap<Window, Vec<ArchiveObject>>,
    unsealed: BTreeSet<Window>,
    indexes: Indexes,
    /// By window, faulty objects of the archive, each with its fault.
    faults: BTreeMap<Window, Vec<(Arc<str>, String)>>,
    /// When the listing was done.
    at: Timestamp,
}

/// A window to be audited.
#[derive(Debug)]
pub(super) struct Audited {
    pub(super) window: Window,
    pub(super) objects: Vec<ArchiveObject>,
    /// Files that are lost, or that no index protects, and why.
    pub(super) faults: Vec<(Arc<str>, String)>,
    /// Processors, by index, whose tables are not asked.
    pub(super) without: Vec<usize>,
}

/// A table as the scope sees it.
pub(super) struct Table<'a> {
    pub(super) name: &'a str,
    pub(super) staleness: Duration,
    /// Why its rows cannot be found again, if they cannot.
    pub(super) lost: Option<&'static str>,
}

impl Listing {
    pub(super) async fn of(
        store: &dyn ArchiveStore,
        range: ReplayRange,
    ) -> Result<Self, SealError> {
        let mut windows: BTreeMap<Window, Vec<ArchiveObject>> = BTreeMap::new();
        let mut unsealed = BTreeSet::new();
        let objects = objects_between(store, range.from, range.to).await?;
        let indexes = indexes_between(store, range.from, range.to, &objects).await?;
        let faults = faults(&indexes);
        // A window may have lost all its files.
        for &window in faults.keys() {
            windows.entry(window).or_default();
        }
        for object in objects {
            if object.name.parse::<PartName>().is_ok() {
                unsealed.insert(object.window);
            }
            windows.entry(object.window).or_default().push(object);
        }
        unsealed.extend(unfinished(store).await?.into_iter().map(|one| one.window));
        Ok(Self { windows, unsealed, indexes, faults, at: Timestamp::now() })
    }

    /// Divides the windows by the log's answer; `tables` are those of the processors, in order.
    pub(super) fn divide(
        mut self,
        acknowledged: Acknowledged,
        tables: &[Table<'_>],
    ) -> (Vec<Audited>, Vec<LeftOut>, Indexes) {
        let (mut audited, mut left) = (Vec::new(), Left::default());
        if let (Some((first, _)), Some((last, _))) =
            (self.windows.first_key_value(), self.windows.last_key_value())
        {
            let (from, to, windows) = (first.start(), last.end(), self.windows.len() as u64);
            for table in tables {
                if let Some(why) = table.lost {
                    let (table, reason) = (Some(table.name.to_owned()), Reason::Untraceable(why));
                    left.whole.push(LeftOut { from, to, windows, table, reason });
                }
            }
        }
        for (number, (window, objects)) in self.windows.into_iter().enumerate() {
            // No line of the window was published later.
            let last = window.end().min(self.at);
            let waits = match acknowledged {
                Acknowledged::Before(time) if last > time => Some(Reason::Unacknowledged(time)),
                _ if self.unsealed.contains(&window) => Some(Reason::Unsealed),
                _ => None,
            };
            if let Some(reason) = waits {
                left.add(number, window, None, reason);
                continue;
            }
            let mut without = Vec::new();
            for (index, table) in tables.iter().enumerate() {
                if last.after(table.staleness) > self.at && !table.staleness.is_zero() {
                    left.add(number, window, Some(table.name), Reason::Stale(table.staleness));
                    without.push(index);
                }
            }
            let faults = self.faults.remove(&window).unwrap_or_default();
            audited.push(Audited { window, objects, faults, without });
        }
        (audited, left.all(), self.indexes)
    }
}

/// The faults that the indexes show without reading a file, by window.
fn faults(indexes: &Indexes) -> BTreeMap<Window, Vec<(Arc<str>, String)>> {
    let lost = indexes.lost.iter().map(|lost| {
        let lines = lost.lines.map(|lines| format!(", with {lines} lines"));
        let reason = format!("the file is lost{}: its index names it", lines.unwrap_or_default());
        (&lost.name, reason)
    });
    let unindexed = indexes.unindexed.iter().map(|name| {
        (name, "has no index: nothing would show that lines of it were lost".to_owned())
    });
    let unreadable =
        indexes.unreadable.iter().map(|(name, reason)| (name, format!("cannot be read: {reason}")));
    let mut faults: BTreeMap<Window, Vec<_>> = BTreeMap::new();
    for (name, reason) in lost.chain(unindexed).chain(unreadable) {
        let file = name.parse::<FinalName>().map(|name| name.manifest.window);
        let window = file.or_else(|_| name.parse::<IndexName>().map(|IndexName(it)| it.window));
        if let Ok(window) = window {
            faults.entry(window).or_default().push((name.as_str().into(), reason));
        }
    }
    faults
}

/// The start of the first window of the archive and the end of the last one.
pub(super) async fn extent(
    store: &dyn ArchiveStore,
) -> Result<Option<(Timestamp, Timestamp)>, SealError> {
    let (from, to) = (Timestamp::from_micros(EVER.0), Timestamp::from_micros(EVER.1));
    let objects = objects_between(store, from, to).await?;
    let ends = objects.first().zip(objects.last());
    Ok(ends.map(|(first, last)| (first.window.start(), last.window.end())))
}

/// The windows left out; consecutive ones are joined.
#[derive(Default)]
struct Left {
    whole: Vec<LeftOut>,
    /// By table; with each the number of its last window.
    runs: BTreeMap<Option<String>, Vec<(usize, LeftOut)>>,
}

impl Left {
    fn add(&mut self, number: usize, window: Window, table: Option<&str>, reason: Reason) {
        let runs = self.runs.entry(table.map(str::to_owned)).or_default();
        let (from, to) = (window.start(), window.end());
        match runs.last_mut() {
            Some((last, run)) if run.reason == reason && *last + 1 == number => {
                *last = number;
                run.to = to;
                run.windows += 1;
            }
            _ => {
                let table = table.map(str::to_owned);
                runs.push((number, LeftOut { from, to, windows: 1, table, reason }));
            }
        }
    }

    fn all(self) -> Vec<LeftOut> {
        let runs = self.runs.into_values().flatten().map(|(_, run)| run);
        self.whole.into_iter().chain(runs).collect()
    }
}
