//! How fresh one table is: how far its rows are behind, and whether that is within its objective.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::histogram::{self, Counts, DURATIONS, Histogram, ROWS};
use super::lock;
use crate::time::Timestamp;

/// The time over which status shows the 99th percentile.
const RECENT: Duration = Duration::from_secs(300);

/// How often the counts of a histogram are noted for it.
const NOTE: Duration = Duration::from_secs(10);

/// How long the rows must be within the objective before it counts as met again: rows that come just
/// in time and just too late are one miss.
const CALM: Duration = Duration::from_secs(10);

/// The measurements of one table, over all lives of its writer.
#[derive(Debug)]
pub struct TableMeter {
    /// From the publishing of an event until its row was durable; a value for each row.
    pub publish_to_row: Histogram,
    /// From the event's own time until its row was durable; a value for each row.
    pub event_to_row: Histogram,
    /// The time of a commit that succeeded.
    pub commit_time: Histogram,
    /// The rows of a commit that succeeded.
    pub commit_rows: Histogram,
    objective: Option<Duration>,
    missed_micros: AtomicU64,
    watch: Mutex<Watch>,
}

#[derive(Debug, Default)]
struct Watch {
    recent: VecDeque<(Instant, Counts)>,
    sampled: Option<Instant>,
    missed: Option<Missed>,
}

/// An objective that is missed at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missed {
    /// When the rows were first seen too far behind.
    pub(super) since: Timestamp,
    /// When they were last seen so.
    pub(super) last: Timestamp,
    /// How far they were behind then.
    pub(super) behind: Duration,
    /// The objective.
    pub(super) objective: Duration,
}

/// How fresh a table is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Freshness {
    /// The table.
    pub table: String,
    /// Every event that was published longer ago than this, as far as this daemon reads the log, has
    /// its rows or is a dead letter. 0 if nothing waits; null before the log has answered.
    pub behind_seconds: Option<f64>,
    /// The 99th percentile of publish to row, over the rows of the last five minutes; null without.
    pub p99_seconds: Option<f64>,
    /// How far behind the rows may be, if that was configured.
    pub objective_seconds: Option<f64>,
    /// For how long the objective has been missed; null while it is met.
    pub missed_for_seconds: Option<f64>,
    /// How long it was missed, all in all.
    pub missed_seconds_total: f64,
}

impl TableMeter {
    pub(super) fn new(objective: Option<Duration>) -> Self {
        Self {
            publish_to_row: Histogram::default(),
            event_to_row: Histogram::default(),
            commit_time: Histogram::default(),
            commit_rows: Histogram::new(ROWS),
            objective,
            missed_micros: AtomicU64::new(0),
            watch: Mutex::default(),
        }
    }

    /// Notes how far the rows are behind at `now`.
    pub(super) fn sample(&self, clock: Instant, now: Timestamp, behind: Option<Duration>) {
        let mut watch = lock(&self.watch);
        watch.note(clock, || self.publish_to_row.counts());
        let before = watch.sampled.replace(clock);
        let Some((behind, objective)) = behind.zip(self.objective) else { return };
        if behind > objective {
            let since = watch.missed.map_or(now, |missed| missed.since);
            watch.missed = Some(Missed { since, last: now, behind, objective });
            let span = before.map(|before| clock.saturating_duration_since(before));
            self.missed_micros.fetch_add(span.unwrap_or_default().as_micros() as u64, Relaxed);
        } else if watch.missed.is_some_and(|missed| missed.last.age_at(now) >= CALM) {
            watch.missed = None;
        }
    }

    /// The miss of the objective, while it lasts.
    pub(super) fn missed(&self) -> Option<Missed> {
        lock(&self.watch).missed
    }

    pub(super) fn report(
        &self,
        table: &str,
        now: Timestamp,
        behind: Option<Duration>,
    ) -> Freshness {
        let watch = lock(&self.watch);
        let p99 = watch.quantile(&self.publish_to_row.counts(), 0.99);
        Freshness {
            table: table.to_owned(),
            behind_seconds: behind.map(|behind| behind.as_secs_f64()),
            p99_seconds: p99.map(|micros| micros / 1e6),
            objective_seconds: self.objective.map(|objective| objective.as_secs_f64()),
            missed_for_seconds: watch.missed.map(|missed| missed.since.age_at(now).as_secs_f64()),
            missed_seconds_total: self.missed_micros.load(Relaxed) as f64 / 1e6,
        }
    }
}

impl Watch {
    /// Keeps the counts of the last five minutes, and the latest before them.
    fn note(&mut self, clock: Instant, counts: impl FnOnce() -> Counts) {
        let age = |at: Instant| clock.saturating_duration_since(at);
        if self.recent.back().is_none_or(|(at, _)| age(*at) >= NOTE) {
            self.recent.push_back((clock, counts()));
        }
        while self.recent.get(1).is_some_and(|(at, _)| age(*at) >= RECENT) {
            self.recent.pop_front();
        }
    }

    fn quantile(&self, counts: &Counts, quantile: f64) -> Option<f64> {
        let mut counts = *counts;
        if let Some((_, before)) = self.recent.front() {
            counts.iter_mut().zip(before).for_each(|(count, before)| *count -= before);
        }
        histogram::quantile(DURATIONS, &counts, quantile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_percentile_forgets_rows_that_are_older_than_five_minutes() {
        let meter = TableMeter::new(None);
        let (clock, now) = (Instant::now(), Timestamp::now());
        let p99 = |meter: &TableMeter| meter.report("orders", now, None).p99_seconds;
        meter.sample(clock, now, None);
        assert_eq!(p99(&meter), None);
        meter.publish_to_row.observe(50_000_000);
        let slow = p99(&meter).unwrap();
        assert!((30.0..=60.0).contains(&slow), "{slow}");
        for second in 1..=400 {
            meter.sample(clock + second * SECOND, now, None);
            if second == 100 {
                (0..1_000).for_each(|_| meter.publish_to_row.observe(15_000));
                assert!(p99(&meter).unwrap() < 0.02);
            }
            if second == 290 {
                assert!(p99(&meter).is_some());
            }
        }
        assert_eq!(p99(&meter).map(|seconds| seconds < 0.02), Some(true), "those of 100 s");
        (400..=420).for_each(|second| meter.sample(clock + second * SECOND, now, None));
        assert_eq!(p99(&meter), None);
    }

    #[test]
    fn a_miss_lasts_until_the_rows_were_in_time_for_ten_seconds() {
        let meter = TableMeter::new(Some(60 * SECOND));
        let (clock, begin) = (Instant::now(), Timestamp::now());
        let sample = |second: u32, behind: u32| {
            let now = begin.after(second * SECOND);
            meter.sample(clock + second * SECOND, now, Some(behind * SECOND));
            meter.missed()
        };
        assert_eq!(sample(0, 60), None);
        let missed = sample(1, 61).unwrap();
        assert_eq!((missed.since, missed.behind), (begin.after(SECOND), 61 * SECOND));
        assert!(sample(2, 10).is_some());
        assert_eq!(sample(3, 70).unwrap().since, begin.after(SECOND));
        assert!((4..13).all(|second| sample(second, 0).is_some()));
        assert_eq!(sample(13, 0), None);
        let report = meter.report("orders", begin, Some(SECOND));
        assert_eq!(report.missed_seconds_total, 2.0);
        assert_eq!(report.missed_for_seconds, None);
    }

    #[test]
    fn a_table_without_an_objective_misses_none() {
        let meter = TableMeter::new(None);
        meter.sample(Instant::now(), Timestamp::now(), Some(100_000 * SECOND));
        assert_eq!(meter.missed(), None);
    }
}
