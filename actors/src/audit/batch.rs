//! A stretch of events, compared with what stands.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;

use super::account::Absent;
use super::expect::{Bad, Chunk, Event, Rule, Rules};
use super::report::{Finding, Standing, What};
use crate::archive::Window;
use crate::port::{AuditError, Auditable, KeyCount};
use crate::row::{Row, Value};
use crate::supervision::Backoff;

/// The first and the longest pause before a warehouse that has no answer is asked again.
pub(super) const BACKOFF: (Duration, Duration) =
    (Duration::from_millis(200), Duration::from_secs(5));

/// How often it is asked.
pub(super) const ATTEMPTS: usize = 6;

/// Where an event stands.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) at: usize,
    pub(super) window: Window,
    pub(super) file: Arc<str>,
}

/// Events of a stretch of windows, with what should stand of them.
#[derive(Default)]
pub(super) struct Batch {
    /// Files, in their order.
    pub(super) places: Vec<Place>,
    /// Each with its file.
    pub(super) events: Vec<(usize, Event)>,
    /// By processor.
    tables: Vec<Asked>,
    /// Events by their place in `events`.
    pub(super) bad: Vec<Bad>,
    /// What cannot be read.
    damaged: Vec<(usize, Finding)>,
    rows: usize,
}

/// What is asked of one table.
#[derive(Default)]
struct Asked {
    keys: Vec<Row>,
    /// For each key its event, and how many rows there should be.
    of: Vec<(usize, u64)>,
    near: Option<(Value, Value)>,
}

/// What a batch came to.
#[derive(Default)]
pub(super) struct Outcome {
    /// Each with the place of its window among those audited, and the processor, if one is
    /// concerned.
    pub(super) findings: Vec<(usize, Option<usize>, Finding)>,
    /// What dead letters account for, by the place of the window.
    pub(super) letters: Vec<(usize, u64)>,
}

impl Batch {
    pub(super) fn new(processors: usize) -> Self {
        Self { tables: (0..processors).map(|_| Asked::default()).collect(), ..Self::default() }
    }

    /// Whether it holds so many rows and bad events, or twice as many events.
    pub(super) fn is_full(&self, size: usize) -> bool {
        self.rows + self.bad.len() >= size || self.events.len() >= 2 * size
    }

    /// Takes in what should stand of a chunk; `is_new` says of each event whether it counts. Answers
    /// how many rows that are, by processor.
    pub(super) fn add(&mut self, place: &Place, chunk: Chunk, is_new: &[bool]) -> Vec<u64> {
        if self.places.last().is_none_or(|last| !Arc::ptr_eq(&last.file, &place.file)) {
            self.places.push(place.clone());
        }
        let (file, first) = (self.places.len() - 1, self.events.len());
        self.events.extend(chunk.events.into_iter().map(|event| (file, event)));
        let mut rows = vec![0; self.tables.len()];
        for expected in chunk.rows.into_iter().filter(|it| is_new[it.event]) {
            rows[expected.processor] += expected.rows;
            let asked = &mut self.tables[expected.processor];
            asked.keys.push(expected.key);
            asked.of.push((first + expected.event, expected.rows));
            widen(&mut asked.near, expected.place);
            self.rows += 1;
        }
        let bad = chunk.bad.into_iter().filter(|bad| is_new[bad.event]);
        self.bad.extend(bad.map(|bad| Bad { event: first + bad.event, ..bad }));
        self.damaged.extend(chunk.damaged.into_iter().map(|(line, reason)| {
            let Place { at, window, file } = place.clone();
            (at, Finding { window, file, line, what: What::Damaged(reason) })
        }));
        rows
    }

    /// Asks the warehouse.
    pub(super) async fn compare(
        mut self,
        rules: &Rules,
        warehouse: &dyn Auditable,
    ) -> Result<Outcome, AuditError> {
        let tables = std::mem::take(&mut self.tables);
        let asked = rules.processors.iter().zip(tables);
        let counted = try_join_all(asked.map(|(rule, asked)| asked.count(rule, warehouse))).await?;
        let damaged = std::mem::take(&mut self.damaged).into_iter();
        let findings = damaged.map(|(at, finding)| (at, None, finding)).collect();
        let mut outcome = Outcome { findings, letters: Vec::new() };
        let mut absent = Vec::new();
        for (processor, (asked, counts)) in counted.into_iter().enumerate() {
            let rule = &rules.processors[processor];
            for ((key, (event, expected)), found) in
                asked.keys.into_iter().zip(asked.of).zip(counts)
            {
                if found == expected {
                    continue;
                }
                let standing = Standing {
                    table: Arc::clone(rule.processor.table()),
                    columns: Arc::clone(&rule.columns),
                    key,
                    event: self.events[event].1.id.clone(),
                    expected,
                    found,
                };
                if found > expected {
                    self.note(&mut outcome, Some(processor), event, What::Twice(standing));
                } else {
                    absent.push(Absent { processor, event, standing });
                }
            }
        }
        self.account(rules, warehouse, absent, &mut outcome).await?;
        // In the order in which the events stand, whatever the order of the questions.
        outcome.findings.sort_by(|(.., a), (.., b)| {
            (a.window, &a.file, a.line).cmp(&(b.window, &b.file, b.line))
        });
        Ok(outcome)
    }

    pub(super) fn place(&self, event: usize) -> &Place {
        &self.places[self.events[event].0]
    }

    pub(super) fn note(
        &self,
        outcome: &mut Outcome,
        processor: Option<usize>,
        event: usize,
        what: What,
    ) {
        let place = self.place(event);
        let (window, file, line) =
            (place.window, Arc::clone(&place.file), self.events[event].1.line);
        outcome.findings.push((place.at, processor, Finding { window, file, line, what }));
    }
}

impl Asked {
    async fn count(
        self,
        rule: &Rule,
        warehouse: &dyn Auditable,
    ) -> Result<(Self, Vec<u64>), AuditError> {
        if self.keys.is_empty() {
            return Ok((self, Vec::new()));
        }
        let Self { keys, of, near } = self;
        let keys = Arc::new(keys);
        let counts = count(rule, warehouse, Arc::clone(&keys), near.clone()).await?;
        // Whoever answered may hold the keys a moment longer.
        let keys = Arc::try_unwrap(keys).unwrap_or_else(|keys| Vec::clone(&keys));
        Ok((Self { keys, of, near }, counts))
    }
}

/// Asks, and again where the warehouse is unavailable for a while.
pub(super) async fn count(
    rule: &Rule,
    warehouse: &dyn Auditable,
    keys: Arc<Vec<Row>>,
    near: Option<(Value, Value)>,
) -> Result<Vec<u64>, AuditError> {
    let (table, columns) = (Arc::clone(rule.processor.table()), rule.columns.to_vec());
    let asked = KeyCount { table, columns, keys, near };
    let (mut backoff, mut attempts) = (Backoff::new(BACKOFF.0, BACKOFF.1), 1);
    loop {
        match warehouse.count(&asked).await {
            Err(AuditError::Unavailable(_)) if attempts < ATTEMPTS => attempts += 1,
            counted => return counted,
        }
        tokio::time::sleep(backoff.failed()).await;
    }
}

/// Widens a range so that it holds `place`.
fn widen(near: &mut Option<(Value, Value)>, place: Option<Value>) {
    let order = |value: &Value| match value {
        Value::Timestamp(time) => Some(time.micros()),
        Value::Date(days) => Some(i64::from(*days)),
        _ => None,
    };
    let Some((at, place)) = place.and_then(|place| Some((order(&place)?, place))) else { return };
    match near {
        None => *near = Some((place.clone(), place)),
        Some((first, _)) if Some(at) < order(first) => *first = place,
        Some((_, last)) if Some(at) > order(last) => *last = place,
        Some(_) => {}
    }
}
