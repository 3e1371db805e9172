//! Dead letters that account for rows that are absent or too old.
//!
//! Only an open letter of the same message and processor does. Where a line does not hold its
//! message's id, a letter with the same payload does. A purged letter shows why there is no row, but
//! nothing is left to requeue: such rows are counted by themselves. An event of which the present rules make no
//! row is accounted for by a row of its key that is at least as new.

use std::collections::HashMap;
use std::sync::Arc;

use super::batch::{ATTEMPTS, BACKOFF, Batch, Outcome, count, current};
use super::expect::{Bad, Identity, Rules};
use super::report::What;
use crate::port::{Age, AuditError, Auditable, Current, LetterMark, LetterQuery};
use crate::replay::ReplayRange;
use crate::row::Row;
use crate::supervision::Backoff;
use crate::version::Version;

/// A processor, or none where the event is not valid, and the message.
type Letter = (Option<usize>, Identity);

/// The state of a letter; the greater one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Nothing,
    Purged,
    Open,
}

/// A row that is absent or too old: its processor, and its event's place in the batch.
pub(super) struct Absent {
    pub(super) processor: usize,
    pub(super) event: usize,
    /// [`What::Missing`] or [`What::Stale`].
    pub(super) what: What,
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
        let found = |processor: Option<usize>, event: usize| {
            letters.get(&self.letter(processor, event)).copied().unwrap_or(Found::Nothing)
        };
        let mut explained = |found: Found, event: usize, rows: u64| match found {
            Found::Nothing => false,
            Found::Purged => {
                outcome.purged.push((self.place(event).at, rows));
                true
            }
            Found::Open => {
                outcome.letters.push((self.place(event).at, rows));
                true
            }
        };
        let mut unexplained = Vec::new();
        for absent in absent {
            let rows = match &absent.what {
                What::Missing(row) => row.expected - row.found,
                _ => 1,
            };
            if !explained(found(Some(absent.processor), absent.event), absent.event, rows) {
                unexplained.push(absent);
            }
        }
        let mut without: Vec<&Bad> = self.bad.iter().collect();
        without.retain(|bad| !explained(found(bad.processor, bad.event), bad.event, 1));
        for Absent { processor, event, what } in unexplained {
            self.note(outcome, Some(processor), event, what);
        }
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

    /// Returns the states of the letters of these processors and events.
    async fn letters(
        &self,
        rules: &Rules,
        warehouse: &dyn Auditable,
        of: impl Iterator<Item = (Option<usize>, usize)>,
    ) -> Result<HashMap<Letter, Found>, AuditError> {
        let wanted = of.map(|(processor, event)| self.letter(processor, event));
        let mut letters: HashMap<_, _> = wanted.map(|letter| (letter, Found::Nothing)).collect();
        let ends = (self.places.first(), self.places.last());
        let (Some(first), Some(last), false) = (ends.0, ends.1, letters.is_empty()) else {
            return Ok(letters);
        };
        let published = ReplayRange { from: first.window.start(), to: last.window.end() };
        // Messages without ids are identified by their payloads.
        let payloads = letters.keys().any(|(_, it)| matches!(it, Identity::Payload(_)));
        let asked = LetterQuery { published, payloads };
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
                let message = Identity::Message(mark.message_id, mark.publish_time);
                let payload = mark.payload.map(|payload| Identity::of_payload(&payload));
                for identity in [message].into_iter().chain(payload) {
                    let letter = letters.get_mut(&(processor, identity));
                    let Some(found) = letter.filter(|found| **found < Found::Open) else {
                        continue;
                    };
                    *found = if mark.purged { Found::Purged } else { Found::Open };
                    waiting -= usize::from(!mark.purged);
                }
                waiting > 0
            };
            match warehouse.letters(asked, &mut take).await {
                Err(AuditError::Unavailable(_)) if attempts < ATTEMPTS => attempts += 1,
                shown => return shown.map(|()| letters),
            }
            tokio::time::sleep(backoff.failed()).await;
        }
    }

    /// Identifies the letter of this processor for this event.
    fn letter(&self, processor: Option<usize>, event: usize) -> Letter {
        (processor, self.events[event].1.identity.clone())
    }
}

/// Returns for each event whether all rows exist that an earlier rule can have made of it.
async fn earlier_rows(
    bad: &[&Bad],
    rules: &Rules,
    warehouse: &dyn Auditable,
) -> Result<Vec<bool>, AuditError> {
    let mut stand: Vec<bool> = bad.iter().map(|bad| !bad.keys.is_empty()).collect();
    for (processor, rule) in rules.processors.iter().enumerate() {
        let of = |bad: &Bad| bad.processor == Some(processor);
        let asked = bad.iter().enumerate().filter(|(_, bad)| of(bad));
        let asked = asked
            .flat_map(|(at, bad)| bad.keys.iter().map(move |key| (at, (key.clone(), bad.lowest))));
        let (at, keys): (Vec<usize>, Vec<(Row, Version)>) = asked.unzip();
        if keys.is_empty() {
            continue;
        }
        let (keys, lowest): (Vec<Row>, Vec<Version>) = keys.into_iter().unzip();
        let (keys, lowest) = (Arc::new(keys), Arc::new(lowest));
        let found: Vec<bool> = if rule.is_versioned() {
            // A row of an older message is none of this event's.
            let found = current(rule, warehouse, keys, lowest, None).await?;
            let is_new = |it: &Current| it.rows > 0 && !matches!(it.age, Age::Older(_));
            found.iter().map(is_new).collect()
        } else {
            let counts = count(rule, warehouse, keys, None).await?;
            counts.into_iter().map(|rows| rows > 0).collect()
        };
        for (at, found) in at.into_iter().zip(found) {
            stand[at] &= found;
        }
    }
    Ok(stand)
}
