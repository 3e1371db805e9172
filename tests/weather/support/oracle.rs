//! The oracle: it knows the published events, and checks that each of them is in the right place.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use chrono::{DateTime, DurationRound, TimeDelta};
use rusqlite::Connection;
use serde_json::Value;

use super::events::{Fate, Published};
use super::publisher::Publisher;
use super::rows::{self, Row};
use super::{Scene, archive};

/// Differences that are worth printing.
const SHOWN: usize = 8;

/// The published events of a scene.
#[derive(Default)]
pub(crate) struct Oracle {
    published: Vec<Published>,
}

impl Oracle {
    /// Publishes, in commits of at most `commit` events, and remembers.
    pub(crate) fn publish(
        &mut self,
        publisher: &Publisher,
        events: impl IntoIterator<Item = Published>,
        commit: usize,
    ) {
        let begin = self.published.len();
        self.published.extend(events);
        self.published[begin..].chunks(commit).for_each(|chunk| publisher.publish(chunk));
    }

    /// Adds events that other processes published.
    pub(crate) fn remember(&mut self, events: Vec<Published>) {
        self.published.extend(events);
    }

    pub(crate) fn events(&self) -> usize {
        self.published.len()
    }

    /// How many events have such a fate.
    pub(crate) fn count(&self, wanted: impl Fn(Fate) -> bool) -> u64 {
        self.of_fate(wanted).count() as u64
    }

    /// Checks everything, after a daemon that had all the time it wanted.
    pub(crate) fn check(&self, scene: &Scene) {
        let dir = scene.data_dir();
        let publisher = Publisher::open(&dir);
        assert_eq!(publisher.backlog(), 0, "messages that are not acknowledged");
        let warehouse = scene.warehouse();
        let mut faults = self.faults_in_tables(&warehouse);
        faults.extend(self.faults_in_dead_letters(&warehouse));
        faults.extend(self.faults_in_archive(&dir));
        let count = faults.len();
        faults.truncate(SHOWN);
        assert!(faults.is_empty(), "{count} faults, among them:\n{}", faults.join("\n"));
    }

    fn of_fate(&self, wanted: impl Fn(Fate) -> bool) -> impl Iterator<Item = &Published> {
        self.published.iter().filter(move |event| wanted(event.fate))
    }

    fn faults_in_tables(&self, warehouse: &Connection) -> Vec<String> {
        let mut faults = Vec::new();
        let mut expected: HashMap<&str, HashMap<String, Row>> = HashMap::new();
        for event in self.of_fate(|fate| fate == Fate::Stored) {
            let (table, row) = rows::expected(&event.payload);
            expected.entry(table).or_default().insert(id_of(&row), row);
        }
        for table in ["orders", "users", "products", "other"] {
            let mut expected = expected.remove(table).unwrap_or_default();
            for row in rows::stored(warehouse, table) {
                match expected.remove(&id_of(&row)) {
                    Some(wanted) if wanted == row => {}
                    Some(wanted) => faults.push(format!("{table}: {row:?} instead of {wanted:?}")),
                    None => faults.push(format!("{table}: one too many: {row:?}")),
                }
            }
            faults.extend(expected.values().map(|row| format!("{table}: missing: {row:?}")));
        }
        faults
    }

    fn faults_in_dead_letters(&self, warehouse: &Connection) -> Vec<String> {
        let mut balance: BTreeMap<(String, Vec<u8>), i64> = BTreeMap::new();
        for event in &self.published {
            let stage = match event.fate {
                Fate::Stored => continue,
                Fate::Invalid => "parse",
                Fate::Condemned(stage) => stage,
            };
            *balance.entry((stage.to_owned(), event.payload.clone())).or_default() += 1;
        }
        let mut select = warehouse.prepare("SELECT stage, payload FROM dead_letters").unwrap();
        let letters = select.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        for letter in letters {
            *balance.entry(letter.unwrap()).or_default() -= 1;
        }
        let unbalanced = balance.into_iter().filter(|(_, missing)| *missing != 0);
        unbalanced
            .map(|((stage, payload), missing)| {
                let payload =
                    String::from_utf8_lossy(&payload).chars().take(300).collect::<String>();
                format!("dead letters of {stage}: {missing} missing of {payload}")
            })
            .collect()
    }

    fn faults_in_archive(&self, dir: &Path) -> Vec<String> {
        let archived = archive::read(&dir.join("archive"));
        let mut faults: Vec<_> =
            archived.unfinished.iter().map(|name| format!("unfinished: {name}")).collect();
        let windows = windows(dir);
        let mut found = HashSet::new();
        let mut note = |fault: &str, payload: &[u8]| {
            faults.push(format!("archive: {fault}: {}", String::from_utf8_lossy(payload)));
        };
        let wanted: HashSet<_> = self
            .of_fate(|fate| fate != Fate::Invalid)
            .map(|event| on_one_line(&event.payload))
            .collect();
        for line in &archived.lines {
            if !wanted.contains(&line.payload) {
                note("nothing valid that was published", &line.payload);
            } else if !windows[&line.payload].contains(&line.window) {
                note("in a window that is not its own", &line.payload);
            }
            found.insert(&line.payload);
        }
        wanted.iter().filter(|payload| !found.contains(payload)).for_each(|payload| {
            note("missing", payload);
        });
        faults
    }
}

fn id_of(row: &Row) -> String {
    row.get("event_id").and_then(Value::as_str).unwrap().to_owned()
}

/// Returns the archive's text of this payload.
fn on_one_line(payload: &[u8]) -> Vec<u8> {
    payload.iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }).collect()
}

/// Returns the windows in which each payload was published, by the log's times.
fn windows(dir: &Path) -> HashMap<Vec<u8>, HashSet<String>> {
    let log = Connection::open(dir.join("log.db")).unwrap();
    let mut select = log.prepare("SELECT payload, publish_time FROM events").unwrap();
    let events =
        select.query_map((), |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?))).unwrap();
    let mut windows: HashMap<_, HashSet<_>> = HashMap::new();
    for (payload, micros) in events.map(Result::unwrap) {
        let time = DateTime::from_timestamp_micros(micros).unwrap();
        let start = time.duration_trunc(TimeDelta::minutes(5)).unwrap();
        let name = start.format("%Y%m%dT%H%M%SZ").to_string();
        windows.entry(on_one_line(&payload)).or_default().insert(name);
    }
    windows
}
