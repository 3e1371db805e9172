//! Removes the oldest events that every subscription has acknowledged, by age and by size.
//!
//! Nothing that a subscription has not acknowledged is removed, and nothing at all while the log has
//! no subscription.
//! SQLite uses the space again for new events; the file itself does not shrink.

use rusqlite::Connection;

use super::events::{Events, Head};
use super::ranges::RangeSet;
use super::subscription;

/// The bounds of retention.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    /// Events published at this time or later, in microseconds.
    pub(super) since: i64,
    /// The newest events of this many bytes.
    pub(super) bytes: u64,
}

/// Removes expired events, up to about `quota` bytes, within the caller's lock on the log. Returns whether more could
/// be removed.
pub(super) fn remove(
    events: &Events,
    subscriptions: &Connection,
    head: &mut Head,
    keep: Keep,
    quota: u64,
) -> rusqlite::Result<bool> {
    subscription::tidy(subscriptions, head.removed_offset)?;
    let acknowledged = subscription::all_acknowledged(subscriptions, events.id)?;
    let Some(last) = acknowledged.iter().map(RangeSet::last).min() else { return Ok(false) };
    let (mut freed, mut more) = (0, false);
    let mut removed = Vec::new();
    let generations = events.generations()?;
    events.visit(last, |offset, time, bytes| {
        // So counted, times never decrease with the offset, not even over generations.
        let time = time.min(generations.published_by(offset));
        if time >= keep.since && head.bytes - freed <= keep.bytes {
            return false;
        }
        more = freed >= quota;
        if !more && acknowledged.iter().all(|set| set.contains(offset)) {
            freed += bytes;
            removed.push((offset, time));
        }
        !more
    })?;
    if removed.is_empty() {
        return Ok(more);
    }
    for (offset, time) in removed {
        events.remove(offset)?;
        if offset > head.removed_offset {
            (head.removed_offset, head.removed_time) = (offset, time);
        }
    }
    head.bytes -= freed;
    events.set_head(head)?;
    Ok(more)
}
