//! A table of the model: which rows and removals a backend keeps.

use std::collections::BTreeMap;

use super::model::{Key, Row, Rows};

/// How the tables of a backend keep rows and removals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// One row of a key. A removal keeps out rows of its message under no higher revision.
    #[default]
    Current,
    /// The last row or removal of a key by its number, as upserts of BigQuery do. A removal keeps
    /// out all older rows but those of a merge, which come under the number of the removal.
    Numbered,
    /// Every row; a reader sees the newest of a key.
    All,
}

#[derive(Default)]
pub(crate) struct Kept {
    keeping: Keeping,
    /// The rows that a reader sees.
    rows: Rows,
    /// `Current`, `Numbered`: by key and position, the version of the removal.
    removed: BTreeMap<(Key, Vec<u8>), Vec<u8>>,
    /// `Numbered`: the number of the last row or removal.
    numbers: BTreeMap<Key, Vec<u8>>,
    /// `All`: the rows of each key, by version.
    all: BTreeMap<Key, BTreeMap<Vec<u8>, Row>>,
}

impl Kept {
    pub(crate) fn new(keeping: Keeping) -> Self {
        Self { keeping, ..Self::default() }
    }

    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Whether the row, or a newer one of its message, was removed.
    fn is_removed(&self, key: &Key, row: &Row) -> bool {
        let removal = self.removed.get(&(key.clone(), row.position().to_vec()));
        removal.is_some_and(|removal| *removal > row.version)
    }

    fn note_removal(&mut self, key: &Key, row: &Row) {
        let before = self.removed.entry((key.clone(), row.position().to_vec())).or_default();
        *before = removal(row).max(std::mem::take(before));
    }

    /// The greatest version counts.
    pub(crate) fn write(&mut self, key: Key, row: Row) {
        match self.keeping {
            Keeping::Current => {
                let live = self.rows.get(&key);
                if !self.is_removed(&key, &row)
                    && live.is_none_or(|live| live.version < row.version)
                {
                    self.rows.insert(key, row);
                }
            }
            Keeping::Numbered => {
                if self.numbers.get(&key).is_none_or(|number| *number <= row.version) {
                    self.numbers.insert(key.clone(), row.version.clone());
                    self.rows.insert(key, row);
                }
            }
            Keeping::All => {
                let rows = self.all.entry(key.clone()).or_default();
                rows.insert(row.version.clone(), row);
                self.look(key);
            }
        }
    }

    /// Merges staged rows. Live rows that are missing go.
    pub(crate) fn merge(&mut self, staged: &Rows, is_missing: impl Fn(&Key, &Row) -> bool) {
        match self.keeping {
            Keeping::Current => {
                for (key, live) in self.take(is_missing) {
                    self.note_removal(&key, &live);
                }
                for (key, row) in staged {
                    self.write(key.clone(), row.clone());
                }
            }
            Keeping::Numbered => {
                let staged: Rows = staged
                    .iter()
                    .filter(|(key, row)| !self.is_removed(key, row))
                    .map(|(key, row)| (key.clone(), row.clone()))
                    .collect();
                for (key, row) in &staged {
                    if self.rows.get(key).is_none_or(|live| live.version < row.version) {
                        self.number(key, &row.version);
                        self.rows.insert(key.clone(), row.clone());
                    }
                }
                for (key, live) in self.take(is_missing) {
                    self.note_removal(&key, &live);
                    self.number(&key, &removal(&live));
                    if let Some(row) = staged.get(&key) {
                        self.rows.insert(key, row.clone());
                    }
                }
            }
            Keeping::All => {
                for (key, rows) in &mut self.all {
                    rows.retain(|_, row| !is_missing(key, row));
                }
                self.all
                    .keys()
                    .cloned()
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|key| self.look(key));
                for (key, row) in staged {
                    self.replace(key, row);
                }
            }
        }
    }

    /// Puts a staged row in the place of an older current one.
    fn replace(&mut self, key: &Key, row: &Row) {
        match self.rows.get(key) {
            Some(current) if current.version >= row.version => {}
            current => {
                let replaced = current.map(|current| current.version.clone());
                let rows = self.all.entry(key.clone()).or_default();
                replaced.and_then(|version| rows.remove(&version));
                rows.insert(row.version.clone(), row.clone());
                self.look(key.clone());
            }
        }
    }

    /// The number of a key only rises.
    fn number(&mut self, key: &Key, version: &[u8]) {
        let number = self.numbers.entry(key.clone()).or_default();
        if number.as_slice() < version {
            *number = version.to_vec();
        }
    }

    /// Takes the missing rows out.
    fn take(&mut self, is_missing: impl Fn(&Key, &Row) -> bool) -> Rows {
        let (missing, kept) =
            std::mem::take(&mut self.rows).into_iter().partition(|(key, row)| is_missing(key, row));
        self.rows = kept;
        missing
    }

    /// Shows the newest row of a key.
    fn look(&mut self, key: Key) {
        match self.all.get(&key).and_then(|rows| rows.last_key_value()) {
            Some((_, newest)) => drop(self.rows.insert(key, newest.clone())),
            None => drop(self.rows.remove(&key)),
        }
    }
}

/// The version of a row's removal.
fn removal(row: &Row) -> Vec<u8> {
    let mut version = row.version.clone();
    *version.last_mut().unwrap() = 1;
    version
}
