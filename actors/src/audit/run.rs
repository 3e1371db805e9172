//! One audit on its way: reads ahead, compares one batch while the next is collected, and counts.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::AuditFailure;
use super::batch::{Batch, Outcome, Place};
use super::expect::{Chunk, Event, Rules};
use super::reader::Reader;
use super::report::{Finding, Summary, TableTally, Tally, Told, What};
use super::scope::Audited;
use crate::archive::Window;
use crate::port::{AuditError, Auditable};
use crate::time::Timestamp;

/// Files that are read side by side: one is decompressed while another is waited for.
const READERS: usize = 2;

/// The state of a running audit.
pub(super) struct Run<'a> {
    rules: Arc<Rules>,
    warehouse: Arc<dyn Auditable>,
    tell: &'a mut dyn FnMut(Told) -> bool,
    /// Whether anybody listens.
    heard: bool,
    batch: Batch,
    comparing: Option<Comparing>,
    /// By the place of their windows.
    tallies: Vec<Tally>,
    tables: Vec<TableTally>,
    /// Windows whose tallies were reported.
    told: usize,
    /// The window that is being read, and the marks of its lines.
    seen: (usize, HashSet<u64>),
    /// The first and the last of the events' own times.
    times: Option<(Timestamp, Timestamp)>,
    /// The last window with a finding, and its rows that were named.
    named: (usize, HashSet<u64>),
}

/// A batch that is being compared.
struct Comparing {
    task: JoinHandle<Result<Outcome, AuditError>>,
    /// Windows before this place have no events behind this batch.
    done: usize,
}

impl Drop for Comparing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<'a> Run<'a> {
    pub(super) fn new(
        rules: Arc<Rules>,
        warehouse: Arc<dyn Auditable>,
        windows: &[Audited],
        tell: &'a mut dyn FnMut(Told) -> bool,
    ) -> Self {
        let tables = rules.processors.iter().map(|rule| TableTally {
            table: rule.processor.table().name.clone(),
            processor: rule.processor.name().to_owned(),
            rows: 0,
            missing: 0,
            stale: 0,
            older_rule: 0,
            staleness: warehouse.staleness(rule.processor.table()),
        });
        Self {
            tables: tables.collect(),
            batch: Batch::new(rules.processors.len()),
            rules,
            warehouse,
            tell,
            heard: true,
            comparing: None,
            tallies: windows.iter().map(|audited| Tally::new(audited.window)).collect(),
            told: 0,
            seen: (0, HashSet::new()),
            times: None,
            named: (0, HashSet::new()),
        }
    }

    /// Reads and compares all windows.
    pub(super) async fn read(
        &mut self,
        reader: &Reader,
        mut windows: Vec<Audited>,
    ) -> Result<(), AuditFailure> {
        let count = windows.len();
        let faults = windows.iter_mut().map(|audited| std::mem::take(&mut audited.faults));
        let mut faults: VecDeque<_> = faults.enumerate().collect();
        let mut files = windows.into_iter().enumerate().flat_map(|(at, audited)| {
            let without: Arc<[usize]> = audited.without.into();
            let objects = audited.objects.into_iter();
            objects.map(move |object| (at, object, Arc::clone(&without)))
        });
        let mut ahead = VecDeque::new();
        while self.heard {
            while ahead.len() < READERS
                && let Some((at, object, without)) = files.next()
            {
                ahead.push_back(reader.open(object, at, without));
            }
            let Some(mut reading) = ahead.pop_front() else { break };
            let (at, window) = (reading.window, self.tallies[reading.window].window);
            let place = Place { at, window, file: Arc::clone(&reading.file) };
            while faults.front().is_some_and(|(window, _)| *window <= at)
                && let Some((at, faults)) = faults.pop_front()
            {
                self.batch.damage(at, self.tallies[at].window, faults);
            }
            while self.heard
                && let Some(chunk) = reading.next().await?
            {
                self.take(&place, chunk);
                if self.batch.is_full(self.warehouse.batch()) {
                    self.compare(at).await?;
                }
            }
        }
        for (at, faults) in faults {
            self.batch.damage(at, self.tallies[at].window, faults);
        }
        self.compare(count).await?;
        self.conclude().await
    }

    /// Adds the expectations of a chunk of lines.
    fn take(&mut self, place: &Place, chunk: Chunk) {
        if self.seen.0 != place.at {
            self.seen = (place.at, HashSet::new());
        }
        if let Some((first, last)) = chunk.times {
            let (a, b) = self.times.unwrap_or((first, last));
            self.times = Some((a.min(first), b.max(last)));
        }
        let mark = |event: &Event| {
            let mut hasher = DefaultHasher::new();
            event.identity.hash(&mut hasher);
            hasher.finish()
        };
        let marks = chunk.events.iter().map(mark);
        let is_new: Vec<bool> = marks.map(|mark| self.seen.1.insert(mark)).collect();
        let new = is_new.iter().filter(|is_new| **is_new).count();
        let tally = &mut self.tallies[place.at];
        tally.events += new as u64;
        tally.repeated += (is_new.len() - new) as u64;
        let rows = self.batch.add(place, chunk, &is_new);
        for (table, rows) in self.tables.iter_mut().zip(rows) {
            table.rows += rows;
            tally.rows += rows;
        }
    }

    /// Begins to compare the collected batch, after the previous one was reported.
    async fn compare(&mut self, done: usize) -> Result<(), AuditFailure> {
        self.conclude().await?;
        let batch = std::mem::replace(&mut self.batch, Batch::new(self.rules.processors.len()));
        let (rules, warehouse) = (Arc::clone(&self.rules), Arc::clone(&self.warehouse));
        let task = tokio::spawn(async move { batch.compare(&rules, &*warehouse).await });
        self.comparing = Some(Comparing { task, done });
        Ok(())
    }

    /// Waits for the batch that is being compared, and reports its result.
    async fn conclude(&mut self) -> Result<(), AuditFailure> {
        let Some(mut comparing) = self.comparing.take() else { return Ok(()) };
        let outcome = (&mut comparing.task).await;
        let outcome = outcome.map_err(|panic| AuditFailure::Broken(panic.to_string()))??;
        for (at, letters) in outcome.letters {
            self.tallies[at].dead_letters += letters;
        }
        for (at, purged) in outcome.purged {
            self.tallies[at].purged += purged;
        }
        for (at, processor, finding) in outcome.findings {
            self.report_windows(at);
            self.find(at, processor, finding);
        }
        self.report_windows(comparing.done);
        Ok(())
    }

    fn find(&mut self, at: usize, processor: Option<usize>, finding: Finding) {
        if self.named.0 != at {
            self.named = (at, HashSet::new());
        }
        if let Some((kind, row)) = finding.what.row() {
            let mut name = DefaultHasher::new();
            (processor, kind, format!("{:?}", row.key)).hash(&mut name);
            // Several events may make one row, the latest state of a thing.
            if !self.named.1.insert(name.finish()) {
                return;
            }
        }
        let tally = &mut self.tallies[at];
        let table = processor.and_then(|at| self.tables.get_mut(at));
        match &finding.what {
            What::Missing(row) | What::Twice(row) => {
                tally.twice += row.found.saturating_sub(row.expected);
                let missing = row.expected.saturating_sub(row.found);
                tally.missing += missing;
                if let Some(table) = table {
                    table.missing += missing;
                }
            }
            What::Stale { .. } => {
                tally.stale += 1;
                if let Some(table) = table {
                    table.stale += 1;
                }
            }
            What::OlderRule { .. } => {
                tally.older_rule += 1;
                if let Some(table) = table {
                    table.older_rule += 1;
                }
            }
            What::Differs { .. } => tally.differing += 1,
            What::Unaccounted { .. } => tally.unaccounted += 1,
            What::Damaged(_) => tally.damaged += 1,
        }
        self.tell(Told::Found(finding));
    }

    /// Tells the tallies of the windows before this place.
    fn report_windows(&mut self, before: usize) {
        while self.told < before {
            let tally = self.tallies[self.told];
            self.told += 1;
            self.tell(Told::Window(tally));
        }
    }

    fn tell(&mut self, told: Told) {
        self.heard = self.heard && (self.tell)(told);
    }

    pub(super) fn summary(self) -> Summary {
        let mut total = Tally::new(Window::of(Timestamp::default()));
        self.tallies.iter().for_each(|tally| total.add(tally));
        Summary {
            windows: self.tallies.len() as u64,
            total,
            tables: self.tables,
            event_times: self.times,
            archived: None,
        }
    }
}
