//! An audit in lines: for scripts, and for people.

use std::collections::HashMap;
use std::io::{self, Write};

use kappa_actors::audit::{
    Difference, Finding, LeftOut, Reason, Standing, Summary, Tally, Told, What,
};
use kappa_actors::row::{ColumnType, Value};
use kappa_actors::time::Timestamp;

use super::Report;
use crate::cli::output::{count, grouped, one_line, or_dash, table};
use crate::cli::try_events::value::ValueJson;

/// Findings of one kind in one table that a screen shows; a pipe has them all.
const SHOWN: u64 = 50;
/// Windows in which nothing is found that a screen shows.
const WINDOWS: usize = 50;

/// One a line, with tabs between.
pub(super) struct Lines<W> {
    out: W,
}

impl<W: Write> Lines<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out }
    }
}

impl<W: Write> Report for Lines<W> {
    fn told(&mut self, told: Told) -> io::Result<()> {
        match told {
            Told::LeftOut(it) => {
                let table = or_dash(it.table.as_deref());
                let reason = one_line(&why(it.reason));
                writeln!(self.out, "left out\t{}\t{}\t{table}\t{reason}", it.from, it.to)
            }
            Told::Found(finding) => {
                let Shown { kind, table, key, event, more } = Shown::of(&finding);
                let (window, place) = (finding.window.start(), place(&finding));
                write!(self.out, "{kind}\t{window}\t{table}\t{key}\t{event}\t{place}")?;
                let more = if more.is_empty() { more } else { format!("\t{more}") };
                writeln!(self.out, "{more}")
            }
            Told::Window(tally) => {
                let counts = counts(&tally).map(|(n, what)| said(n, what, n.to_string()));
                writeln!(self.out, "window\t{}\t{}", tally.window.start(), counts.join("\t"))
            }
        }
    }

    fn end(&mut self, summary: &Summary) -> io::Result<()> {
        writeln!(self.out, "{}", sum(summary, |n| n.to_string()))?;
        self.out.flush()
    }
}

/// For people.
pub(super) struct Screen<W> {
    out: W,
    colour: bool,
    shown: HashMap<(&'static str, String), u64>,
    windows: Vec<Tally>,
}

impl<W: Write> Screen<W> {
    pub(super) fn new(out: W, colour: bool) -> Self {
        Self { out, colour, shown: HashMap::new(), windows: Vec::new() }
    }

    fn found(&mut self, finding: &Finding) -> io::Result<()> {
        let Shown { kind, table, key, event, more } = Shown::of(finding);
        let shown = self.shown.entry((kind, table.clone())).or_default();
        *shown += 1;
        if *shown > SHOWN {
            return Ok(());
        }
        let what = match &finding.what {
            What::Damaged(_) => more,
            What::Unaccounted { .. } => format!("{table}  event {event}: {more}"),
            What::Missing(_)
            | What::Twice(_)
            | What::Stale { .. }
            | What::OlderRule { .. }
            | What::Differs { .. } => {
                let more = if more.is_empty() { more } else { format!(", {more}") };
                format!("{table}  {key}  of event {event}{more}")
            }
        };
        let window = minute(finding.window.start());
        writeln!(self.out, "{kind:<11}  {window}  {what}  ({})", place(finding))
    }
}

impl<W: Write> Report for Screen<W> {
    fn told(&mut self, told: Told) -> io::Result<()> {
        match told {
            Told::LeftOut(left) => writeln!(self.out, "left out     {}", sentence(&left)),
            Told::Found(finding) => self.found(&finding),
            Told::Window(tally) => {
                self.windows.push(tally);
                Ok(())
            }
        }
    }

    fn end(&mut self, summary: &Summary) -> io::Result<()> {
        let mut more: Vec<_> = self.shown.iter().filter(|(_, count)| **count > SHOWN).collect();
        more.sort();
        for ((kind, table), count) in more {
            let more = grouped(count - SHOWN);
            writeln!(self.out, "{kind:<11}  {table}: and {more} more, which a pipe shows")?;
        }
        let clean = self.windows.iter().filter(|tally| tally.is_clean()).count();
        if clean > WINDOWS {
            self.windows.retain(|tally| !tally.is_clean());
        }
        if !self.windows.is_empty() {
            let names = counts(&self.windows[0]).map(|(_, what)| what);
            let titles: Vec<_> = ["window"].into_iter().chain(names).collect();
            let mut rows = table(&titles, self.colour);
            for tally in &self.windows {
                let counts = counts(tally).map(|(n, _)| grouped(n));
                rows.add_row([minute(tally.window.start())].into_iter().chain(counts));
            }
            writeln!(self.out, "{rows}")?;
        }
        writeln!(self.out, "{}", sum(summary, grouped))?;
        self.out.flush()
    }
}

/// The parts of a finding, as texts.
struct Shown {
    kind: &'static str,
    table: String,
    key: String,
    event: String,
    more: String,
}

impl Shown {
    fn of(finding: &Finding) -> Self {
        let row = |kind, it: &Standing| Self {
            kind,
            table: it.table.name.clone(),
            key: key(it),
            event: or_dash(Some(&it.event)),
            more: match (it.expected, it.found) {
                (1, 0) => String::new(),
                (expected, found) => format!("{} instead of {expected}", count(found, "row")),
            },
        };
        let dash = || "-".to_owned();
        match &finding.what {
            What::Missing(it) => row("missing", it),
            What::Twice(it) => row("twice", it),
            What::Stale { row: it, expected, found } => Self {
                more: match found {
                    Some(found) => format!("version {found} instead of {expected}"),
                    None => format!("no version instead of {expected}"),
                },
                ..row("stale", it)
            },
            What::OlderRule { row: it, expected, found } => Self {
                more: format!("made by revision {found} instead of {expected}"),
                ..row("older rule", it)
            },
            What::Differs { row: it, columns } => {
                let value = |at: usize, value: &Value| shown(it.table.columns[at].kind, value);
                let differs = |differs: &Difference| {
                    let Difference { column: at, expected, found } = differs;
                    let name = &it.table.columns[*at].name;
                    format!("{name}: {} instead of {}", value(*at, found), value(*at, expected))
                };
                let more = columns.iter().map(differs).collect::<Vec<_>>().join(", ");
                Self { more, ..row("differs", it) }
            }
            What::Unaccounted { event, processor, reason } => Self {
                kind: "unaccounted",
                table: or_dash(processor.as_deref()),
                key: dash(),
                event: or_dash(event.as_deref()),
                more: one_line(reason),
            },
            What::Damaged(reason) => Self {
                kind: "damaged",
                table: dash(),
                key: dash(),
                event: dash(),
                more: one_line(reason),
            },
        }
    }
}

/// `FILE:LINE`; line 0 is the whole file.
fn place(finding: &Finding) -> String {
    format!("{}:{}", finding.file, finding.line)
}

/// `event_id=e1, n=2`
fn key(it: &Standing) -> String {
    let column = |(&column, value): (&usize, &Value)| {
        let column = &it.table.columns[column];
        format!("{}={}", column.name, shown(column.kind, value))
    };
    it.columns.iter().zip(&it.key.0).map(column).collect::<Vec<_>>().join(", ")
}

/// A value on one line.
fn shown(kind: ColumnType, value: &Value) -> String {
    let value = match serde_json::to_value(ValueJson(kind, value)) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    };
    one_line(&value)
}

/// Why something is left out, for the reader.
pub(super) fn why(reason: Reason) -> String {
    match reason {
        Reason::Unsealed => "not sealed: parts of it wait to be composed".to_owned(),
        Reason::Unacknowledged(time) => {
            format!("not acknowledged: only what was published before {time} is for sure")
        }
        Reason::Stale(staleness) => {
            format!("may be stale: its max_staleness is {}", humantime::format_duration(staleness))
        }
        Reason::Untraceable(why) => format!("its rows cannot be told apart: {why}"),
    }
}

fn sentence(left: &LeftOut) -> String {
    let table = left.table.as_ref().map(|table| format!("table {table}, ")).unwrap_or_default();
    let (from, to) = (minute(left.from), minute(left.to));
    format!("{table}{} from {from} to {to}: {}", count(left.windows, "window"), why(left.reason))
}

fn minute(time: Timestamp) -> String {
    time.to_utc().format("%Y-%m-%d %H:%M").to_string()
}

/// Returns the counts of a window, with their words.
fn counts(tally: &Tally) -> [(u64, &'static str); 12] {
    [
        (tally.events, "events"),
        (tally.rows, "rows"),
        (tally.dead_letters, "dead letters"),
        (tally.purged, "purged"),
        (tally.repeated, "repeated"),
        (tally.missing, "missing"),
        (tally.twice, "twice"),
        (tally.stale, "stale"),
        (tally.differing, "differs"),
        (tally.older_rule, "older rule"),
        (tally.unaccounted, "unaccounted"),
        (tally.damaged, "damaged"),
    ]
}

fn sum(summary: &Summary, number: impl Fn(u64) -> String) -> String {
    let windows = [(summary.windows, "windows")];
    let counts = windows.into_iter().chain(counts(&summary.total));
    let counts = counts.map(|(n, what)| said(n, what, number(n)));
    counts.collect::<Vec<_>>().join(", ")
}

/// Formats `1 event`, `2 events`; the words for faults do not change with the number.
fn said(n: u64, what: &str, number: String) -> String {
    let what = match (n, what) {
        (1, plural) if plural != "differs" => plural.strip_suffix('s').unwrap_or(plural),
        (_, what) => what,
    };
    format!("{number} {what}")
}
