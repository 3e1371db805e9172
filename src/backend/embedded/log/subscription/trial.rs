//! Events that were in flight when the process was killed are tried again in small batches.
//!
//! A note in the file records that a daemon runs; a clean stop ends it. A start that finds it open
//! follows a kill: all events that may have been in flight are suspect. Suspects are handed out in
//! batches, each noted before and waited for after, so the next kill points at one batch, which is
//! tried in smaller ones, down to single events. The kills over a single event are counted, and the
//! reader makes it a dead letter after `max_attempts`. Without a kill this costs one commit at the
//! start and one at the stop.
//!
//! An unlucky event must not be taken for the cause of kills from outside: each further attempt at
//! an event that was alone at a kill comes later after the start, so kills at random or in a regular
//! rhythm do not meet it again.

use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Row};

use super::Subscription;
use crate::backend::embedded::log::events::Head;
use crate::backend::embedded::log::ranges::{Range, RangeSet};

/// Events in a batch, by level. Level by level a kill is traced to a single event; the sizes keep
/// both the kills and the batches few.
const SIZES: [i64; 3] = [1_024, 32, 1];

/// The level of single events.
const ALONE: usize = SIZES.len() - 1;

/// A batch that the process has survived for so long did not kill it: sinks that are down keep it.
const SURVIVED: Duration = Duration::from_secs(10);

/// How long after the start an event is tried that was alone at a kill, for each such kill.
const PAUSE: Duration = Duration::from_secs(1);

/// The note of a run in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Note {
    /// The epoch of the subscription that the offsets belong to: a seek makes them void.
    epoch: i64,
    /// The run has not ended, or was killed.
    running: bool,
    /// Events that the run may have in flight.
    max_in_flight: i64,
    /// Up to which offset events are tried at each level; 0 for none. No level reaches beyond the
    /// one before.
    until: [i64; SIZES.len()],
    /// The batch that is being tried.
    trying: Option<Range>,
    /// The event that was alone at a kill, and at how many.
    alone: (i64, u32),
}

/// The run of this process.
#[derive(Debug)]
pub(super) struct Run {
    note: Note,
    started: Instant,
    /// When the batch was noted that is being tried.
    since: Instant,
    /// The next batch has to wait.
    paused: bool,
}

/// The events that may be handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowed {
    /// Up to this offset.
    pub(super) last: i64,
    /// For suspects: how often this event was alone at a kill.
    pub(super) suspect: Option<u32>,
}

impl Note {
    /// Takes account of a kill. The events in `acknowledged` have passed; `last` is the last one that
    /// may have been in flight.
    fn after_kill(&mut self, acknowledged: &RangeSet, last: i64) {
        let first = acknowledged.first_gap().first;
        match self.trying.take() {
            None => self.until[0] = self.until[0].max(last),
            // All of it was acknowledged: the kill came before the next batch was noted.
            Some(batch) if acknowledged.gap_from(batch.first).first > batch.last => {}
            Some(batch) => match self.level(batch.first) {
                Some(ALONE) if self.alone.0 == batch.first => self.alone.1 += 1,
                Some(ALONE) => self.alone = (batch.first, 1),
                Some(level) => self.until[level + 1] = batch.last,
                None => {}
            },
        }
        for until in &mut self.until {
            *until = if *until < first { 0 } else { *until };
        }
    }

    /// The smallest batches that the event is to be tried in; `None`: it is no suspect.
    fn level(&self, offset: i64) -> Option<usize> {
        self.until.iter().rposition(|until| offset <= *until)
    }

    /// The next batch, which begins at `first`; `None`: the trial is over.
    fn next(&self, first: i64) -> Option<Range> {
        let level = self.level(first)?;
        Some(Range { first, last: self.until[level].min(first + SIZES[level] - 1) })
    }

    /// At how many kills this batch was a single event in flight.
    fn deaths(&self, batch: Range) -> u32 {
        let (offset, deaths) = self.alone;
        if batch.first == offset && self.level(offset) == Some(ALONE) { deaths } else { 0 }
    }

    fn is_trial(&self) -> bool {
        self.until[0] > 0
    }

    fn read(connection: &Connection, name: &str) -> rusqlite::Result<Option<Self>> {
        const SELECT: &str = "SELECT epoch, running, max_in_flight, until_0, until_1, until_2, \
             first, last, alone, deaths FROM runs WHERE subscription = ?";
        let note = |row: &Row<'_>| {
            let batch: (Option<i64>, Option<i64>) = (row.get(6)?, row.get(7)?);
            Ok(Self {
                epoch: row.get(0)?,
                running: row.get(1)?,
                max_in_flight: row.get(2)?,
                until: [row.get(3)?, row.get(4)?, row.get(5)?],
                trying: batch.0.zip(batch.1).map(|(first, last)| Range { first, last }),
                alone: (row.get(8)?, row.get(9)?),
            })
        };
        connection.prepare_cached(SELECT)?.query_row([name], note).optional()
    }

    fn write(&self, connection: &Connection, name: &str) -> rusqlite::Result<()> {
        const REPLACE: &str =
            "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let [until_0, until_1, until_2] = self.until;
        let (first, last) = (self.trying.map(|it| it.first), self.trying.map(|it| it.last));
        let (alone, deaths) = self.alone;
        let bounds = (until_0, until_1, until_2, first, last);
        connection.prepare_cached(REPLACE)?.execute(rusqlite::params![
            name,
            self.epoch,
            self.running,
            self.max_in_flight,
            bounds.0,
            bounds.1,
            bounds.2,
            bounds.3,
            bounds.4,
            alone,
            deaths
        ])?;
        Ok(())
    }
}

impl Subscription {
    /// The events that may be handed out now; `None` for none. Notes the run at its first call, and each
    /// batch of suspects before it may be handed out.
    pub(super) fn allowed(&mut self, head: &Head) -> rusqlite::Result<Option<Allowed>> {
        let all = Some(Allowed { last: head.last_offset, suspect: None });
        if self.life.is_some() {
            return Ok(all); // a job is resumed by its own journal
        }
        let run = match self.run.take() {
            Some(run) => run,
            None => self.begin_run(head)?,
        };
        let run = self.run.insert(run);
        if !run.note.is_trial() {
            return Ok(all);
        }
        let is_void = run.note.epoch != self.state.epoch;
        if let Some(batch) = run.note.trying
            && !is_void
            && run.since.elapsed() < SURVIVED
            && self.state.waits_for(batch)
        {
            let suspect = Some(run.note.deaths(batch));
            return Ok(Some(Allowed { last: batch.last, suspect }));
        }
        let mut note = run.note.clone();
        note.trying = note.next(self.state.taken.first_gap().first).filter(|_| !is_void);
        let Some(batch) = note.trying else {
            tracing::info!(
                subscription = self.name,
                "the events in flight at the kill have passed"
            );
            note.until = [0; SIZES.len()];
            self.note_run(note)?;
            return Ok(all);
        };
        let deaths = note.deaths(batch);
        run.paused = run.started.elapsed() < PAUSE * deaths;
        if run.paused {
            return Ok(None);
        }
        self.note_run(note)?;
        Ok(Some(Allowed { last: batch.last, suspect: Some(deaths) }))
    }

    /// Notes that a daemon runs, and which events are suspect if the one before was killed.
    fn begin_run(&mut self, head: &Head) -> rusqlite::Result<Run> {
        let found = Note::read(&self.connection, &self.name)?;
        let was_killed = found.as_ref().is_some_and(|note| note.running);
        let mut note = found.unwrap_or_default();
        if note.epoch != self.state.epoch {
            // The offsets mean other events now, or were passed over.
            let Note { max_in_flight, .. } = note;
            note = Note { epoch: self.state.epoch, max_in_flight, ..Note::default() };
        }
        if was_killed {
            let acknowledged = self.state.passed();
            let last = nth_lacking(&acknowledged, note.max_in_flight).min(head.last_offset);
            note.after_kill(&acknowledged, last);
        }
        (note.running, note.max_in_flight) = (true, self.max_in_flight);
        if note.is_trial() {
            let (alone, deaths) = note.alone;
            tracing::warn!(
                subscription = self.name,
                up_to_offset = note.until[0],
                alone = (deaths > 0).then_some(alone),
                deaths,
                "the process was killed: the events that were in flight are tried in small batches"
            );
        }
        self.note_run(note.clone())?;
        let now = Instant::now();
        Ok(Run { note, started: now, since: now, paused: false })
    }

    /// Whether events wait that may not be handed out yet.
    pub(in crate::backend::embedded::log) fn is_paused(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.paused)
    }

    /// Notes that the run has ended by itself.
    pub(in crate::backend::embedded::log) fn end_run(&mut self) -> rusqlite::Result<()> {
        let Some(run) = self.run.take() else { return Ok(()) };
        self.note_run(Note { running: false, trying: None, ..run.note })
    }

    fn note_run(&mut self, note: Note) -> rusqlite::Result<()> {
        self.change(|_, transaction, name| note.write(transaction, name))?;
        if let Some(run) = &mut self.run {
            (run.note, run.since) = (note, Instant::now());
        }
        Ok(())
    }
}

/// The `count`th offset that the set lacks, from the lowest.
fn nth_lacking(set: &RangeSet, mut count: i64) -> i64 {
    let mut gap = set.first_gap();
    while gap.last != i64::MAX && gap.last - gap.first + 1 < count {
        count -= gap.last - gap.first + 1;
        gap = set.gap_from(gap.last + 1);
    }
    gap.first.saturating_add(count.max(1) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(i64, i64)]) -> RangeSet {
        ranges.iter().map(|&(first, last)| Range { first, last }).collect()
    }

    #[test]
    fn nth_missing_counts_across_gaps() {
        let set = set(&[(0, 4), (7, 9)]);
        let found = [1, 2, 3, 4].map(|count| nth_lacking(&set, count));
        assert_eq!(found, [5, 6, 10, 11]);
    }

    #[test]
    fn kills_narrow_the_suspects_down_to_one_event() {
        let done = set(&[(0, 100)]);
        let mut note = Note { running: true, ..Note::default() };
        note.after_kill(&done, 5_000);
        let mut sizes = Vec::new();
        // Event 1,000 kills the process whenever it is tried.
        for _ in 0..6 {
            let mut done = done.clone();
            let culprit = loop {
                let batch = note.next(done.first_gap().first).unwrap();
                note.trying = Some(batch);
                if (batch.first..=batch.last).contains(&1_000) {
                    break batch;
                }
                done.insert(batch);
            };
            sizes.push((culprit.last - culprit.first + 1, note.deaths(culprit)));
            note.after_kill(&done, 5_000);
        }
        assert_eq!(sizes, [(1_024, 0), (32, 0), (1, 0), (1, 1), (1, 2), (1, 3)]);
        // Behind it batches are large again.
        assert!(note.next(1_001).unwrap().last - 1_001 <= 31);
        assert_eq!(note.next(1_125), Some(Range { first: 1_125, last: 2_148 }));
        assert_eq!(note.next(5_001), None);
    }

    #[test]
    fn a_kill_after_the_batch_was_acknowledged_accuses_none() {
        let mut note = Note { until: [500, 200, 150], ..Note::default() };
        note.trying = Some(Range { first: 120, last: 120 });
        let before = Note { trying: None, ..note.clone() };
        note.after_kill(&set(&[(0, 120)]), 9_000);
        assert_eq!(note, before);
    }

    #[test]
    fn another_event_begins_without_deaths() {
        let mut note = Note { until: [500, 200, 150], alone: (110, 2), ..Note::default() };
        note.trying = Some(Range { first: 120, last: 120 });
        note.after_kill(&set(&[(0, 119)]), 9_000);
        assert_eq!(note.alone, (120, 1));
        assert_eq!(note.deaths(Range { first: 121, last: 121 }), 0);
    }
}
