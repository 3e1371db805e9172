//! `kappa dead-letters summary`: dead letters counted by the class of their fault.

use std::io::{self, BufWriter, Write};

use kappa_actors::fault_class::UNCLASSIFIED;
use kappa_actors::port::LetterGroup;
use kappa_actors::time::Timestamp;
use serde::Serialize;

use super::render::SHORT_ID;
use crate::cli::output::{Format, cell, grouped, one_line, or_dash, table};

/// Writes the groups, in their order.
pub(super) fn write(groups: &[LetterGroup], format: Format, out: impl Write) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    match format {
        Format::Json => {
            for group in groups {
                serde_json::to_writer(&mut out, &GroupJson::new(group))?;
                writeln!(out)?;
            }
        }
        Format::Plain => {
            for group in groups {
                let counts = [group.letters(), group.open, group.purged].map(|n| n.to_string());
                let times = [group.first, group.last].map(|time| time.to_string());
                let [stage, duty, class] = names(group);
                let fields = [&counts[..], &times[..], &[stage, duty, class]].concat();
                writeln!(out, "{}\t{}", fields.join("\t"), group.example)?;
            }
        }
        Format::Table { .. } if groups.is_empty() => {}
        Format::Table { colour } => {
            let head = ["letters", "open", "first", "last", "stage", "duty", "class", "example"];
            let mut rows = table(&head, colour);
            for group in groups {
                let counts = [group.letters(), group.open].map(grouped);
                let times = [group.first, group.last].map(second);
                let id = group.example.chars().take(SHORT_ID).collect();
                let fields = [&counts[..], &times[..], &names(group)[..], &[id]].concat();
                rows.add_row(fields.iter().map(|text| cell(text)));
            }
            writeln!(out, "{rows}")?;
        }
    }
    out.flush()
}

/// Stage, duty and class.
fn names(group: &LetterGroup) -> [String; 3] {
    let class = group.class.as_deref().unwrap_or(UNCLASSIFIED);
    [group.stage.name().to_owned(), or_dash(Some(&group.duty)), one_line(class)]
}

/// The time without the fraction of a second.
fn second(time: Timestamp) -> String {
    time.to_utc().format("%Y-%m-%d %H:%M:%S").to_string()
}

/// A group as JSON.
#[derive(Serialize)]
struct GroupJson<'a> {
    stage: &'static str,
    duty: &'a str,
    class: &'a str,
    letters: u64,
    open: u64,
    requeued: u64,
    purged: u64,
    first: String,
    last: String,
    example: &'a str,
}

impl<'a> GroupJson<'a> {
    fn new(group: &'a LetterGroup) -> Self {
        Self {
            stage: group.stage.name(),
            duty: &group.duty,
            class: group.class.as_deref().unwrap_or(UNCLASSIFIED),
            letters: group.letters(),
            open: group.open,
            requeued: group.requeued,
            purged: group.purged,
            first: group.first.to_string(),
            last: group.last.to_string(),
            example: &group.example,
        }
    }
}
