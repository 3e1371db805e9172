//! Logs faults that are waited out: when they begin, while they last, and when they are over.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Trouble;
use super::board::Board;
use crate::time::Timestamp;

/// How often a fault that lasts is logged again.
const REMINDER: Duration = Duration::from_secs(60);

/// A log line about one fault. `source` is an actor's path, or a name such as `event log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Announcement {
    /// It began.
    Began {
        /// The part that waits.
        source: String,
        /// The error that it waits out.
        reason: String,
        /// Events that wait.
        waiting: u64,
    },
    /// It lasts.
    Lasts {
        /// The part that waits.
        source: String,
        /// The latest error.
        reason: String,
        /// Events that wait now.
        waiting: u64,
        /// Time since it began.
        lasting: Duration,
    },
    /// It is over.
    Over {
        /// The part that waited.
        source: String,
        /// How long it lasted.
        lasted: Duration,
    },
}

impl Announcement {
    /// Logs it.
    pub(super) fn log(&self) {
        match self {
            Self::Began { source, reason, waiting } => {
                tracing::warn!(source, reason, waiting, "degraded");
            }
            Self::Lasts { source, reason, waiting, lasting } => {
                let seconds = lasting.as_secs();
                tracing::warn!(source, reason, waiting, seconds, "still degraded");
            }
            Self::Over { source, lasted } => {
                tracing::info!(source, seconds = lasted.as_secs_f64(), "recovered");
            }
        }
    }
}

/// When one fault began, and when it was logged last.
#[derive(Debug)]
struct Announced {
    since: Timestamp,
    last: Timestamp,
}

/// Compares the board with the faults that it logged before.
#[derive(Debug, Default)]
pub(super) struct Announcer(BTreeMap<String, Announced>);

impl Announcer {
    /// Returns the lines that are to be logged now.
    pub(super) fn announce(&mut self, board: &Board, now: Timestamp) -> Vec<Announcement> {
        let mut news = Vec::new();
        let troubles: BTreeMap<_, _> = board.all_troubles().into_iter().collect();
        self.0.retain(|source, Announced { since, .. }| {
            let lasts = troubles.contains_key(source);
            if !lasts {
                let lasted = since.age_at(now);
                news.push(Announcement::Over { source: source.clone(), lasted });
            }
            lasts
        });
        for (source, Trouble { since, reason, waiting }) in troubles {
            match self.0.get_mut(&source) {
                None => {
                    self.0.insert(source.clone(), Announced { since, last: now });
                    news.push(Announcement::Began { source, reason, waiting });
                }
                Some(announced) if announced.last.age_at(now) >= REMINDER => {
                    announced.last = now;
                    let lasting = announced.since.age_at(now);
                    news.push(Announcement::Lasts { source, reason, waiting, lasting });
                }
                Some(_) => {}
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_announced_when_it_begins_each_minute_and_when_it_is_over() {
        let board = Board::new();
        let writer = board.actor("kappa/warehouse/writer.orders", "writer");
        let mut announcer = Announcer::default();
        let begin = Timestamp::now();
        let after = |seconds| begin.after(Duration::from_secs(seconds));
        assert_eq!(announcer.announce(&board, begin), []);

        writer.trouble("disk full", 7);
        board.trouble("event log", "connection refused", 0);
        let sources = announcer.announce(&board, after(1));
        let [Announcement::Began { source: log, .. }, Announcement::Began { source, waiting, .. }] =
            &sources[..]
        else {
            panic!("{sources:?}")
        };
        assert_eq!((log.as_str(), source.as_str(), *waiting), ("event log", writer.path(), 7));

        board.recovered("event log");
        writer.trouble("still full", 9);
        let over = announcer.announce(&board, after(30));
        assert!(matches!(&over[..], [Announcement::Over { source, .. }] if source == "event log"));
        assert_eq!(announcer.announce(&board, after(60)), []);
        let lasting = announcer.announce(&board, after(61));
        let [Announcement::Lasts { reason, waiting: 9, lasting, .. }] = &lasting[..] else {
            panic!("{lasting:?}")
        };
        assert_eq!(reason, "still full");
        assert!((60..=61).contains(&lasting.as_secs()), "{lasting:?}");
        assert_eq!(announcer.announce(&board, after(62)), []);

        writer.recovered();
        let over = announcer.announce(&board, after(70));
        let [Announcement::Over { lasted, .. }] = &over[..] else { panic!("{over:?}") };
        assert!((69..=70).contains(&lasted.as_secs()), "{lasted:?}");
    }
}
