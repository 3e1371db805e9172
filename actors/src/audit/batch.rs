//! A stretch of events, compared with the warehouse.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;

use super::account::Absent;
use super::expect::{Bad, Chunk, Event, Expected, Rule, Rules};
use super::report::{Difference, Finding, Standing, What};
use super::values;
use crate::archive::Window;
use crate::port::{Age, AuditError, Auditable, Current, CurrentRows, KeyCount};
use crate::row::{Row, Value};
use crate::supervision::Backoff;
use crate::version::Version;

/// The first and the longest pause before a warehouse that has no answer is asked again.
pub(super) const BACKOFF: (Duration, Duration) =
    (Duration::from_millis(200), Duration::from_secs(5));

/// How often it is asked.
pub(super) const ATTEMPTS: usize = 6;

/// The place of an event in the archive.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) at: usize,
    pub(super) window: Window,
    pub(super) file: Arc<str>,
}

/// Events of consecutive windows, with their expected rows and letters.
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
    /// Lines and objects that cannot be read.
    damaged: Vec<(usize, Finding)>,
    rows: usize,
}

/// The query to one table.
#[derive(Default)]
struct Asked {
    keys: Vec<Row>,
    /// The versions of the keys' rows, where the table has versions.
    versions: Vec<Version>,
    /// The expected rows of each key, in the order of `keys`.
    of: Vec<Of>,
    near: Option<(Value, Value)>,
}

/// The expected rows of one key, and the event that makes them.
struct Of {
    event: usize,
    rows: u64,
    lowest: Option<Version>,
    values: Row,
}

/// The result of a batch.
#[derive(Default)]
pub(super) struct Outcome {
    /// Each with the place of its window among those audited, and the processor, if one is
    /// concerned.
    pub(super) findings: Vec<(usize, Option<usize>, Finding)>,
    /// What dead letters account for, by the place of the window.
    pub(super) letters: Vec<(usize, u64)>,
    /// What purged dead letters explain, by the place of the window.
    pub(super) purged: Vec<(usize, u64)>,
}

impl Batch {
    pub(super) fn new(processors: usize) -> Self {
        Self { tables: (0..processors).map(|_| Asked::default()).collect(), ..Self::default() }
    }

    /// Whether it holds so many rows and bad events, or twice as many events.
    pub(super) fn is_full(&self, size: usize) -> bool {
        self.rows + self.bad.len() >= size || self.events.len() >= 2 * size
    }

    /// Adds the expectations of a chunk; `is_new` holds for each event whether it counts. Returns the number of rows by
    /// processor.
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
            asked.versions.extend(expected.version);
            let Expected { rows, lowest, values, .. } = expected;
            asked.of.push(Of { event: first + expected.event, rows, lowest, values });
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

    /// Adds findings about whole files of a window: each file with its fault.
    pub(super) fn damage(&mut self, at: usize, window: Window, faults: Vec<(Arc<str>, String)>) {
        let finding =
            |(file, reason)| Finding { window, file, line: 0, what: What::Damaged(reason) };
        self.damaged.extend(faults.into_iter().map(|fault| (at, finding(fault))));
    }

    /// Asks the warehouse.
    pub(super) async fn compare(
        mut self,
        rules: &Rules,
        warehouse: &dyn Auditable,
    ) -> Result<Outcome, AuditError> {
        let tables = std::mem::take(&mut self.tables);
        let asked = rules.processors.iter().zip(tables);
        let answers = try_join_all(asked.map(|(rule, asked)| asked.ask(rule, warehouse))).await?;
        let damaged = std::mem::take(&mut self.damaged).into_iter();
        let findings = damaged.map(|(at, finding)| (at, None, finding)).collect();
        let mut outcome = Outcome { findings, ..Outcome::default() };
        let mut absent = Vec::new();
        for (processor, (asked, current)) in answers.into_iter().enumerate() {
            let rule = &rules.processors[processor];
            let Asked { keys, versions, of, .. } = asked;
            let mut versions = versions.into_iter();
            for ((key, of), current) in keys.into_iter().zip(of).zip(current) {
                let row = Standing {
                    table: Arc::clone(rule.processor.table()),
                    columns: Arc::clone(&rule.columns),
                    key,
                    event: self.events[of.event].1.id.clone(),
                    expected: of.rows,
                    found: current.rows,
                };
                let event = of.event;
                let Some(what) = judge(rule, row, of, versions.next(), current.age) else {
                    continue;
                };
                if matches!(what, What::Missing(_) | What::Stale { .. }) {
                    absent.push(Absent { processor, event, what });
                } else {
                    self.note(&mut outcome, Some(processor), event, what);
                }
            }
        }
        self.account(rules, warehouse, absent, &mut outcome).await?;
        keep_newest_stale(&mut outcome.findings);
        // In the order of the events, for any order of the queries.
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

/// Compares the row of a key with the expected one; `None` where it is right.
fn judge(rule: &Rule, row: Standing, of: Of, expected: Option<Version>, age: Age) -> Option<What> {
    if row.found < row.expected {
        return Some(What::Missing(row));
    }
    if row.found > row.expected {
        return Some(What::Twice(row));
    }
    let (Some(expected), Some(lowest)) = (expected, of.lowest) else { return None };
    match age {
        Age::Newer => None,
        Age::Same(found) => {
            let pairs = of.values.0.into_vec().into_iter().zip(found.into_vec());
            let columns: Vec<_> = rule
                .compared
                .iter()
                .zip(pairs)
                .filter(|(column, (expected, found))| {
                    !values::are_equal(
                        rule.processor.table().columns[**column].kind,
                        expected,
                        found,
                    )
                })
                .map(|(&column, (expected, found))| Difference { column, expected, found })
                .collect();
            (!columns.is_empty()).then_some(What::Differs { row, columns })
        }
        Age::Older(Some(found))
            if found.position() == expected.position()
                && found.revision() < expected.revision() =>
        {
            let (expected, found) = (expected.revision(), found.revision());
            Some(What::OlderRule { row, expected, found })
        }
        Age::Older(Some(found)) if found >= lowest => None,
        Age::Older(found) => Some(What::Stale { row, expected, found }),
    }
}

/// Of stale rows of one key, keeps the one with the greatest expected version: the others were
/// superseded rightly.
fn keep_newest_stale(findings: &mut Vec<(usize, Option<usize>, Finding)>) {
    let name = |at: usize, processor: Option<usize>, finding: &Finding| match &finding.what {
        What::Stale { row, expected, .. } => {
            Some(((at, processor, format!("{:?}", row.key)), *expected))
        }
        _ => None,
    };
    let mut newest: HashMap<_, Version> = HashMap::new();
    for (at, processor, finding) in &*findings {
        if let Some((name, version)) = name(*at, *processor, finding) {
            let newest = newest.entry(name).or_insert(version);
            *newest = version.max(*newest);
        }
    }
    findings.retain(|(at, processor, finding)| {
        name(*at, *processor, finding).is_none_or(|(name, version)| newest[&name] == version)
    });
}

impl Asked {
    /// Asks for the current rows, or counts rows that have no versions.
    async fn ask(
        self,
        rule: &Rule,
        warehouse: &dyn Auditable,
    ) -> Result<(Self, Vec<Current>), AuditError> {
        if self.keys.is_empty() {
            return Ok((self, Vec::new()));
        }
        let Self { keys, versions, of, near } = self;
        let (keys, expected) = (Arc::new(keys), Arc::new(versions));
        let (asked, asked_near) = (Arc::clone(&keys), near.clone());
        let answer = if rule.is_versioned() {
            current(rule, warehouse, asked, Arc::clone(&expected), asked_near).await?
        } else {
            let counts = count(rule, warehouse, asked, asked_near).await?;
            counts.into_iter().map(|rows| Current { rows, age: Age::Newer }).collect()
        };
        // The warehouse may hold them a moment longer.
        let keys = Arc::try_unwrap(keys).unwrap_or_else(|keys| Vec::clone(&keys));
        let versions = Arc::try_unwrap(expected).unwrap_or_else(|all| Vec::clone(&all));
        Ok((Self { keys, versions, of, near }, answer))
    }
}

/// Counts rows.
pub(super) async fn count(
    rule: &Rule,
    warehouse: &dyn Auditable,
    keys: Arc<Vec<Row>>,
    near: Option<(Value, Value)>,
) -> Result<Vec<u64>, AuditError> {
    let (table, columns) = (Arc::clone(rule.processor.table()), rule.columns.to_vec());
    let asked = KeyCount { table, columns, keys, near };
    until_available(|| warehouse.count(&asked)).await
}

/// Asks for the current rows of keys.
pub(super) async fn current(
    rule: &Rule,
    warehouse: &dyn Auditable,
    keys: Arc<Vec<Row>>,
    expected: Arc<Vec<Version>>,
    near: Option<(Value, Value)>,
) -> Result<Vec<Current>, AuditError> {
    let (table, columns) = (Arc::clone(rule.processor.table()), rule.compared.clone());
    let asked = CurrentRows { table, keys, expected, columns, near };
    until_available(|| warehouse.current(&asked)).await
}

/// Asks, and asks again while the warehouse is unavailable, a few times.
async fn until_available<T, F>(ask: impl Fn() -> F) -> Result<T, AuditError>
where
    F: Future<Output = Result<T, AuditError>>,
{
    let (mut backoff, mut attempts) = (Backoff::new(BACKOFF.0, BACKOFF.1), 1);
    loop {
        match ask().await {
            Err(AuditError::Unavailable(_)) if attempts < ATTEMPTS => attempts += 1,
            answer => return answer,
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
