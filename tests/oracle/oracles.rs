//! The two oracles, and how tables are compared.

use std::hash::{DefaultHasher, Hash, Hasher as _};

use kappa::replay::Source;
use kappa_actors::time::Timestamp;

use super::model::{Key, Letter, Message, Row, Rows};
use super::place::Place;
use super::rules::{PROCESSORS, TABLES};
use super::schedule::{EVER, Schedule, Times};

impl<P: Place> Schedule<P> {
    /// Oracle (a): each key holds the greatest version of all rows that were made durable. Rows of
    /// an equal version are the same row.
    pub(super) fn check(&mut self, step: &str) {
        for table in &TABLES {
            let rows = self.model.rows(table.name);
            let mut expected = Expected::new(format!("{} after {step}", table.name), rows);
            let before = self.times.remove(table.name).unwrap_or_default();
            let mut times = Times::with_capacity(before.len());
            self.place.read(table, &mut |key, row, time| {
                if let Some(time) = time {
                    let (at, time) = (hash((&key, &row.version)), hash(time));
                    let is_same = before.get(&at).is_none_or(|before| *before == time);
                    assert!(is_same, "{} after {step}: {key:?} was written again", table.name);
                    times.insert(at, time);
                }
                expected.take(&key, &row);
            });
            expected.end();
            self.times.insert(table.name, times);
        }
        let mut expected: Vec<_> = self.model.letters.iter().map(|it| self.letter(it)).collect();
        let mut letters = self.place.letters();
        expected.sort();
        letters.sort();
        assert_eq!(letters, expected, "the open letters after {step}");
    }

    fn letter(&self, (at, duty): &(usize, String)) -> Letter {
        let Message { id, micros, .. } = &self.model.messages[*at];
        (id.clone(), Timestamp::from_micros(*micros).to_string(), duty.clone())
    }

    /// Oracle (b): after a complete replay under the present rules, every table equals a fold of the
    /// messages in the order of their positions.
    pub(super) fn finish(&mut self) {
        let archived = self.archived(EVER);
        self.stage_and_merge(Source::Archive, &archived, (EVER, None), true);
        let imported: Vec<_> = self.imports.iter().flat_map(|(_, all)| all.clone()).collect();
        if !imported.is_empty() {
            self.stage_and_merge(Source::Files, &imported, (EVER, None), true);
            // A row of the archive may have been below an imported one that is gone now.
            self.stage_and_merge(Source::Archive, &archived, (EVER, None), true);
        }
        self.check("the complete replay");
        let mut fold = self.model.fold(self.present());
        for table in &TABLES {
            if PROCESSORS.iter().any(|processor| self.present().table(processor) == table.name) {
                let rows = fold.remove(table.name).unwrap_or_default();
                let mut expected = Expected::new(format!("{} as a fold", table.name), Some(&rows));
                self.place.read(table, &mut |key, row, _| expected.take(&key, &row));
                expected.end();
            }
        }
    }
}

/// The rows that a table must hold, compared with those that it holds, which come in the order of
/// their keys.
pub(super) struct Expected<'a> {
    what: String,
    rows: Box<dyn Iterator<Item = (&'a Key, &'a Row)> + 'a>,
}

impl<'a> Expected<'a> {
    pub(super) fn new(what: String, rows: Option<&'a Rows>) -> Self {
        Self { what, rows: Box::new(rows.into_iter().flatten()) }
    }

    pub(super) fn take(&mut self, key: &Key, row: &Row) {
        match self.rows.next() {
            Some((wanted, other)) if wanted == key && other == row => {}
            Some((wanted, _)) if wanted < key => panic!("{}: {wanted:?} is not there", self.what),
            Some((wanted, other)) if wanted == key => {
                panic!("{}: {key:?} is {row:#?}, and must be {other:#?}", self.what)
            }
            _ => panic!("{}: {key:?} is {row:#?}, and must not be there", self.what),
        }
    }

    pub(super) fn end(mut self) {
        if let Some((wanted, row)) = self.rows.next() {
            panic!("{}: {wanted:?} is not there, and must be {row:#?}", self.what);
        }
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
