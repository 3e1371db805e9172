//! The result of the demo, and whether its numbers agree.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};
use indicatif::HumanCount;

use super::census::Census;
use super::feed::Feed;
use crate::visible::{cell, one_line};

/// One run of the demo.
#[derive(Debug)]
pub(super) struct Report {
    /// The published events.
    pub(super) feed: Feed,
    /// The counts of the files.
    pub(super) made: Census,
    /// From the first event published to the last acknowledged.
    pub(super) took: Duration,
    /// Deliveries that came again, because an actor died.
    pub(super) redelivered: u64,
}

impl Report {
    fn rows(&self) -> u64 {
        self.made.rows.values().sum()
    }

    fn dead_letters(&self) -> u64 {
        self.made.dead_letters.values().sum()
    }

    fn valid(&self) -> u64 {
        self.feed.events - self.feed.invalid
    }

    fn rate(&self) -> u64 {
        (self.feed.events as f64 / self.took.as_secs_f64()) as u64
    }

    /// Returns the first disagreement of the numbers as an error.
    pub(super) fn check(&self) -> Result<(), String> {
        let outcomes = self.rows() + self.dead_letters();
        if let Some(expected) = self.feed.outcomes.filter(|expected| *expected != outcomes) {
            let (rows, dead_letters) = (self.rows(), self.dead_letters());
            return Err(format!(
                "{expected} rows and dead letters were to come of {} events, and there are \
                 {rows} rows and {dead_letters} dead letters",
                self.feed.events
            ));
        }
        let (valid, lines) = (self.valid(), self.made.lines);
        // After a crash a line may be there twice.
        if lines < valid || (lines > valid && self.redelivered == 0) {
            return Err(format!("{valid} events are valid, and {lines} lines are archived"));
        }
        Ok(())
    }

    /// Prints it: a table on a terminal, elsewhere one fact a line.
    ///
    /// # Errors
    /// Errors of `out`.
    pub(super) fn show(&self, out: &mut (impl Write + IsTerminal)) -> io::Result<()> {
        if out.is_terminal() { self.table(out) } else { self.plain(out) }
    }

    /// A name, a space, the value.
    fn plain(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "events {}", self.feed.events)?;
        for (table, rows) in &self.made.rows {
            writeln!(out, "rows.{table} {rows}")?;
        }
        writeln!(out, "archived.lines {}", self.made.lines)?;
        writeln!(out, "archived.files {}", self.made.files.len())?;
        writeln!(out, "dead_letters {}", self.dead_letters())?;
        for (reason, letters) in &self.made.dead_letters {
            writeln!(out, "dead_letters.reason {letters} {}", one_line(reason))?;
        }
        writeln!(out, "events_per_second {}", self.rate())?;
        writeln!(out, "adds_up {}", self.check().is_ok())
    }

    fn table(&self, out: &mut impl Write) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        let mut add = |name: String, count: u64| {
            let count = HumanCount(count).to_string();
            table.add_row([Cell::new(name), Cell::new(count).set_alignment(CellAlignment::Right)]);
        };
        add("events generated".to_owned(), self.feed.events);
        for (name, rows) in &self.made.rows {
            add(format!("rows in {name}"), *rows);
        }
        add("lines archived".to_owned(), self.made.lines);
        add("archive files".to_owned(), self.made.files.len() as u64);
        for (reason, letters) in &self.made.dead_letters {
            add(format!("dead letters: {}", cell(reason)), *letters);
        }
        add("events/s".to_owned(), self.rate());
        writeln!(out, "{table}")?;
        if self.check().is_ok() { writeln!(out, "{}", self.sum()) } else { Ok(()) }
    }

    /// How it adds up.
    fn sum(&self) -> String {
        let events = HumanCount(self.feed.events);
        let (rows, letters) = (HumanCount(self.rows()), HumanCount(self.dead_letters()));
        let rows = match self.feed.outcomes {
            Some(outcomes) if outcomes == self.feed.events => {
                format!("{events} events = {rows} rows + {letters} dead letters")
            }
            Some(_) => format!("{events} events made {rows} rows and {letters} dead letters"),
            None => format!(
                "{events} events made {rows} rows and {letters} dead letters, unchecked: a \
                 processor makes any number of rows of an event"
            ),
        };
        format!("{rows}; all {} valid ones are archived", HumanCount(self.valid()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let rows = [("orders".to_owned(), 6), ("other".to_owned(), 3)].into();
        let dead_letters = [("not JSON".to_owned(), 1)].into();
        let files = ["events/a.jsonl".to_owned()].into();
        Report {
            feed: Feed { events: 10, invalid: 1, outcomes: Some(10) },
            made: Census { rows, dead_letters, lines: 9, files },
            took: Duration::from_millis(100),
            redelivered: 0,
        }
    }

    #[test]
    fn a_row_too_few_or_too_many_does_not_add_up() {
        assert_eq!(report().check(), Ok(()));
        for rows in [5, 7] {
            let mut wrong = report();
            wrong.made.rows.insert("orders".to_owned(), rows);
            assert!(wrong.check().unwrap_err().contains("dead letters"));
        }
    }

    #[test]
    fn an_archived_line_may_be_doubled_after_a_crash_but_never_missing() {
        let lines = |lines, redelivered| {
            let mut report = report();
            (report.made.lines, report.redelivered) = (lines, redelivered);
            report.check().is_ok()
        };
        assert!(lines(9, 0) && lines(10, 1));
        assert!(!lines(10, 0) && !lines(8, 0) && !lines(8, 1));
    }

    #[test]
    fn rows_are_not_checked_where_their_number_is_not_known() {
        let mut exploded = report();
        exploded.feed.outcomes = None;
        exploded.made.rows.insert("order_items".to_owned(), 99);
        assert_eq!(exploded.check(), Ok(()));
        assert!(exploded.sum().contains("unchecked"));
    }

    #[test]
    fn a_pipe_gets_one_fact_a_line() {
        let mut out = Vec::new();
        report().plain(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in ["rows.orders 6\n", "dead_letters.reason 1 not JSON\n", "adds_up true\n"] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn the_table_shows_the_sums() {
        let mut out = Vec::new();
        report().table(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.ends_with("10 events = 9 rows + 1 dead letters; all 9 valid ones are archived\n")
        );
        assert!(text.contains("rows in orders"), "{text}");
    }
}
