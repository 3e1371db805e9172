//! Random histories of the embedded log against a model that a reader can check by eye.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use kappa_actors::message::{Lease, Message};
use kappa_actors::port::{EventLog, LogError, Pulled, Room};
use kappa_actors::time::Timestamp;
use proptest::prelude::*;
use proptest::sample::Index;
use tokio::runtime::Builder;

use super::{EmbeddedLog, leases, offset_in, offsets, open_with, options, publish, retain};
use crate::backend::embedded::log::begin_generation_at;
use crate::backend::embedded::log::retention::Keep;

/// Kills in one history.
const MAX_KILLS: usize = 3;

#[derive(Clone, Debug)]
enum Action {
    /// Publish so many, after the clock moved by so much (it may step back).
    Publish(usize, i64),
    Pull(usize),
    /// Acknowledge the loans that the mask picks, with lines in the archive or without.
    Acknowledge(Vec<bool>, bool),
    GiveBack(Vec<bool>),
    /// Acknowledge or give back a lease of any age.
    Stale(bool, Index),
    /// After kill -9, or after a clean stop.
    Reopen(bool),
    /// To the time of a message, and so much later; by another process or this one.
    Seek(Index, i64, bool),
    /// Remove the acknowledged messages up to the age of this one.
    Retain(Index),
    /// As by command, after the clock moved by so much.
    BeginGeneration(i64),
}

fn action() -> impl Strategy<Value = Action> {
    let mask = || prop::collection::vec(any::<bool>(), 1..8);
    prop_oneof![
        4 => (1..8_usize, -3..6_i64).prop_map(|(count, moved)| Action::Publish(count, moved)),
        4 => (1..10_usize).prop_map(Action::Pull),
        4 => (mask(), any::<bool>()).prop_map(|(mask, line)| Action::Acknowledge(mask, line)),
        2 => mask().prop_map(Action::GiveBack),
        1 => (any::<bool>(), any::<Index>()).prop_map(|(ack, of)| Action::Stale(ack, of)),
        1 => any::<bool>().prop_map(Action::Reopen),
        1 => (any::<Index>(), -1..3_i64, any::<bool>())
            .prop_map(|(to, later, other)| Action::Seek(to, later, other)),
        1 => any::<Index>().prop_map(Action::Retain),
        1 => (-30..6_i64).prop_map(Action::BeginGeneration),
    ]
}

/// The expected state: each message by its offset, and the loans of the present epoch.
#[derive(Default)]
struct Model {
    times: BTreeMap<i64, i64>,
    acknowledged: BTreeSet<i64>,
    /// Offsets with a line in the archive, as far as the log was informed.
    lines: BTreeSet<i64>,
    /// Those acknowledged before a seek.
    archived: BTreeSet<i64>,
    loans: BTreeMap<i64, Lease>,
    /// Leases by the epoch they were made in.
    leases: Vec<(usize, i64, Lease)>,
    epoch: usize,
    skip_until: i64,
    removed: BTreeSet<i64>,
    /// The first offset of each generation but the first, and the clock when it began.
    generations: Vec<(i64, i64)>,
    /// How often the log was left without a clean stop.
    kills: usize,
}

impl Model {
    fn unacknowledged(&self) -> Vec<i64> {
        self.times.keys().copied().filter(|offset| !self.acknowledged.contains(offset)).collect()
    }

    fn publish(&mut self, offset: i64, now: i64) {
        let first = self.generations.last().map_or(0, |(first, _)| *first);
        let last = self.times.range(first..).next_back().map_or(0, |(_, time)| *time);
        self.times.insert(offset, now.max(last));
        // The seek went to a time of the generation before.
        let begins = offset > 1 && self.generations.iter().any(|(first, _)| *first == offset);
        if now.max(last) < self.skip_until && !begins {
            self.acknowledged.insert(offset);
        } else {
            self.skip_until = 0;
        }
    }

    fn hand_out(&mut self, messages: &[Message], most: usize) {
        let expected: Vec<_> = self
            .unacknowledged()
            .into_iter()
            .filter(|offset| !self.loans.contains_key(offset))
            .take(most)
            .collect();
        if self.kills == 0 {
            assert_eq!(offsets(messages), expected);
        } else {
            // Events in flight at a kill come in small batches, each after the one before.
            assert!(expected.starts_with(&offsets(messages)), "{expected:?}");
            let waits = messages.is_empty() && self.loans.is_empty();
            assert!(!waits || expected.is_empty(), "{expected:?} are never handed out");
        }
        for (message, offset) in messages.iter().zip(expected) {
            assert_eq!(message.publish_time.micros(), self.times[&offset]);
            assert_eq!(message.archived, self.archived.contains(&offset), "{offset}");
            self.loans.insert(offset, message.lease);
            self.leases.push((self.epoch, offset, message.lease));
        }
    }

    fn pick(&self, mask: &[bool]) -> Vec<(i64, Lease)> {
        let picked = self.loans.iter().zip(mask.iter().cycle()).filter(|(_, picked)| **picked);
        picked.map(|((&offset, &lease), _)| (offset, lease)).collect()
    }

    fn acknowledge(&mut self, offset: i64, line: bool) {
        self.loans.remove(&offset);
        // The first word counts: the event is the log's no more.
        if self.acknowledged.insert(offset) && line {
            self.lines.insert(offset);
        }
    }

    /// Whether the log can go there, and how many messages wait there.
    fn seek(&mut self, to: i64) -> Option<u64> {
        if self.removed.last().is_some_and(|last| to <= self.published_by(*last)) {
            return None;
        }
        self.epoch += 1;
        self.loans.clear();
        self.archived = self.lines.clone();
        let held = || self.times.iter().filter(|(offset, _)| !self.removed.contains(offset));
        let generation = |of: i64| self.generations.iter().filter(|(at, _)| *at <= of).count();
        let newest = held().map(|(&offset, _)| generation(offset)).max();
        let reached = || held().filter(|(_, time)| **time >= to).map(|(&it, _)| generation(it));
        // Where only an older generation has reached that time, the later ones come whole.
        let whole = reached().min().filter(|_| reached().max() < newest);
        let passed_over = held().filter(|(offset, time)| {
            **time < to && whole.is_none_or(|reached| generation(**offset) <= reached)
        });
        self.acknowledged = passed_over.map(|(&offset, _)| offset).collect();
        self.acknowledged.extend(&self.removed);
        let last = self.times.keys().last();
        let goes_on = last.is_none_or(|last| self.acknowledged.contains(last));
        self.skip_until = if goes_on { to } else { 0 };
        Some(self.unacknowledged().len() as u64)
    }

    /// The publish time, or when a later generation began.
    fn published_by(&self, offset: i64) -> i64 {
        let later = self.generations.iter().filter(|(first, _)| *first > offset);
        later.map(|(_, began)| *began).chain([self.times[&offset]]).min().unwrap()
    }

    fn retain(&mut self, since: i64) {
        let old = |offset: &&i64| self.published_by(**offset) < since;
        let removed: Vec<_> = self.acknowledged.iter().copied().filter(|it| old(&it)).collect();
        self.removed.extend(removed);
    }
}

struct Run<'a> {
    dir: &'a Path,
    log: EmbeddedLog,
    now: Arc<AtomicI64>,
    model: Model,
}

impl Run<'_> {
    async fn step(&mut self, action: Action) {
        match action {
            Action::Publish(count, moved) => self.publish(count, moved).await,
            Action::Pull(most) => {
                let room = Room { messages: most, bytes: 1 << 20 };
                let messages = match self.log.pull(room, Duration::ZERO).await.unwrap() {
                    Pulled::Messages(messages) => messages,
                    _ => Vec::new(),
                };
                self.model.hand_out(&messages, most);
            }
            Action::Acknowledge(mask, line) => {
                let picked = self.model.pick(&mask);
                let leases: Vec<_> = picked.iter().map(|(_, lease)| *lease).collect();
                if line {
                    self.log.acknowledge(&leases).await.unwrap();
                } else {
                    self.log.acknowledge_unarchived(&leases).await.unwrap();
                }
                picked.iter().for_each(|(offset, _)| self.model.acknowledge(*offset, line));
            }
            Action::GiveBack(mask) => {
                let picked = self.model.pick(&mask);
                let leases: Vec<_> = picked.iter().map(|(_, lease)| *lease).collect();
                self.log.give_back(&leases).await.unwrap();
                self.model.loans.retain(|_, lease| !leases.contains(lease));
            }
            Action::Stale(acknowledge, of) => self.stale(acknowledge, of).await,
            Action::Reopen(kill) => {
                // Behind the third an event may be alone, and is tried after a pause.
                if kill && self.model.kills < MAX_KILLS {
                    self.model.kills += 1;
                } else {
                    self.log.close().await;
                }
                self.log = open_with(self.dir, options(), &self.now);
                self.model.loans.clear();
            }
            Action::Seek(to, later, other) => self.seek(to, later, other).await,
            Action::Retain(of) => {
                let since = self.time(of);
                retain(self.dir, Keep { since, bytes: u64::MAX });
                self.model.retain(since);
            }
            Action::BeginGeneration(moved) => self.begin_generation(moved),
        }
        let backlog = self.log.backlog().await.unwrap();
        let waiting = self.model.unacknowledged();
        assert_eq!(backlog.messages, Some(waiting.len() as u64));
        let oldest = waiting.iter().map(|offset| self.model.times[offset]).min();
        assert_eq!(backlog.oldest.map(Timestamp::micros), oldest);
    }

    fn time(&self, of: Index) -> i64 {
        let times: Vec<_> = self.model.times.values().copied().collect();
        if times.is_empty() { 1 } else { *of.get(&times) }
    }

    async fn publish(&mut self, count: usize, moved: i64) {
        let now = self.now.load(Ordering::Relaxed) + moved;
        self.now.store(now, Ordering::Relaxed);
        for id in publish(&self.log, (0..count).map(|number| number.to_string())).await {
            self.model.publish(offset_in(&id), now);
        }
    }

    fn begin_generation(&mut self, moved: i64) {
        // Ranks end at 15; later generations do not let times go back.
        if self.model.generations.len() < 14 {
            let now = self.now.load(Ordering::Relaxed) + moved;
            self.now.store(now, Ordering::Relaxed);
            begin_generation_at(self.dir, Timestamp::from_micros(now)).unwrap();
            let first = self.model.times.keys().last().map_or(1, |last| last + 1);
            self.model.generations.push((first, now));
        }
    }

    async fn stale(&mut self, acknowledge: bool, of: Index) {
        if self.model.leases.is_empty() {
            return;
        }
        let &(epoch, offset, lease) = of.get(&self.model.leases);
        if acknowledge {
            self.log.acknowledge(&[lease]).await.unwrap();
        } else {
            self.log.give_back(&[lease]).await.unwrap();
        }
        if epoch == self.model.epoch {
            self.model.loans.remove(&offset);
            if acknowledge {
                self.model.acknowledge(offset, true);
            }
        } else if acknowledge {
            // Void as an acknowledgement, but its line exists.
            self.model.lines.insert(offset);
            self.model.archived.insert(offset);
        }
    }

    async fn seek(&mut self, to: Index, later: i64, other: bool) {
        let to = self.time(to) + later;
        let sought = if other {
            let other = open_with(self.dir, options(), &self.now);
            other.seek(Timestamp::from_micros(to)).await
        } else {
            self.log.seek(Timestamp::from_micros(to)).await
        };
        match (self.model.seek(to), sought) {
            (Some(count), Ok(sought)) => assert_eq!(sought.messages, Some(count)),
            (None, Err(LogError::Refused(_))) => {}
            (expected, found) => panic!("expected {expected:?} messages, not {found:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_history_keeps_every_message_until_it_is_acknowledged(
        actions in prop::collection::vec(action(), 1..40),
    ) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let now = Arc::new(AtomicI64::new(1_000_000));
            let log = open_with(dir.path(), options(), &now);
            let mut run = Run { dir: dir.path(), log, now, model: Model::default() };
            for action in actions {
                run.step(action).await;
            }
            let mut loans: Vec<_> = run.model.loans.values().copied().collect();
            while !run.model.unacknowledged().is_empty() {
                run.log.acknowledge(&loans).await.unwrap();
                let acknowledged: Vec<_> = std::mem::take(&mut run.model.loans).into_keys().collect();
                acknowledged.into_iter().for_each(|offset| run.model.acknowledge(offset, true));
                let rest = super::pull(&run.log).await;
                run.model.hand_out(&rest, usize::MAX);
                loans = leases(&rest);
            }
        });
    }
}
