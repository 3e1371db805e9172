//! A random schedule: events, runs, kills, seeks, replays, merges, requeues, changed rules and
//! damaged logs, with a look at all tables after every step.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use kappa::replay::{Source, Target};

use super::events::Events;
use super::model::{Duties, Message, Model};
use super::random::Random;
use super::rules::{PROCESSORS, Rules, TYPES, time_of};
use super::world::{Times, World};

/// All publish times.
pub(super) const EVER: (i64, i64) = (0, 4_000_000_000_000_000);

pub(crate) struct Schedule {
    random: Random,
    pub(super) world: World,
    pub(super) model: Model,
    /// All rules so far; the last ones are present.
    rules: Vec<Rules>,
    pub(super) times: BTreeMap<&'static str, Times>,
    /// The last offset of the copy of the log, if there is one.
    copied: Option<i64>,
    /// Imported files, each with the indexes of its messages.
    pub(super) imports: Vec<(PathBuf, Vec<usize>)>,
    events: Events,
    /// The most events of one batch.
    batch: u64,
}

impl Schedule {
    fn new(seed: u64, world: World, (events, batch): (Events, u64)) -> Self {
        Self {
            random: Random::new(seed),
            world,
            model: Model::default(),
            rules: vec![Rules::first()],
            times: BTreeMap::new(),
            copied: None,
            imports: Vec::new(),
            events,
            batch,
        }
    }

    /// Plays a schedule of up to `steps` steps.
    pub(crate) fn play(seed: u64, steps: u64) {
        let mut schedule = Self::new(seed, World::new(true), (Events::new(seed, 8), 12));
        schedule.publish();
        schedule.run();
        schedule.check("the first run");
        for _ in 0..3 + schedule.random.below(steps - 2) {
            let number = schedule.random.below(17);
            let step = schedule.step(number);
            schedule.check(step);
        }
        schedule.finish();
    }

    /// Plays a long schedule of about so many events: 20 kills, 10 replays, 5 seeks and more.
    pub(crate) fn play_long(seed: u64, events: u64) {
        // A step publishes two batches on average, each of half the largest size.
        let (ids, batch) = (events / 4 + 1, events / 35 + 1);
        let mut schedule = Self::new(seed, World::new(false), (Events::new(seed, ids), batch));
        let mut steps = Vec::new();
        for (times, step) in [(13, 3), (7, 4), (4, 5), (5, 6), (5, 7), (3, 9), (5, 10), (1, 14)] {
            steps.extend(std::iter::repeat_n(step, times));
        }
        schedule.publish();
        schedule.run();
        while !steps.is_empty() {
            let step = steps.swap_remove(schedule.random.below(steps.len() as u64) as usize);
            let step = schedule.step(step);
            schedule.check(step);
            eprintln!("{step}: {} events", schedule.model.messages.len());
        }
        schedule.finish();
    }

    fn step(&mut self, number: u64) -> &'static str {
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
                self.world.requeue(self.present());
                "a requeue"
            }
            10 | 11 => {
                self.change_rules();
                self.publish();
                self.run();
                "a run under changed rules"
            }
            12 => self.damage_log(),
            13 => {
                self.clock();
                "a clock that jumped"
            }
            14 => {
                self.import();
                "an import"
            }
            15 => {
                self.late_copies();
                "late copies of removed rows"
            }
            _ => {
                self.world.copy_log();
                self.copied = Some(self.last_offset());
                self.publish();
                self.run();
                "a copy of the log and a run"
            }
        }
    }

    pub(super) fn present(&self) -> &Rules {
        self.rules.last().unwrap()
    }

    /// Publishes batches, each in one commit, so that publish times tie.
    fn publish(&mut self) {
        let mut batches = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            let mut payloads = Vec::new();
            for _ in 0..1 + self.random.below(self.batch) {
                let mut event = self.events.next();
                if self.random.chance(8) {
                    event.as_object_mut().unwrap().remove("timestamp");
                }
                payloads.push(event.to_string());
            }
            batches.push(payloads);
        }
        self.world.publish(self.present(), &batches);
        let last = self.last_offset();
        for message in self.world.messages(last) {
            self.model.pending.insert(self.model.messages.len());
            self.model.messages.push(message);
        }
    }

    fn last_offset(&self) -> i64 {
        let held = self.model.messages.iter().filter(|message| message.in_log);
        held.map(|message| message.offset).max().unwrap_or_default()
    }

    fn run(&mut self) {
        self.world.run(self.present());
        self.model.run(&self.rules[self.rules.len() - 1]);
    }

    fn kill(&mut self) {
        for _ in 0..1 + self.random.below(2) {
            let events = self.random.below(1 + self.model.pending.len() as u64);
            self.world.kill(self.present(), events);
        }
        self.run();
    }

    fn seek(&mut self) {
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
    fn seek_to(&mut self, micros: i64) {
        self.world.seek(self.present(), micros);
        let again = self.indexes(|_, message| message.in_log && message.micros >= micros);
        self.model.pending = again.into_iter().collect();
    }

    fn indexes(&self, wanted: impl Fn(usize, &Message) -> bool) -> Vec<usize> {
        let all = self.model.messages.iter().enumerate();
        all.filter(|(at, message)| wanted(*at, message)).map(|(at, _)| at).collect()
    }

    fn run_older(&mut self) {
        let rules = self.random.pick(&self.rules).clone();
        self.world.run_older(&rules);
        self.model.run(&rules);
    }

    fn change_rules(&mut self) {
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

    fn replay_live(&mut self) {
        let (range, only) = (self.range(), self.processor());
        let archived = self.archived(range);
        let held = self
            .indexes(|_, message| message.in_log && (range.0..range.1).contains(&message.micros));
        // A message that never was valid is in no archive: only a requeue may make its rows.
        let whole = held.iter().all(|at| self.model.archived.contains(at));
        let (source, messages) = match whole && self.random.chance(50) {
            true => (Source::Log, held),
            false => (Source::Archive, archived),
        };
        let rules = self.present().clone();
        self.world.replay(&rules, (source, Target::Live), range, only, &[]);
        for at in messages {
            self.model.deliver(at, &rules, Duties::Rows(only));
        }
    }

    fn replay_and_merge(&mut self) {
        let (range, only) = (self.range(), self.processor());
        let remove_missing = self.random.chance(60);
        self.stage_and_merge(Source::Archive, &self.archived(range), (range, only), remove_missing);
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
        self.world.replay(&rules, (source, Target::Staging), range, only, &files);
        self.world.merge(&rules, only, remove_missing);
        let replayed = messages.iter().map(|at| &self.model.messages[*at]);
        let staged = Model::stage(replayed, &rules, only);
        self.model.merge(&staged, remove_missing);
    }

    /// The log is put back from its copy, or is another one.
    fn damage_log(&mut self) -> &'static str {
        // The events that a healed log delivers again change nothing under the same rules.
        self.seek_to(0);
        self.run();
        let copied = self.copied.filter(|_| self.random.chance(70));
        self.world.replace_log(copied.is_some());
        for message in self.model.messages.iter_mut() {
            message.in_log &= copied.is_some_and(|last| message.offset <= last);
        }
        if copied.is_none() {
            self.copied = None;
        }
        self.publish();
        self.run();
        if copied.is_some() { "a run after a restored log" } else { "a run after another log" }
    }

    fn clock(&mut self) {
        if self.random.chance(60) {
            self.world.jump_ahead();
            self.publish();
            self.run();
        }
        if self.random.chance(70) {
            self.world.begin_generation();
        }
        self.publish();
        self.run();
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
        self.seek_to(0);
        self.world.run_older(&older);
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
            let path = self.world.path(&name);
            fs::write(&path, &text).unwrap();
            let target = (Source::Files, Target::Live);
            let events = self.world.replay(&rules, target, EVER, None, &[path]);
            assert_eq!(events, messages.len() as u64, "imported events");
        }
        for at in &messages {
            self.model.deliver(*at, &rules, Duties::Rows(None));
        }
        self.imports.push((self.world.path(&format!("import-{number}.jsonl")), messages));
    }
}
