//! Logs faults that are waited out and objectives that are missed: when they begin, while they last,
//! and when they are over.

use std::collections::BTreeMap;
use std::time::Duration;

use super::board::Board;
use crate::time::Timestamp;

/// How often a condition that lasts is logged again.
const REMINDER: Duration = Duration::from_secs(60);

/// A condition that is announced while it lasts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// A fault of an actor, by its path, or of something else, such as `event log`.
    Fault(String),
    /// The objective of a table is missed.
    Freshness(String),
}

/// The present state of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// The latest error of a fault, and the events that wait.
    Fault {
        /// The error that is waited out.
        reason: String,
        /// Events that wait.
        waiting: u64,
    },
    /// How far the rows of a table are behind.
    Freshness {
        /// How far they were behind when they were last too late.
        behind: Duration,
        /// How far they may be.
        objective: Duration,
    },
}

/// A log line about one condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Announcement {
    /// It began.
    Began(Subject, Detail),
    /// It lasts, for this time already.
    Lasts(Subject, Detail, Duration),
    /// It is over, after this time.
    Over(Subject, Duration),
}

impl Announcement {
    /// Logs it.
    pub(super) fn log(&self) {
        match self {
            Self::Began(subject, detail) => warn(subject, detail, None),
            Self::Lasts(subject, detail, lasting) => warn(subject, detail, Some(*lasting)),
            Self::Over(subject, lasted) => {
                let seconds = lasted.as_secs_f64();
                match subject {
                    Subject::Fault(source) => tracing::info!(source, seconds, "recovered"),
                    Subject::Freshness(table) => {
                        tracing::info!(table, seconds, "freshness objective met again");
                    }
                }
            }
        }
    }
}

fn warn(subject: &Subject, detail: &Detail, lasting: Option<Duration>) {
    let (Subject::Fault(name) | Subject::Freshness(name)) = subject;
    let seconds = lasting.map(|lasting| lasting.as_secs());
    match detail {
        Detail::Fault { reason, waiting } => {
            let text = if lasting.is_some() { "still degraded" } else { "degraded" };
            tracing::warn!(source = name, reason, waiting, seconds, "{text}");
        }
        Detail::Freshness { behind, objective } => {
            let still = if lasting.is_some() { "still " } else { "" };
            let behind_seconds = behind.as_secs_f64();
            let objective_seconds = objective.as_secs_f64();
            tracing::warn!(
                table = name,
                behind_seconds,
                objective_seconds,
                seconds,
                "freshness objective {still}missed"
            );
        }
    }
}

/// When one condition began, and when it was logged last.
#[derive(Debug)]
struct Announced {
    since: Timestamp,
    last: Timestamp,
}

/// Compares the board with the conditions that it logged before.
#[derive(Debug, Default)]
pub(super) struct Announcer(BTreeMap<Subject, Announced>);

impl Announcer {
    /// Returns the lines that are to be logged now.
    pub(super) fn announce(&mut self, board: &Board, now: Timestamp) -> Vec<Announcement> {
        let mut news = Vec::new();
        let conditions = conditions(board);
        self.0.retain(|subject, Announced { since, .. }| {
            let lasts = conditions.contains_key(subject);
            if !lasts {
                news.push(Announcement::Over(subject.clone(), since.age_at(now)));
            }
            lasts
        });
        for (subject, detail) in conditions {
            match self.0.get_mut(&subject) {
                None => {
                    self.0.insert(subject.clone(), Announced { since: now, last: now });
                    news.push(Announcement::Began(subject, detail));
                }
                Some(announced) if announced.last.age_at(now) >= REMINDER => {
                    announced.last = now;
                    news.push(Announcement::Lasts(subject, detail, announced.since.age_at(now)));
                }
                Some(_) => {}
            }
        }
        news
    }
}

/// Returns all present conditions.
fn conditions(board: &Board) -> BTreeMap<Subject, Detail> {
    let faults = board.all_troubles().into_iter().map(|(source, trouble)| {
        let detail = Detail::Fault { reason: trouble.reason, waiting: trouble.waiting };
        (Subject::Fault(source), detail)
    });
    let missed = board.missed_objectives().into_iter().map(|(table, missed)| {
        let detail = Detail::Freshness { behind: missed.behind, objective: missed.objective };
        (Subject::Freshness(table), detail)
    });
    faults.chain(missed).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::vitals::OnLoan;

    const SECOND: Duration = Duration::from_secs(1);

    fn fault(source: &str) -> Subject {
        Subject::Fault(source.to_owned())
    }

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
        let began = announcer.announce(&board, after(1));
        let [Announcement::Began(log, _), Announcement::Began(source, detail)] = &began[..] else {
            panic!("{began:?}")
        };
        assert_eq!((log, source), (&fault("event log"), &fault(writer.path())));
        assert_eq!(*detail, Detail::Fault { reason: "disk full".to_owned(), waiting: 7 });

        board.recovered("event log");
        writer.trouble("still full", 9);
        let over = announcer.announce(&board, after(30));
        assert!(matches!(&over[..], [Announcement::Over(log, _)] if *log == fault("event log")));
        assert_eq!(announcer.announce(&board, after(60)), []);
        let still = Detail::Fault { reason: "still full".to_owned(), waiting: 9 };
        let lasts = Announcement::Lasts(fault(writer.path()), still, 60 * SECOND);
        assert_eq!(announcer.announce(&board, after(61)), [lasts]);
        assert_eq!(announcer.announce(&board, after(62)), []);

        writer.recovered();
        let over = Announcement::Over(fault(writer.path()), 69 * SECOND);
        assert_eq!(announcer.announce(&board, after(70)), [over]);
    }

    #[test]
    fn a_missed_objective_is_announced_as_a_fault_is_and_degrades_nothing() {
        let board = Board::new();
        board.table("orders", Some(30 * SECOND));
        board.table("users", None);
        let (clock, begin) = (Instant::now(), Timestamp::now());
        let mut announcer = Announcer::default();
        let mut at = |second: u32, oldest: Option<u32>| {
            let oldest = oldest.map(|second| begin.after(second * SECOND));
            let tables = ["orders", "users"].map(|table| (table.to_owned(), oldest)).to_vec();
            board.set_on_loan(Box::new(move || OnLoan {
                tables: tables.clone(),
                ..OnLoan::default()
            }));
            let now = begin.after(second * SECOND);
            board.log_is_empty(now);
            board.sample_at(clock + second * SECOND, now);
            announcer.announce(&board, now)
        };
        let orders = Subject::Freshness("orders".to_owned());
        let late =
            |behind: u32| Detail::Freshness { behind: behind * SECOND, objective: 30 * SECOND };
        assert_eq!(at(30, Some(0)), []);
        assert_eq!(at(31, Some(0)), [Announcement::Began(orders.clone(), late(31))]);
        assert_eq!(at(90, Some(0)), []);
        assert_eq!(at(91, Some(0)), [Announcement::Lasts(orders.clone(), late(91), 60 * SECOND)]);
        assert_eq!(at(92, None), []);
        assert_eq!(at(101, None), [Announcement::Over(orders, 70 * SECOND)]);
        assert_eq!(board.snapshot().reasons, []);
    }
}
