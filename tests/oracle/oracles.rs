//! The two oracles, and how tables are compared.

use kappa::replay::Source;
use kappa_actors::time::Timestamp;

use super::model::{Message, Rows};
use super::rules::{PROCESSORS, TABLES};
use super::schedule::{EVER, Schedule};

impl Schedule {
    /// Oracle (a): each key holds the greatest version of all rows that were made durable. Rows of
    /// an equal version are the same row.
    pub(super) fn check(&mut self, step: &str) {
        for table in &TABLES {
            let (rows, times) = self.world.rows(table);
            let expected = self.model.tables.get(table.name).cloned().unwrap_or_default();
            compare(&format!("{} after {step}", table.name), &rows, &expected);
            let before = self.times.insert(table.name, times).unwrap_or_default();
            let after = &self.times[table.name];
            for (row, time) in &before {
                let is_same = after.get(row).is_none_or(|now| now == time);
                assert!(is_same, "{} after {step}: {row:?} was written again", table.name);
            }
        }
        let mut expected: Vec<_> = self.model.letters.iter().map(|it| self.letter(it)).collect();
        let mut letters = self.world.letters();
        expected.sort();
        letters.sort();
        assert_eq!(letters, expected, "the open letters after {step}");
    }

    fn letter(&self, (at, duty): &(usize, String)) -> (String, String, String) {
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
        }
        self.check("the complete replay");
        let fold = self.model.fold(self.present());
        for table in &TABLES {
            if PROCESSORS.iter().any(|processor| self.present().table(processor) == table.name) {
                let expected = fold.get(table.name).cloned().unwrap_or_default();
                compare(&format!("{} as a fold", table.name), &self.world.rows(table).0, &expected);
            }
        }
    }
}

fn compare(what: &str, rows: &Rows, expected: &Rows) {
    let differs =
        rows.keys().chain(expected.keys()).find(|key| rows.get(*key) != expected.get(*key));
    if let Some(key) = differs {
        let (is, wanted) = (rows.get(key), expected.get(key));
        panic!("{what}: {key:?} is {is:#?}, and must be {wanted:#?}");
    }
}
