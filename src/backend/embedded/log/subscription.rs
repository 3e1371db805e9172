//! `subscriptions.db`: the acknowledgements of each subscription, and the loans of this process.
//!
//! Acknowledgements are a set of ranges that begins at offset 0. Only this process knows which messages are handed
//! out, so after a crash all unacknowledged messages can be handed out. Another process may change the file at any time, mostly
//! by a seek: each call first checks for a change.

mod file;
mod state;
#[cfg(test)]
mod tests;
mod trial;

use std::time::Duration;

use kappa_actors::message::{Lease, Message};
use kappa_actors::port::Room;
use kappa_actors::time::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use self::file::Holding;
pub(super) use self::file::{
    Seen, VERSION, all_acknowledged, drop_beyond, forget, forget_expired, forget_unused, holdings,
    last_noted, names, open, seen, set_seen, tidy,
};
use self::state::{State, lease, offset};
use self::trial::Run;
use super::events::{Events, Head};
use super::ranges::{Range, RangeSet};
use super::{Clock, LogOptions};

/// How often the file's note of the last use is renewed, at most: a small commit each time.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(60);

/// How often it is renewed within the time after which a subscription counts as unused.
const RENEWALS: u32 = 4;

/// What to do about events that are missing.
pub(super) const MISSING_HINT: &str =
    "restore log.db from a backup, or `kappa seek` to a later time";

/// One subscription, as this process knows it.
pub(super) struct Subscription {
    connection: Connection,
    name: String,
    /// How long it is kept unused; `None`: as long as retention keeps it.
    life: Option<Duration>,
    renewal_interval: Duration,
    renewed: Timestamp,
    clock: Clock,
    /// Messages that a daemon has in flight at once, at most.
    max_in_flight: i64,
    /// This process hands out messages.
    run: Option<Run>,
    /// This process has seen it in the file.
    known: bool,
    /// The file's version that the rest was read from; `None`: read it again.
    seen: Option<i64>,
    state: State,
}

impl Subscription {
    pub(super) fn new(connection: Connection, options: &LogOptions, clock: Clock) -> Self {
        let life = options.subscription_life;
        let bounds = [Some(options.max_age), options.max_unused, life];
        let shortest = bounds.into_iter().flatten().min().unwrap_or(RENEWAL_INTERVAL);
        Self {
            connection,
            name: options.subscription.clone(),
            life,
            renewal_interval: RENEWAL_INTERVAL.min(shortest / RENEWALS),
            renewed: Timestamp::from_micros(0),
            clock,
            max_in_flight: i64::try_from(options.max_in_flight).unwrap_or(i64::MAX),
            run: None,
            known: false,
            seen: None,
            state: State::default(),
        }
    }

    /// Whether the file has it.
    pub(super) fn exists(&mut self, events: &Events) -> rusqlite::Result<bool> {
        Ok(self.is_current()? || self.load(events.id)?)
    }

    /// Forgets it, here and in the file.
    pub(super) fn forget(&mut self) -> rusqlite::Result<()> {
        self.seen = None;
        self.known = false;
        self.state = State::default();
        forget(&self.connection, &self.name)
    }

    /// The next messages that fit in `room`: of all that is neither acknowledged nor on loan, the
    /// oldest.
    pub(super) fn take(
        &mut self,
        events: &Events,
        mut room: Room,
    ) -> rusqlite::Result<Vec<Message>> {
        self.refresh(events)?;
        // Read first: every event up to there was in the file then, so one that is not was lost.
        let head = events.head()?;
        let Some(allowed) = self.allowed(&head)? else { return Ok(Vec::new()) };
        let State { epoch, taken, archived, .. } = &mut self.state;
        let (mut messages, mut holes) = (Vec::new(), Vec::new());
        loop {
            let gap = taken.first_gap();
            let range = Range { first: gap.first, last: gap.last.min(allowed.last) };
            if range.first > range.last {
                break;
            }
            let found = messages.len();
            let read = events.read(range, &mut room, |offset| lease(*epoch, offset), &mut messages);
            for message in &mut messages[found..] {
                message.archived = archived.contains(offset(message.lease));
                message.suspect = allowed.suspect;
            }
            // On an error too, the messages read before it are handed out.
            let last = messages[found..].last().map(|message| offset(message.lease));
            let whole = match read {
                Ok(whole) => whole,
                Err(error) if messages.is_empty() => return Err(error),
                Err(_) => false,
            };
            if let Some(last) = if whole { Some(range.last) } else { last } {
                let range = Range { first: range.first, last };
                taken.insert(range);
                let found = &messages[found..];
                if i64::try_from(found.len()) != Ok(last - range.first + 1) {
                    let found = found.iter().map(|message| offset(message.lease)).collect();
                    let whole: RangeSet = [range].into_iter().collect();
                    holes.extend(whole.without(&found).iter());
                }
            }
            if !whole {
                break;
            }
        }
        if !holes.is_empty() {
            self.note_missing(events, &holes)?;
        }
        Ok(messages)
    }

    /// Notes events that the log has lost. They are not acknowledged: when the file is restored,
    /// they are handed out.
    fn note_missing(&mut self, events: &Events, holes: &[Range]) -> rusqlite::Result<()> {
        // A seek by another process and retention after it also leave them out.
        if !self.is_current()? {
            return Ok(());
        }
        for hole in holes {
            let (first, last, log) = (hole.first, hole.last, events.name());
            tracing::warn!(log, first, last, "events are missing from log.db: {MISSING_HINT}");
            self.state.missing.insert(*hole);
        }
        Ok(())
    }

    /// The offsets of events that the log has lost before they were acknowledged.
    pub(super) fn missing(&self) -> &RangeSet {
        &self.state.missing
    }

    /// Makes messages on loan available again. Void leases and acknowledged messages are passed
    /// over.
    pub(super) fn give_back(&mut self, leases: &[Lease]) {
        for offset in self.state.current(leases) {
            if !self.state.acknowledged.contains(offset) {
                self.state.taken.remove(offset);
            }
        }
    }

    /// Acknowledges durably, in one transaction, and notes whether the archive has their lines.
    pub(super) fn acknowledge(
        &mut self,
        events: &Events,
        leases: &[Lease],
        archived: bool,
    ) -> rusqlite::Result<()> {
        // An offset of a log that is gone may be another event's in the present one.
        events.check_place()?;
        self.refresh(events)?;
        let head = events.head()?;
        self.change(|state, transaction, name| {
            file::note_seen(transaction, events.id, &head)?;
            let offsets: RangeSet = state.current(leases).collect();
            if archived {
                state.note_archived(transaction, name, leases)?;
            } else {
                state.note_unarchived(transaction, name, &offsets)?;
            }
            offsets.iter().try_for_each(|range| state.acknowledge(transaction, name, range))
        })
    }

    /// Notes that it is used, from time to time.
    fn renew(&mut self) -> rusqlite::Result<()> {
        let now = (self.clock)();
        if self.renewed.age_at(now) < self.renewal_interval {
            return Ok(());
        }
        self.change(|_, transaction, name| {
            let renew = "UPDATE subscriptions SET used = ? WHERE name = ?";
            transaction.prepare_cached(renew)?.execute((now.micros(), name)).map(drop)
        })?;
        self.renewed = now;
        Ok(())
    }

    /// Moves to `to`, in microseconds: how many messages wait there, or why it cannot be.
    pub(super) fn seek(
        &mut self,
        events: &Events,
        to: i64,
    ) -> rusqlite::Result<Result<i64, String>> {
        events.check_place()?;
        self.refresh(events)?;
        // Holds off retention until the new position is committed: it would go by the old one.
        let _lock = events.lock()?;
        let head = events.head()?;
        if head.removed_offset > 0 && to <= head.removed_time {
            return Ok(Err(gone(events, &head)?));
        }
        let before = events.published_before(to, &head)?;
        let waiting = head.last_offset + 1 - before.len();
        let skip_until = before.contains(head.last_offset).then_some(to);
        self.change(|state, transaction, name| {
            state.restart(transaction, name, &before)?;
            state.skip_until = skip_until;
            transaction
                .prepare_cached("UPDATE subscriptions SET skip_until = ? WHERE name = ?")?
                .execute((skip_until, name))?;
            Ok(())
        })?;
        Ok(Ok(waiting))
    }

    /// How many messages are not acknowledged, and when the oldest was published.
    pub(super) fn backlog(&mut self, events: &Events) -> rusqlite::Result<(i64, Option<i64>)> {
        self.refresh(events)?;
        // Offset 0 is always acknowledged, hence one more.
        let (head, generations) = events.head_and_generations()?;
        let State { acknowledged, missing, .. } = &self.state;
        let count = head.last_offset + 1 - acknowledged.len() - missing.len();
        let oldest = events.oldest_outside(acknowledged, &head, &generations)?;
        Ok((count.max(0), oldest))
    }

    /// The earliest publish time of the messages that are not acknowledged, in whichever generation
    /// they are. A subscription that is not
    /// there has acknowledged nothing, and is not made for this: it would hold retention back.
    pub(super) fn oldest_waiting(&mut self, events: &Events) -> rusqlite::Result<Option<i64>> {
        if self.is_current()? || self.load(events.id)? {
            return Ok(self.backlog(events)?.1);
        }
        let (head, generations) = events.head_and_generations()?;
        let removed = [Range { first: 0, last: head.removed_offset }].into_iter().collect();
        events.oldest_outside(&removed, &head, &generations)
    }

    /// Updates the state from the file and the log.
    fn refresh(&mut self, events: &Events) -> rusqlite::Result<()> {
        if !self.is_current()? && !self.load(events.id)? {
            if self.known && self.life.is_some() {
                // A job that began again would lose its place, and call its range complete.
                let gone =
                    format!("the subscription {} is gone: it expired or was removed", self.name);
                return Err(rusqlite::Error::ToSqlConversionFailure(gone.into()));
            }
            self.begin(events)?;
        }
        self.renew()?;
        match self.state.skip_until {
            Some(until) => self.skip(events, until),
            None => Ok(()),
        }
    }

    fn is_current(&self) -> rusqlite::Result<bool> {
        Ok(self.seen.is_some() && self.seen == Some(file::data_version(&self.connection)?))
    }

    /// Reads the subscription; whether the file has it, for this log.
    fn load(&mut self, log: i64) -> rusqlite::Result<bool> {
        let snapshot = self.connection.unchecked_transaction()?;
        let found = self.state.read(&snapshot, &self.name, log)?;
        // In the snapshot, so that no change slips in between.
        let version = file::data_version(&snapshot)?;
        self.seen = found.then_some(version);
        self.known |= found;
        Ok(found)
    }

    /// A new subscription, or one whose log was replaced, begins behind what retention has
    /// removed: from there on the log is whole.
    fn begin(&mut self, events: &Events) -> rusqlite::Result<()> {
        let _lock = events.lock()?;
        let head = events.head()?;
        let floor = head.removed_offset;
        let used = (self.clock)();
        let life = self.life.map(|life| i64::try_from(life.as_micros()).unwrap_or(i64::MAX));
        self.change(|state, transaction, name| {
            if state.read(transaction, name, events.id)? {
                return Ok(()); // another process was faster
            }
            const UPSERT: &str = "INSERT INTO subscriptions VALUES (?, ?, 0, NULL, ?, ?) \
                 ON CONFLICT DO UPDATE SET log = excluded.log, skip_until = NULL, used = excluded.used";
            let values = (name, events.id, used.micros(), life);
            transaction.prepare_cached(UPSERT)?.execute(values)?;
            file::note_seen(transaction, events.id, &head)?;
            *state = State { epoch: state.epoch, ..State::default() };
            let removed = [Range { first: 0, last: floor }].into_iter().collect();
            state.restart(transaction, name, &removed)
        })?;
        self.renewed = used;
        self.load(events.id).map(drop)
    }

    /// Passes over the messages published before the time of the seek.
    fn skip(&mut self, events: &Events, until: i64) -> rusqlite::Result<()> {
        let head = events.head()?;
        // All that was published since the seek is either passed over or not yet looked at.
        let floor = self.state.acknowledged.last();
        if head.last_offset <= floor {
            return Ok(());
        }
        let first = events.first_published_at(until, floor, &head)?;
        self.change(|state, transaction, name| {
            if first <= head.last_offset {
                state.skip_until = None;
                transaction
                    .prepare_cached("UPDATE subscriptions SET skip_until = NULL WHERE name = ?")?
                    .execute([name])?;
            }
            let passed_over = Range { first: floor + 1, last: first - 1 };
            if passed_over.first > passed_over.last {
                return Ok(());
            }
            state.note_unarchived(transaction, name, &[passed_over].into_iter().collect())?;
            state.acknowledge(transaction, name, passed_over)
        })
    }

    /// Changes file and state together. If the file fails, the state is read again before the next
    /// call.
    fn change(
        &mut self,
        change: impl FnOnce(&mut State, &Connection, &str) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let (seen, epoch) = (self.seen.take(), self.state.epoch);
        let result = self.commit(seen, change);
        match result {
            Ok(version) => self.seen = Some(version),
            // An epoch that was not committed may come again, for another seek.
            Err(_) if self.state.epoch != epoch => self.state.epoch = 0,
            Err(_) => {}
        }
        result.map(drop)
    }

    fn commit(
        &mut self,
        seen: Option<i64>,
        change: impl FnOnce(&mut State, &Connection, &str) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<i64> {
        let transaction =
            Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        let version = file::data_version(&transaction)?;
        if seen.is_some_and(|seen| seen != version) {
            self.state.reread(&transaction, &self.name)?;
        }
        change(&mut self.state, &transaction, &self.name)?;
        transaction.commit()?;
        Ok(version)
    }
}

/// Returns the error text for a seek to a time that retention has reached.
fn gone(events: &Events, head: &Head) -> rusqlite::Result<String> {
    let removed = Timestamp::from_micros(head.removed_time);
    let oldest = match events.time_at(head.removed_offset + 1)? {
        Some(time) => format!("the oldest still there is of {}", Timestamp::from_micros(time)),
        None => "none is left".to_owned(),
    };
    Ok(format!("events published up to {removed} are removed from the log; {oldest}"))
}
