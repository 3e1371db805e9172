//! Computes the rows that the tables must hold: positions, versions and removals by the rules of
//! the design, without the code under test.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::kept::{Keeping, Kept};
use super::rules::{Made, Outcome, PROCESSORS, Rules, TABLES};

/// A message of a log, or an imported line.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) micros: i64,
    pub(crate) payload: String,
    /// 0 for an imported line.
    pub(crate) offset: i64,
    /// The log still holds it.
    pub(crate) in_log: bool,
}

impl Message {
    fn event(&self) -> Value {
        serde_json::from_str(&self.payload).unwrap()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) version: Vec<u8>,
    pub(crate) cells: Vec<String>,
}

impl Row {
    pub(crate) fn position(&self) -> &[u8] {
        &self.version[self.version.len() - 24..self.version.len() - 4]
    }

    fn revision(&self) -> u16 {
        let at = self.version.len() - 4;
        u16::from_be_bytes([self.version[at], self.version[at + 1]])
    }
}

pub(crate) type Key = Vec<String>;
pub(crate) type Rows = BTreeMap<Key, Row>;

/// Message id, publish time as text, duty.
pub(crate) type Letter = (String, String, String);

/// Which duties of a message are done.
#[derive(Clone, Copy)]
pub(crate) enum Duties<'a> {
    /// All duties of a live run.
    All,
    /// The duties of a replay: the rows of one processor, or of all.
    Rows(Option<&'a str>),
}

/// The rows of a replay into staging.
#[derive(Default)]
pub(crate) struct Staged {
    pub(crate) tables: BTreeMap<&'static str, Rows>,
    positions: BTreeSet<Vec<u8>>,
    revision: u16,
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) messages: Vec<Message>,
    /// Indexes of `messages`.
    pub(crate) archived: BTreeSet<usize>,
    /// Not acknowledged.
    pub(crate) pending: BTreeSet<usize>,
    /// Message and duty.
    pub(crate) letters: BTreeSet<(usize, String)>,
    tables: BTreeMap<&'static str, Kept>,
    keeping: Keeping,
}

impl Model {
    pub(crate) fn new(keeping: Keeping) -> Self {
        Self { keeping, ..Self::default() }
    }

    /// The rows that a reader of the table must see.
    pub(crate) fn rows(&self, table: &str) -> Option<&Rows> {
        self.tables.get(table).map(Kept::rows)
    }

    fn table(&mut self, table: &'static str) -> &mut Kept {
        self.tables.entry(table).or_insert_with(|| Kept::new(self.keeping))
    }

    /// Everything pending runs under `rules`.
    pub(crate) fn run(&mut self, rules: &Rules) {
        for at in std::mem::take(&mut self.pending) {
            self.deliver(at, rules, Duties::All);
        }
    }

    /// One message goes to live tables.
    pub(crate) fn deliver(&mut self, at: usize, rules: &Rules, duties: Duties<'_>) {
        let event = self.messages[at].event();
        if !rules.accepts(&event) {
            self.letters.insert((at, "route".to_owned()));
            return;
        }
        let only = match duties {
            Duties::All => {
                self.archived.insert(at);
                None
            }
            Duties::Rows(only) => only,
        };
        for processor in PROCESSORS {
            if only.is_none_or(|only| only == processor) {
                self.process(at, &event, rules, processor);
            }
        }
    }

    fn process(&mut self, at: usize, event: &Value, rules: &Rules, processor: &str) {
        match rules.make(processor, event) {
            Outcome::Rows(rows) => {
                for made in rows {
                    let (key, row) = versioned(&self.messages[at], rules.revision, &made);
                    self.table(made.table).write(key, row);
                }
            }
            Outcome::Fails => drop(self.letters.insert((at, processor.to_owned()))),
        }
    }

    /// Each open letter goes to its duty.
    pub(crate) fn requeue(&mut self, rules: &Rules) {
        for (at, duty) in std::mem::take(&mut self.letters) {
            match duty.as_str() {
                "route" => self.deliver(at, rules, Duties::All),
                processor => {
                    let event = self.messages[at].event();
                    self.process(at, &event, rules, processor);
                }
            }
        }
    }

    /// The rows of a replay of `messages`.
    pub(crate) fn stage<'a>(
        messages: impl Iterator<Item = &'a Message>,
        rules: &Rules,
        only: Option<&str>,
    ) -> Staged {
        let mut staged = Staged { revision: rules.revision, ..Staged::default() };
        for processor in PROCESSORS.iter().filter(|it| only.is_none_or(|only| only == **it)) {
            staged.tables.entry(rules.table(processor)).or_default();
        }
        for message in messages {
            let event = message.event();
            if !rules.accepts(&event) {
                continue;
            }
            staged.positions.insert(position(message));
            for processor in PROCESSORS.iter().filter(|it| only.is_none_or(|only| only == **it)) {
                let Outcome::Rows(rows) = rules.make(processor, &event) else { continue };
                for made in rows {
                    let (key, row) = versioned(message, rules.revision, &made);
                    let rows = staged.tables.entry(made.table).or_default();
                    if rows.get(&key).is_none_or(|other| other.version < row.version) {
                        rows.insert(key, row);
                    }
                }
            }
        }
        staged
    }

    /// Merges all that is staged.
    pub(crate) fn merge(&mut self, staged: &Staged, remove_missing: bool) {
        for (table, rows) in &staged.tables {
            let is_missing = |key: &Key, live: &Row| {
                let newest = rows.get(key);
                remove_missing
                    && staged.positions.contains(live.position())
                    && live.revision() <= staged.revision
                    && newest.is_none_or(|row| row.version < live.version)
            };
            self.table(table).merge(rows, is_missing);
        }
    }

    /// The tables as one pass over the archived messages, in the order of their positions, makes
    /// them by `rules`.
    pub(crate) fn fold(&self, rules: &Rules) -> BTreeMap<&'static str, Rows> {
        let mut messages: Vec<_> = self.archived.iter().map(|at| &self.messages[*at]).collect();
        messages.extend(self.messages.iter().filter(|message| message.offset == 0));
        messages.sort_by_cached_key(|message| position(message));
        let mut tables: BTreeMap<_, BTreeMap<Key, (i64, Row)>> = BTreeMap::new();
        for message in messages {
            let event = message.event();
            if !rules.accepts(&event) {
                continue;
            }
            for processor in PROCESSORS {
                let Outcome::Rows(rows) = rules.make(processor, &event) else { continue };
                for made in rows {
                    let (key, row) = versioned(message, rules.revision, &made);
                    let order = made.order.unwrap_or_default();
                    let rows = tables.entry(made.table).or_default();
                    if rows.get(&key).is_none_or(|(before, _)| *before <= order) {
                        rows.insert(key, (order, row));
                    }
                }
            }
        }
        let plain = |rows: BTreeMap<Key, (i64, Row)>| {
            rows.into_iter().map(|(key, (_, row))| (key, row)).collect()
        };
        tables.into_iter().map(|(table, rows)| (table, plain(rows))).collect()
    }
}

/// The key and the row that `revision` makes of the message.
fn versioned(message: &Message, revision: u16, made: &Made) -> (Key, Row) {
    let mut version = Vec::new();
    if let Some(order) = made.order {
        version.extend(order.wrapping_sub(i64::MIN).to_be_bytes());
    }
    version.extend(position(message));
    version.extend(revision.to_be_bytes());
    version.extend([0, 0]);
    let table = TABLES.iter().find(|table| table.name == made.table).unwrap();
    (made.cells[..table.key].to_vec(), Row { version, cells: made.cells.clone() })
}

/// Rank 4 bits, time 60, tie 64, index 32.
fn position(message: &Message) -> Vec<u8> {
    let (rank, tie) = match message.id.strip_prefix("import.") {
        Some(rest) => {
            let (line, hash) = rest.split_once('-').unwrap();
            let line: u64 = line.parse().unwrap();
            (0, (line << 32) + u64::from_str_radix(&hash[..8], 16).unwrap())
        }
        // Pub/Sub's.
        None if message.id.bytes().all(|byte| byte.is_ascii_digit()) => {
            (1, message.id.parse().unwrap())
        }
        None => {
            let (log, rest) = message.id.split_once('.').unwrap();
            let (generation, offset) = rest.split_once('-').unwrap();
            let low = u64::from_str_radix(&log[8..], 16).unwrap();
            let generation: u64 = generation.parse().unwrap();
            (generation.min(15), offset.parse::<u64>().unwrap() * 65_536 + low)
        }
    };
    let time = u64::try_from(message.micros + (1 << 59)).unwrap();
    let mut bytes = ((rank << 60) + time).to_be_bytes().to_vec();
    bytes.extend(tie.to_be_bytes());
    bytes.extend([0; 4]);
    bytes
}
