//! A snapshot as text.

use std::io::{self, Write};

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table};
use kappa_actors::vitals::{
    ActorReport, ActorState, CounterReport, DaemonState, Freshness, Snapshot,
};

use super::Format;
use super::freshness::{Sentence, Span};
use crate::visible::{cell, one_line};

/// A backlog that the log gave so many seconds before the answer is shown with its age.
const STALE: f64 = 1.0;

/// Writes `snapshot`, ending with a line break.
pub(super) fn write(snapshot: &Snapshot, format: Format, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Table { colour } => tables(snapshot, colour, out),
        Format::Plain => plain(snapshot, out),
        Format::Json => {
            serde_json::to_writer(&mut *out, snapshot)?;
            writeln!(out)
        }
    }
}

/// One fact a line: a name, a space, the value.
fn plain(snapshot: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
    let Snapshot { version, instance, state, uptime_seconds, .. } = snapshot;
    for table in &snapshot.freshness {
        writeln!(out, "freshness {}", Sentence(table))?;
    }
    writeln!(out, "state {state}")?;
    for reason in &snapshot.reasons {
        writeln!(out, "reason {}", one_line(&reason.to_string()))?;
    }
    for warning in &snapshot.warnings {
        writeln!(out, "warning {}", one_line(warning))?;
    }
    let (version, instance) = (one_line(version), one_line(instance));
    writeln!(out, "version {version}\ninstance {instance}\nuptime_seconds {uptime_seconds:.0}")?;
    for (name, value) in counters(&snapshot.counters) {
        let value = value.map_or_else(unknown, |value| value.to_string());
        writeln!(out, "{} {value}", name.replace(' ', "_"))?;
    }
    if let Some(age) = snapshot.counters.oldest_unacknowledged_seconds {
        writeln!(out, "oldest_unacknowledged_seconds {age:.3}")?;
    }
    if let Some(age) = snapshot.counters.backlog_age_seconds {
        writeln!(out, "backlog_age_seconds {age:.3}")?;
    }
    for (table, rows) in &snapshot.counters.rows {
        writeln!(out, "rows.{} {rows}", one_line(table))?;
    }
    for holding in &snapshot.holdings {
        let duty = one_line(&holding.duty).replace(' ', "_");
        writeln!(out, "held.{duty} messages={} bytes={}", holding.messages, holding.bytes)?;
    }
    for actor in &snapshot.actors {
        let ActorReport { path, restarts, mailbox, events, events_per_second, .. } = actor;
        let path = one_line(path);
        write!(
            out,
            "actor {path} {} restarts={restarts} mailbox={mailbox} events={events} \
             events_per_second={events_per_second:.1}",
            state_word(actor.state)
        )?;
        match &actor.last_error {
            Some(last) => writeln!(out, " error_at={} error={}", last.at, one_line(&last.error))?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}

/// Writes tables for people.
fn tables(snapshot: &Snapshot, colour: bool, out: &mut dyn Write) -> io::Result<()> {
    let Snapshot { version, instance, .. } = snapshot;
    for table in &snapshot.freshness {
        writeln!(out, "{}", freshness_line(table, colour))?;
    }
    let up = span(snapshot.uptime_seconds);
    let state = daemon_state(snapshot.state, colour);
    let (instance, version) = (one_line(instance), one_line(version));
    writeln!(out, "{state}  {instance}  kappa {version}  up {up}")?;
    for reason in &snapshot.reasons {
        writeln!(out, "  {}", cell(&reason.to_string()))?;
    }
    for warning in &snapshot.warnings {
        writeln!(out, "  warning: {}", cell(warning))?;
    }
    let mut facts = table(&["", "count"], colour);
    for (name, value) in counters(&snapshot.counters) {
        facts.add_row([Cell::new(name), right(value.map_or_else(unknown, grouped))]);
    }
    if let Some(age) = snapshot.counters.backlog_age_seconds.filter(|age| *age >= STALE) {
        facts.add_row([Cell::new("backlog as of"), right(format!("{} ago", Span(age)))]);
    }
    if let Some(age) = snapshot.counters.oldest_unacknowledged_seconds {
        facts.add_row([Cell::new("oldest unacknowledged"), right(span(age))]);
    }
    for (name, rows) in &snapshot.counters.rows {
        facts.add_row([Cell::new(cell(&format!("rows in {name}"))), right(grouped(*rows))]);
    }
    writeln!(out, "\n{facts}")?;
    if !snapshot.holdings.is_empty() {
        let mut held = table(&["memory held by", "messages", "bytes"], colour);
        for holding in &snapshot.holdings {
            let row = [holding.messages, holding.bytes].map(|n| right(grouped(n)));
            held.add_row([Cell::new(cell(&holding.duty))].into_iter().chain(row));
        }
        writeln!(out, "\n{held}")?;
    }
    let head = ["actor", "state", "events", "events/s", "mailbox", "restarts", "last error"];
    let mut tree = table(&head, colour);
    for actor in &snapshot.actors {
        tree.add_row(tree_row(actor, colour));
    }
    writeln!(out, "\n{tree}")
}

/// An empty table with this head.
pub(crate) fn table(head: &[&str], colour: bool) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(head.iter().map(Cell::new));
    if colour {
        table.enforce_styling();
    }
    table
}

fn tree_row(actor: &ActorReport, colour: bool) -> Vec<Cell> {
    let depth = actor.path.matches('/').count();
    let name = actor.path.rsplit('/').next().unwrap_or(&actor.path);
    let last_error = actor.last_error.as_ref().map_or(String::new(), |last| cell(&last.error));
    let state = Cell::new(state_word(actor.state));
    let tone = match actor.state {
        ActorState::Running => Color::Green,
        ActorState::Restarting => Color::Yellow,
        ActorState::Starting | ActorState::Stopped => Color::Blue,
    };
    vec![
        Cell::new(format!("{}{}", "  ".repeat(depth), cell(name))),
        if colour { state.fg(tone) } else { state },
        right(grouped(actor.events)),
        right(format!("{:.0}", actor.events_per_second)),
        right(grouped(actor.mailbox)),
        right(grouped(actor.restarts)),
        Cell::new(last_error),
    ]
}

/// Returns the counts by name, in the order of an event's life; `None` if the log does not know.
fn counters(counters: &CounterReport) -> [(&'static str, Option<u64>); 11] {
    [
        ("received", Some(counters.received)),
        ("acked", Some(counters.acked)),
        ("redelivered", Some(counters.redelivered)),
        ("given back", Some(counters.given_back)),
        ("invalid", Some(counters.invalid)),
        ("unrouted", Some(counters.unrouted)),
        ("archived", Some(counters.archived)),
        ("dead lettered", Some(counters.dead_lettered)),
        ("in flight messages", Some(counters.in_flight_messages)),
        ("in flight bytes", Some(counters.in_flight_bytes)),
        ("backlog", counters.backlog),
    ]
}

fn freshness_line(table: &Freshness, colour: bool) -> String {
    let line = cell(&Sentence(table).to_string());
    match (colour, table.missed_for_seconds) {
        (true, Some(_)) => format!("\x1b[33m{line}\x1b[0m"),
        _ => line,
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds as `2d 03:04:05`.
fn span(seconds: f64) -> String {
    let all = seconds as u64;
    let (days, hours, minutes) = (all / 86_400, all / 3_600 % 24, all / 60 % 60);
    let clock = format!("{hours:02}:{minutes:02}:{:02}", all % 60);
    if days > 0 { format!("{days}d {clock}") } else { clock }
}

fn state_word(state: ActorState) -> &'static str {
    match state {
        ActorState::Starting => "starting",
        ActorState::Running => "running",
        ActorState::Restarting => "restarting",
        ActorState::Stopped => "stopped",
    }
}

fn daemon_state(state: DaemonState, colour: bool) -> String {
    let code = match state {
        DaemonState::Running => 32,
        DaemonState::Degraded => 33,
        DaemonState::Starting | DaemonState::Draining => 34,
    };
    if colour { format!("\x1b[1;{code}m{state}\x1b[0m") } else { state.to_string() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kappa_actors::time::Timestamp;
    use kappa_actors::vitals::{Board, OnLoan, Phase};

    use super::*;

    const FRESHNESS: &str =
        "orders: rows are 45 s behind (no rows in the last 5 min; objective 60 s met)";

    #[test]
    fn an_old_backlog_is_shown_with_its_age() {
        let board = Board::new();
        board
            .counters()
            .set_backlog(kappa_actors::port::Backlog { messages: Some(7), oldest: None });
        let mut snapshot = board.snapshot();
        let mut text = |age| {
            snapshot.counters.backlog_age_seconds = Some(age);
            let mut out = Vec::new();
            write(&snapshot, Format::Table { colour: false }, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert!(!text(0.4).contains("as of"));
        let old = text(12.0);
        assert!(
            old.lines().any(|line| line.contains("backlog as of") && line.contains("12 s ago"))
        );
    }

    fn written(format: Format) -> String {
        let board = Board::new();
        board.set_instance("host-1");
        board.set_phase(Phase::Running);
        board.counters().received.add(1_234_567);
        board.counters().rows("orders").add(42);
        board.table("orders", Some(Duration::from_secs(60)));
        let oldest = Timestamp::now().before(Duration::from_secs(45));
        board.set_on_loan(Box::new(move || OnLoan {
            tables: vec![("orders".to_owned(), Some(oldest))],
            ..OnLoan::default()
        }));
        board.log_is_empty(Timestamp::now());
        let writer = board.actor("kappa/warehouse/writer.orders", "writer");
        writer.set_state(ActorState::Running);
        writer.failed("no such table: \x1b[2Jorders\nat line 1");
        writer.trouble("disk full", 9);
        let mut out = Vec::new();
        write(&board.snapshot(), format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_pipe_gets_one_fact_a_line_and_numbers_as_they_are() {
        let text = written(Format::Plain);
        assert!(
            text.starts_with(&format!("freshness {FRESHNESS}\nstate degraded\nreason kappa/warehouse/writer.orders: disk full")),
            "{text}"
        );
        for line in ["received 1234567\n", "backlog unknown\n", "rows.orders 42\n"] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(text.contains("actor kappa/warehouse/writer.orders running restarts=0"), "{text}");
    }

    #[test]
    fn a_terminal_gets_tables_and_colour_only_when_wanted() {
        let text = written(Format::Table { colour: false });
        assert!(text.contains("1,234,567"), "{text}");
        assert!(text.contains("    writer.orders"), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
        assert!(text.starts_with(&format!("{FRESHNESS}\ndegraded  host-1  ")), "{text}");
        let coloured = written(Format::Table { colour: true });
        let head = format!("{FRESHNESS}\n\x1b[1;33mdegraded\x1b[0m");
        assert!(coloured.starts_with(&head), "{coloured}");
    }

    #[test]
    fn json_is_one_line_that_reads_back() {
        let text = written(Format::Json);
        assert_eq!(text.lines().count(), 1);
        let snapshot: Snapshot = serde_json::from_str(&text).unwrap();
        assert_eq!(snapshot.counters.received, 1_234_567);
    }

    #[test]
    fn text_from_outside_cannot_control_the_terminal() {
        for format in [Format::Plain, Format::Table { colour: false }] {
            assert!(!written(format).contains('\x1b'));
        }
    }

    #[test]
    fn another_daemons_answer_cannot_steer_the_terminal_anywhere() {
        let hostile = "a\r\u{202e}\u{200b}\u{1b}[2J";
        let board = Board::new();
        board.set_instance(hostile);
        board.counters().rows(hostile).add(1);
        let writer = board.actor(&format!("kappa/{hostile}"), "writer");
        writer.trouble(hostile, 9);
        writer.failed(hostile);
        board.warn(hostile);
        let mut snapshot = board.snapshot();
        snapshot.version = hostile.to_owned();
        for format in [Format::Plain, Format::Table { colour: false }] {
            let mut out = Vec::new();
            write(&snapshot, format, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(text.contains("\\u202e"), "{text}");
            for c in ['\r', '\u{202e}', '\u{200b}', '\u{1b}'] {
                assert!(!text.contains(c), "{c:?} in {text:?}");
            }
        }
    }

    #[test]
    fn spans_and_numbers_read_as_people_write_them() {
        assert_eq!(span(3_725.9), "01:02:05");
        assert_eq!(span(90_000.0), "1d 01:00:00");
        assert_eq!(
            (grouped(0), grouped(999), grouped(1_000)),
            ("0".into(), "999".into(), "1,000".into())
        );
    }
}
