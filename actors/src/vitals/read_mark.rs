//! How far the log has been read: events in it may wait without a claim.

use std::sync::Mutex;
use std::time::Duration;

use super::lock;
use crate::time::Timestamp;

/// How long after a pull that found nothing the log still counts as empty. The reader asks many times
/// a second; one that has asked no more waits for room, or hangs.
const STILL_EMPTY: Duration = Duration::from_secs(1);

/// The last thing that a pull brought; `None` before the first.
#[derive(Debug, Default)]
pub(super) struct ReadMark(Mutex<Option<Pull>>);

#[derive(Clone, Copy, Debug)]
enum Pull {
    /// Messages, the newest of them published at this time.
    UpTo(Timestamp),
    /// Nothing, at this time.
    Empty(Timestamp),
}

impl ReadMark {
    pub(super) fn read_up_to(&self, newest: Timestamp) {
        *lock(&self.0) = Some(Pull::UpTo(newest));
    }

    pub(super) fn found_empty(&self, now: Timestamp) {
        *lock(&self.0) = Some(Pull::Empty(now));
    }

    /// The time before which no event was published that is still unread: `now` if the log is empty.
    /// `None` while that is unknown.
    pub(super) fn all_read_before(&self, now: Timestamp) -> Option<Timestamp> {
        Some(match (*lock(&self.0))? {
            Pull::Empty(at) if at.age_at(now) < STILL_EMPTY => now,
            Pull::UpTo(at) | Pull::Empty(at) => at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_log_counts_as_read_only_as_long_as_it_is_asked() {
        let now = Timestamp::now();
        let mark = ReadMark::default();
        assert_eq!(mark.all_read_before(now), None);
        let published = now.before(Duration::from_secs(90));
        mark.read_up_to(published);
        assert_eq!(mark.all_read_before(now), Some(published));
        mark.found_empty(now);
        let later = |millis| now.after(Duration::from_millis(millis));
        assert_eq!(mark.all_read_before(later(999)), Some(later(999)));
        assert_eq!(mark.all_read_before(later(30_000)), Some(now));
    }
}
