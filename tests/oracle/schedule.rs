//! A random schedule: events, runs, kills, seeks, replays, merges, requeues and changed rules, with a
//! look at all tables after every step.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::thread;

use kappa::replay::{Source, Target};

use super::events::Events;
use super::model::{Duties, Message, Model};
use super::place::Place;
use super::random::Random;
use super::rules::{PROCESSORS, Rules, TYPES, time_of};

/// All publish times.
pub(super) const EVER: (i64, i64) = (0, 4_000_000_000_000_000);

/// The times of processing of the rows of a table: of each row a hash of key and version, and of its
/// time.
pub(super) type Times = HashMap<u64, u64>;

pub(crate) struct Schedule<P> {
    pub(super) random: Random,
    pub(super) place: P,
    pub(super) model: Model,
    /// All rules so far; the last ones are present.
    pub(super) rules: Vec<Rules>,
    pub(super) times: BTreeMap<&'static str, Times>,
    /// Imported files, each with the indexes of its messages.
    pub(super) imports: Vec<(PathBuf, Vec<usize>)>,
    events: Events,
    size: Size,
}

/// How many events are published together, in one to three batches.
#[derive(Clone, Copy)]
pub(super) enum Size {
    /// Batches of so many events at most.
    UpTo(u64),
    /// So many events in all.
    Exactly(u64),
}

impl<P: Place> Schedule<P> {
    pub(super) fn new(seed: u64, place: P, model: Model, (events, size): (Events, Size)) -> Self {
        Self {
            random: Random::new(seed),
            place,
            model,
            rules: vec![Rules::first()],
            times: BTreeMap::new(),
            imports: Vec::new(),
            events,
            size,
        }
    }

    pub(super) fn step(&mut self, number: u64) -> &'static str {
        match number {
            0..3 => {
                self.publish();
                self.run();
                "a run"
            }
            3 => {
                self.publish();
                self.kill();
                "a killed run"
            }
            4 => {
                self.seek();
                self.kill();
                "a seek and a killed run"
            }
            5 => {
                self.publish();
                self.seek();
                self.run_older();
                "a run of an older daemon"
            }
            6 => {
                self.replay_live();
                "a replay into live"
            }
            7..9 => {
                self.replay_and_merge();
                "a replay and a merge"
            }
            9 => {
                self.model.requeue(&self.rules[self.rules.len() - 1]);
                self.place.project().requeue(self.present());
                "a requeue"
            }
            10 | 11 => {
                self.change_rules();
                self.publish();
                self.run();
                "a run under changed rules"
            }
            12 => {
                self.import();
                "an import"
            }
            17 => {
                self.replay_letters();
                "a replay of letters into staging"
            }
            _ => {
                self.late_copies();
                "late copies of removed rows"
            }
        }
    }

    pub(super) fn present(&self) -> &Rules {
        self.rules.last().unwrap()
    }

    /// Publishes batches, each in one commit, so that publish times tie.
    pub(super) fn publish(&mut self) {
        let number = 1 + self.random.below(3);
        let batches: Vec<Vec<String>> = (0..number)
            .map(|nth| {
                let events = match self.size {
                    Size::UpTo(most) => 1 + self.random.below(most),
                    Size::Exactly(all) => all * (nth + 1) / number - all * nth / number,
                };
                (0..events).map(|_| self.payload()).collect()
            })
            .collect();
        self.place.publish(&self.present().clone(), &batches);
        let last = self.last_offset();
        for message in self.place.messages(last) {
            self.model.pending.insert(self.model.messages.len());
            self.model.messages.push(message);
        }
    }

    /// An event; some have their time in one place only.
    fn payload(&mut self) -> String {
        let mut event = self.events.next();
        if self.random.chance(8) {
            event.as_object_mut().unwrap().remove("timestamp");
        }
        event.to_string()
    }

    pub(super) fn last_offset(&self) -> i64 {
        let held = self.model.messages.iter().filter(|message| message.in_log);
        held.map(|message| message.offset).max().unwrap_or_default()
    }

    pub(super) fn run(&mut self) {
        let rules = self.present().clone();
        let model = &mut self.model;
        thread::scope(|scope| {
            scope.spawn(|| model.run(&rules));
            self.place.run(&rules);
        });
    }

    pub(super) fn kill(&mut self) {
        for _ in 0..1 + self.random.below(2) {
            let events = self.random.below(1 + self.model.pending.len() as u64);
            self.place.kill(&self.present().clone(), events);
        }
        self.run();
    }

    pub(super) fn seek(&mut self) {
        let held = self.indexes(|_, message| message.in_log);
        if !held.is_empty() {
            let to = self.model.messages[*self.random.pick(&held)].micros;
            // A seek into the future passes over events that are published before that time.
            let newest = held.iter().map(|at| &self.model.messages[*at]).max_by_key(|it| it.offset);
            self.seek_to(newest.map_or(to, |newest| newest.micros.min(to)));
        }
    }

    /// Events of all generations that were published at this time or later are delivered again,
    /// and no earlier ones.
    pub(super) fn seek_to(&mut self, micros: i64) {
        self.place.project().seek(self.present(), micros);
        let again = self.indexes(|_, message| message.in_log && message.micros >= micros);
        self.model.pending = again.into_iter().collect();
    }

    pub(super) fn indexes(&self, wanted: impl Fn(usize, &Message) -> bool) -> Vec<usize> {
        let all = self.model.messages.iter().enumerate();
        all.filter(|(at, message)| wanted(*at, message)).map(|(at, _)| at).collect()
    }

    fn run_older(&mut self) {
        let rules = self.random.pick(&self.rules).clone();
        self.place.run_older(&rules);
        self.model.run(&rules);
    }

    pub(super) fn change_rules(&mut self) {
        let mut rules = self.present().clone();
        rules.revision += 1 + self.random.below(2) as u16;
        match self.random.below(4) {
            0 => rules.time = "/ts",
            1 => rules.value = if rules.value == "/v" { "/w" } else { "/v" },
            2 => rules.types = *self.random.pick(&TYPES),
            _ => rules.by_type = !rules.by_type,
        }
        self.rules.push(rules);
    }

    /// All of history, or a part of it.
    fn range(&mut self) -> (i64, i64) {
        if self.random.chance(50) {
            return EVER;
        }
        let micros = |schedule: &mut Self| schedule.random.pick(&schedule.model.messages).micros;
        let (one, other) = (micros(self), micros(self));
        (one.min(other), one.max(other))
    }

    fn processor(&mut self) -> Option<&'static str> {
        let some = self.random.chance(30);
        some.then(|| *self.random.pick(&PROCESSORS))
    }

    pub(super) fn archived(&self, (from, to): (i64, i64)) -> Vec<usize> {
        self.indexes(|at, message| {
            self.model.archived.contains(&at) && (from..to).contains(&message.micros)
        })
    }

    /// The source of a replay of the range, and the messages in it.
    fn source(&mut self, range: (i64, i64)) -> (Source, Vec<usize>) {
        let held = self
            .indexes(|_, message| message.in_log && (range.0..range.1).contains(&message.micros));
        // A message that never was valid is in no archive: only a requeue may make its rows.
        let whole = held.iter().all(|at| self.model.archived.contains(at));
        match whole && self.place.replays_log() && self.random.chance(50) {
            true => (Source::Log, held),
            false => (Source::Archive, self.archived(range)),
        }
    }

    fn replay_live(&mut self) {
        let (range, only) = (self.range(), self.processor());
        let (source, messages) = self.source(range);
        let rules = self.present().clone();
        self.place.project().replay(&rules, (source, Target::Live), range, only, &[]);
        for at in messages {
            self.model.deliver(at, &rules, Duties::Rows(only));
        }
    }

    fn replay_and_merge(&mut self) {
        let (range, only) = (self.range(), self.processor());
        let remove_missing = self.random.chance(60);
        let (source, messages) = self.source(range);
        self.stage_and_merge(source, &messages, (range, only), remove_missing);
    }

    /// Replays all open letters into staging, each to the duty that failed. They stay open, and no live row changes.
    fn replay_letters(&mut self) {
        let rules = self.present().clone();
        self.place.project().replay(
            &rules,
            (Source::DeadLetters, Target::Staging),
            EVER,
            None,
            &[],
        );
    }

    pub(super) fn stage_and_merge(
        &mut self,
        source: Source,
        messages: &[usize],
        (range, only): ((i64, i64), Option<&str>),
        remove_missing: bool,
    ) {
        let rules = self.present().clone();
        let files: Vec<_> = match source {
            Source::Files => self.imports.iter().map(|(path, _)| path.clone()).collect(),
            _ => Vec::new(),
        };
        let replayed = messages.iter().map(|at| &self.model.messages[*at]);
        let staged = thread::scope(|scope| {
            let staged = scope.spawn(|| Model::stage(replayed, &rules, only));
            let project = self.place.project();
            project.replay(&rules, (source, Target::Staging), range, only, &files);
            project.merge(&rules, only, remove_missing);
            staged.join().unwrap()
        });
        self.model.merge(&staged, remove_missing);
    }

    /// Removes rows that narrower rules no longer make; then an older daemon, which seeks back, makes
    /// them again.
    fn late_copies(&mut self) {
        let older = self.present().clone();
        self.rules.push(Rules {
            revision: older.revision + 1,
            types: if older.types == TYPES[1] { TYPES[2] } else { TYPES[1] },
            ..older.clone()
        });
        self.stage_and_merge(Source::Archive, &self.archived(EVER), (EVER, None), true);
        self.check("a merge that removes rows");
        // No earlier: a service refuses a time before all that it keeps.
        let held = self.model.messages.iter().filter(|message| message.in_log);
        self.seek_to(held.map(|message| message.micros).min().unwrap_or_default());
        self.place.run_older(&older);
        self.model.run(&older);
    }

    /// Imports one file from two paths.
    fn import(&mut self) {
        let mut text = String::new();
        let mut messages = Vec::new();
        for line in 1..=1 + self.random.below(10) {
            let event = self.events.next();
            let payload = event.to_string();
            let hash = blake3::hash(payload.as_bytes()).to_hex();
            writeln!(text, "{payload}").unwrap();
            messages.push(self.model.messages.len());
            self.model.messages.push(Message {
                id: format!("import.{line}-{}", &hash[..16]),
                micros: time_of(&event, "/ts").unwrap(),
                payload,
                offset: 0,
                in_log: false,
            });
        }
        let number = self.imports.len();
        let rules = self.present().clone();
        for name in [format!("import-{number}.jsonl"), format!("again-{number}.jsonl")] {
            let path = self.place.project().path(&name);
            fs::write(&path, &text).unwrap();
            let target = (Source::Files, Target::Live);
            let events = self.place.project().replay(&rules, target, EVER, None, &[path]);
            assert_eq!(events, messages.len() as u64, "imported events");
        }
        for at in &messages {
            self.model.deliver(*at, &rules, Duties::Rows(None));
        }
        self.imports.push((self.place.project().path(&format!("import-{number}.jsonl")), messages));
    }
}
