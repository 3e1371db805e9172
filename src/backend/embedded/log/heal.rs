//! Makes `log.db` and `subscriptions.db` belong together again.
//!
//! After one of them was put back from a copy, or `log.db` was replaced, offsets that were handed
//! out are given to other events. Before anything is published or handed out, a new generation of
//! the log then begins, so that ids and positions differ from those of the lost events, and what
//! the file of subscriptions notes of the lost offsets is dropped, so that no new event counts as
//! acknowledged.

use std::fmt;

use kappa_actors::time::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::events::{Events, Head, time_before};
use super::generations::Generations;
use super::subscription::{self, Seen};

/// How the two files differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// The log is the same, but ends earlier, or goes on otherwise, than it was seen to.
    Older {
        /// The last offset to which the log is as it was seen.
        last_same: i64,
        /// The last offset seen or acknowledged.
        last_seen: i64,
    },
    /// The subscriptions were used with another log.
    Replaced,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Older { last_same, last_seen } => write!(
                f,
                "log.db is older than subscriptions.db, as after a restore: events up to offset \
                 {last_seen} were in it, and those after offset {last_same} are lost or others"
            ),
            Self::Replaced => f.write_str("log.db was replaced by another log"),
        }
    }
}

/// Compares a log with the note of how far it was seen.
pub(super) fn compare(
    id: i64,
    head: &Head,
    generations: &Generations,
    seen: Option<Seen>,
    last_noted: i64,
) -> Option<Mismatch> {
    let Some(seen) = seen else {
        let (last_same, last_seen) = (head.last_offset, last_noted);
        return (last_seen > last_same).then_some(Mismatch::Older { last_same, last_seen });
    };
    if seen.log != id {
        return Some(Mismatch::Replaced);
    }
    let end = generations.end_of(seen.generation, head.last_offset);
    let is_same = if seen.generation == head.generation {
        // Within a generation, times never decrease: an earlier one is of another event.
        seen.last_time <= head.last_time
    } else {
        seen.generation < head.generation
    };
    if is_same && seen.last_offset <= end && last_noted <= head.last_offset {
        return None;
    }
    // Where a generation of the lost log began is not known: only events that retention removed
    // count as acknowledged. All later ones come again, and none is lost.
    let is_known = generations.iter().any(|it| it.number == seen.generation);
    let last_same = if is_known { end } else { head.removed_offset };
    Some(Mismatch::Older { last_same, last_seen: seen.last_offset.max(last_noted) })
}

/// Reads both files and compares them.
pub(super) fn mismatch(
    events: &Events,
    subscriptions: &Connection,
) -> rusqlite::Result<Option<Mismatch>> {
    // The notes first: they never run ahead of the log.
    let snapshot = subscriptions.unchecked_transaction()?;
    let seen = subscription::seen(&snapshot)?;
    let last_noted = subscription::last_noted(&snapshot, events.id)?;
    drop(snapshot);
    let (head, generations) = events.head_and_generations()?;
    Ok(compare(events.id, &head, &generations, seen, last_noted))
}

/// Repairs files that do not belong together, and returns their mismatch.
pub(super) fn heal(
    events: &Events,
    subscriptions: &Connection,
    now: Timestamp,
) -> rusqlite::Result<Option<Mismatch>> {
    if mismatch(events, subscriptions)?.is_none() {
        return Ok(None);
    }
    let log = events.lock()?;
    // Another process may have been faster.
    let Some(found) = mismatch(events, subscriptions)? else { return Ok(None) };
    let mut head = events.head()?;
    let transaction = Transaction::new_unchecked(subscriptions, TransactionBehavior::Immediate)?;
    let seen = subscription::seen(&transaction)?;
    let generation = head.generation.max(seen.map_or(0, |seen| seen.generation)) + 1;
    // The lost events have their rows already: the next ones are to outrank these too.
    head.last_time = head.last_time.max(seen.map_or(0, |seen| seen.last_time + 1));
    if let Mismatch::Older { last_same, .. } = found {
        subscription::drop_beyond(&transaction, events.id, last_same)?;
    }
    // Until the log has begun this generation, the files still differ, and are healed again.
    let last_time = time_before(generation, head.last_time);
    let healed = Seen { log: events.id, generation, last_offset: head.last_offset, last_time };
    subscription::set_seen(&transaction, healed)?;
    transaction.commit()?;
    events.begin_generation(&mut head, generation, now, &found.to_string())?;
    log.commit()?;
    Ok(Some(found))
}
