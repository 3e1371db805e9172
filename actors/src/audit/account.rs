//! What accounts for a row that is absent: a dead letter of its event and processor, or, where the
//! present rules make none, a row of an earlier rule.

use std::collections::HashMap;
use std::sync::Arc;

use compact_str::CompactString;

use super::batch::{ATTEMPTS, BACKOFF, Batch, Outcome, count};
use super::expect::{Bad, Rules};
use super::report::{Standing, What};
use crate::port::{AuditError, Auditable, LetterMark};
use crate::replay::ReplayRange;
use crate::row::Row;
use crate::supervision::Backoff;

/// A processor, or none where the event is not valid, and the id that the letter is looked up by.
type Letter = (Option<usize>, LetterId);

/// The id of a message; of an event, where its line does not hold the message's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum LetterId {
    Message(CompactString),
    Event(CompactString),
}

/// A row that is absent: its processor, and its event's place in the batch.
pub(super) struct Absent {
    pub(super) processor: usize,
    pub(super) event: usize,
    pub(super) standing: Standing,
}

impl Batch {
    /// Looks for what accounts for the rows that are absent and for the events of which none can be
    /// made, and notes those of which nothing does.
    pub(super) async fn account(
        &self,
        rules: &Rules,
        warehouse: &dyn Auditable,
        absent: Vec<Absent>,
        outcome: &mut Outcome,
    ) -> Result<(), AuditError> {
        let rows = absent.iter().map(|absent| (Some(absent.processor), absent.event));
        let bad = self.bad.iter().map(|bad| (bad.processor, bad.event));
        let letters = self.letters(rules, warehouse, rows.chain(bad)).await?;
        let has_letter = |processor: Option<usize>, event: usize| {
            self.letter(processor, event).is_some_and(|letter| letters.get(&letter) == Some(&true))
        };
        for Absent { processor, event, standing } in absent {
            if has_letter(Some(processor), event) {
                let missing = standing.expected - standing.found;
                outcome.letters.push((self.place(event).at, missing));
            } else {
                self.note(outcome, Some(processor), event, What::Missing(standing));
            }
        }
        let (with, without): (Vec<&Bad>, Vec<&Bad>) =
            self.bad.iter().partition(|bad| has_letter(bad.processor, bad.event));
        outcome.letters.extend(with.into_iter().map(|bad| (self.place(bad.event).at, 1)));
        let stand = earlier_rows(&without, rules, warehouse).await?;
        for (bad, _) in without.into_iter().zip(stand).filter(|(_, stands)| !stands) {
            let id = &self.events[bad.event].1.id;
            let processor = bad.processor.map(|at| rules.processors[at].processor.name());
            let what = What::Unaccounted {
                event: Some(id.clone()).filter(|id| !id.is_empty()),
                processor: processor.map(str::to_owned),
                reason: bad.reason.clone(),
            };
            self.note(outcome, bad.processor, bad.event, what);
        }
        Ok(())
    }

    /// Which of the letters of these processors and events there are.
    async fn letters(
        &self,
        rules: &Rules,
        warehouse: &dyn Auditable,
        of: impl Iterator<Item = (Option<usize>, usize)>,
    ) -> Result<HashMap<Letter, bool>, AuditError> {
        let wanted = of.filter_map(|(processor, event)| self.letter(processor, event));
        let mut letters: HashMap<Letter, bool> = wanted.map(|letter| (letter, false)).collect();
        let ends = (self.places.first(), self.places.last());
        let (Some(first), Some(last), false) = (ends.0, ends.1, letters.is_empty()) else {
            return Ok(letters);
        };
        let published = ReplayRange { from: first.window.start(), to: last.window.end() };
        let names = rules.processors.iter().map(|rule| rule.processor.name()).zip(0..);
        let names: HashMap<&str, usize> = names.collect();
        let (mut backoff, mut attempts) = (Backoff::new(BACKOFF.0, BACKOFF.1), 1);
        let mut waiting = letters.len();
        loop {
            let mut take = |mark: LetterMark| {
                let processor = match mark.processor.as_deref().map(|name| names.get(name)) {
                    None => None,
                    Some(Some(&processor)) => Some(processor),
                    // A processor that is no longer configured answers for nothing.
                    Some(None) => return true,
                };
                let event = mark.event_id.map(LetterId::Event);
                for id in [LetterId::Message(mark.message_id)].into_iter().chain(event) {
                    let letter = letters.get_mut(&(processor, id));
                    if let Some(found) = letter.filter(|found| !**found) {
                        *found = true;
                        waiting -= 1;
                    }
                }
                waiting > 0
            };
            match warehouse.letters(published, &mut take).await {
                Err(AuditError::Unavailable(_)) if attempts < ATTEMPTS => attempts += 1,
                shown => return shown.map(|()| letters),
            }
            tokio::time::sleep(backoff.failed()).await;
        }
    }

    /// What a letter of this processor for this event is known by.
    fn letter(&self, processor: Option<usize>, event: usize) -> Option<Letter> {
        let (_, event) = &self.events[event];
        match &event.message {
            Some(id) => Some((processor, LetterId::Message(id.clone()))),
            None if event.id.is_empty() => None,
            None => Some((processor, LetterId::Event(event.id.clone()))),
        }
    }
}

/// Of each of these events, whether all the rows stand that an earlier rule can have made of it.
async fn earlier_rows(
    bad: &[&Bad],
    rules: &Rules,
    warehouse: &dyn Auditable,
) -> Result<Vec<bool>, AuditError> {
    let mut stand: Vec<bool> = bad.iter().map(|bad| !bad.keys.is_empty()).collect();
    for (processor, rule) in rules.processors.iter().enumerate() {
        let of = |bad: &Bad| bad.processor == Some(processor);
        let asked = bad.iter().enumerate().filter(|(_, bad)| of(bad));
        let asked = asked.flat_map(|(at, bad)| bad.keys.iter().map(move |key| (at, key.clone())));
        let (at, keys): (Vec<usize>, Vec<Row>) = asked.unzip();
        if keys.is_empty() {
            continue;
        }
        let counts = count(rule, warehouse, Arc::new(keys), None).await?;
        for (at, found) in at.into_iter().zip(counts) {
            stand[at] &= found > 0;
        }
    }
    Ok(stand)
}
