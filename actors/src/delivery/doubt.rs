//! Whether an event or its sink is to blame for a panic of a call on the sink.
//!
//! A handler that panics over one event alone panics because of it. A call on a sink may panic over
//! any event. This event is to blame once the sink stored other events between its panics.
//! Without another event there is no proof; then the event counts as the cause after a time.

use std::time::Duration;

use tokio::time::Instant;

/// A doubt about one event, from its first panic in a call on a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    since: Instant,
    /// Events that the sink's actor had stored at the last panic.
    stored: u64,
    /// How often the sink stored other events between two panics.
    proofs: u32,
}

impl Doubt {
    /// The doubt after one more panic, with so many events stored before it.
    pub(super) fn after(before: Option<Self>, stored: u64) -> Self {
        match before {
            None => Self { since: Instant::now(), stored, proofs: 0 },
            Some(before) => {
                let proofs = before.proofs + u32::from(stored > before.stored);
                Self { stored, proofs, ..before }
            }
        }
    }

    /// Whether the event is to blame, where so many panics make it a dead letter.
    pub(super) fn is_over(&self, max_attempts: u32, grace: Duration, now: Instant) -> bool {
        let enough = max_attempts.saturating_sub(1).max(1);
        self.proofs >= enough || now.saturating_duration_since(self.since) >= grace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(60);

    #[test]
    fn an_event_is_to_blame_once_the_sink_stored_others_between_all_its_panics() {
        let first = Doubt::after(None, 10);
        let is_over = |doubt: &Doubt| doubt.is_over(3, GRACE, doubt.since);
        let alone = Doubt::after(Some(Doubt::after(Some(first), 10)), 10);
        assert!(!is_over(&alone), "nothing else was stored");
        let once = Doubt::after(Some(alone), 11);
        assert!(!is_over(&Doubt::after(Some(once), 11)));
        assert!(is_over(&Doubt::after(Some(once), 12)));
    }

    #[test]
    fn an_event_that_comes_alone_is_to_blame_after_a_time() {
        let doubt = Doubt::after(None, 10);
        assert!(!doubt.is_over(3, GRACE, doubt.since + GRACE - Duration::from_nanos(1)));
        assert!(doubt.is_over(3, GRACE, doubt.since + GRACE));
    }
}
