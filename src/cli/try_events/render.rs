//! What events would become, as text.

use std::io::{self, BufWriter, Write};

use serde::Serialize;
use serde_json::{Value, json};

use super::outcome::{Condemned, Made, Outcome};
use super::value::{RowJson, ValueJson};
use crate::cli::output::{Format, cell, count, one_line, or_dash, table};

/// The counts of events, rows and letters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Summary {
    events: u64,
    rows: u64,
    dead_letters: u64,
    only_archived: u64,
}

impl Summary {
    pub(super) fn add(&mut self, outcome: &Outcome) {
        self.events += 1;
        self.rows += outcome.rows.iter().map(|made| made.rows.len() as u64).sum::<u64>();
        self.dead_letters += outcome.dead_letters.len() as u64;
        self.only_archived += u64::from(outcome.is_only_archived());
    }
}

#[derive(Serialize)]
struct OutcomeJson<'a> {
    line: u64,
    event_id: Option<&'a str>,
    event_type: Option<&'a str>,
    rows: Vec<MadeJson<'a>>,
    dead_letters: Vec<Value>,
}

#[derive(Serialize)]
struct MadeJson<'a> {
    processor: &'a str,
    table: &'a str,
    row: RowJson<'a>,
}

fn made_json(Made { processor, table, rows }: &Made) -> impl Iterator<Item = MadeJson<'_>> {
    rows.iter().map(|row| MadeJson { processor, table: &table.name, row: RowJson(table, row) })
}

/// Writes outcomes in one format.
pub(super) struct Renderer<W: Write> {
    format: Format,
    out: BufWriter<W>,
}

impl<W: Write> Renderer<W> {
    pub(super) fn new(format: Format, out: W) -> Self {
        Self { format, out: BufWriter::new(out) }
    }

    pub(super) fn outcome(&mut self, outcome: &Outcome) -> io::Result<()> {
        match self.format {
            Format::Json => self.json(outcome),
            Format::Plain => self.plain(outcome),
            Format::Table { colour } => self.tables(outcome, colour),
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// The summary; a script adds up for itself.
    pub(super) fn end(mut self, summary: &Summary) -> io::Result<()> {
        if self.format != Format::Json {
            let Summary { events, rows, dead_letters, only_archived } = *summary;
            let (events, rows) = (count(events, "event"), count(rows, "row"));
            let letters = count(dead_letters, "dead letter");
            write!(self.out, "{events}: {rows}, {letters}")?;
            if only_archived > 0 {
                write!(self.out, ", {only_archived} only archived: no processor takes the type")?;
            }
            writeln!(self.out)?;
        }
        self.flush()
    }

    fn json(&mut self, outcome: &Outcome) -> io::Result<()> {
        let letter = |Condemned { stage, processor, reason }: &_| json!({ "stage": stage.name(), "processor": processor, "reason": reason });
        let json = OutcomeJson {
            line: outcome.line,
            event_id: outcome.event_id.as_deref(),
            event_type: outcome.event_type.as_deref(),
            rows: outcome.rows.iter().flat_map(made_json).collect(),
            dead_letters: outcome.dead_letters.iter().map(letter).collect(),
        };
        serde_json::to_writer(&mut self.out, &json)?;
        writeln!(self.out)
    }

    /// Prints a line for each row or dead letter: the number of the event's line, the kind, and the rest.
    fn plain(&mut self, outcome: &Outcome) -> io::Result<()> {
        let line = outcome.line;
        for Made { table, rows, .. } in &outcome.rows {
            if rows.is_empty() {
                writeln!(self.out, "{line}\tno row\t{}", table.name)?;
            }
            for row in rows {
                let json = serde_json::to_string(&RowJson(table, row))?;
                writeln!(self.out, "{line}\trow\t{}\t{}", table.name, one_line(&json))?;
            }
        }
        for Condemned { stage, processor, reason } in &outcome.dead_letters {
            let (stage, processor) = (stage.name(), or_dash(processor.as_deref()));
            let reason = one_line(reason);
            writeln!(self.out, "{line}\tdead letter\t{stage}\t{processor}\t{reason}")?;
        }
        if outcome.is_only_archived() {
            let kind = or_dash(outcome.event_type.as_deref());
            writeln!(self.out, "{line}\tonly archived\t{kind}")?;
        }
        Ok(())
    }

    /// A heading an event, and a table a row.
    fn tables(&mut self, outcome: &Outcome, colour: bool) -> io::Result<()> {
        let paint = |code: &str, text: &str| match colour {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        };
        let kind = cell(&or_dash(outcome.event_type.as_deref()));
        let id = cell(&or_dash(outcome.event_id.as_deref()));
        let heading = format!("line {}  {kind}  {id}", outcome.line);
        writeln!(self.out, "{}", paint("1", &heading))?;
        for Made { processor, table: spec, rows } in &outcome.rows {
            writeln!(
                self.out,
                "processor {processor}: {} of {}",
                count(rows.len() as u64, "row"),
                spec.name
            )?;
            for row in rows {
                let mut cells = table(&["column", "type", "value"], colour);
                for (column, value) in spec.columns.iter().zip(&row.0) {
                    let value = serde_json::to_string(&ValueJson(column.kind, value))?;
                    cells.add_row([column.name.as_str(), column.kind.name(), &cell(&value)]);
                }
                writeln!(self.out, "{cells}")?;
            }
        }
        for Condemned { stage, processor, reason } in &outcome.dead_letters {
            let by = processor.as_deref().map(|name| format!(" by {name}")).unwrap_or_default();
            let label = paint("1;31", "dead letter");
            writeln!(self.out, "{label} ({}{by}): {}", stage.name(), cell(reason))?;
        }
        if outcome.is_only_archived() {
            writeln!(self.out, "only archived: no processor takes {kind}")?;
        }
        writeln!(self.out)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kappa_actors::dead_letter_table::Stage;
    use kappa_actors::row::{Column, ColumnType, Row, TableSpec, Value};

    use super::*;

    fn written(format: Format) -> String {
        let text = |text: &str| Value::Text(text.into());
        let columns = ["name", "note"].map(|name| Column {
            name: name.to_owned(),
            kind: ColumnType::String,
            description: None,
        });
        let table = TableSpec {
            name: "things".to_owned(),
            columns: columns.into(),
            key: vec![],
            version: None,
            order_by: None,
            partition_by: None,
            cluster_by: vec![],
            keeps_events: true,
        };
        let rows = vec![Row(Box::new([text("\u{9b}31m"), Value::Null]))];
        let outcome = Outcome {
            line: 3,
            event_id: Some("e\x1b[2J".into()),
            event_type: Some("thing.made".into()),
            rows: vec![Made { processor: "things".to_owned(), table: Arc::new(table), rows }],
            dead_letters: vec![Condemned {
                stage: Stage::Process,
                processor: Some("others".to_owned()),
                reason: "a\nb".to_owned(),
            }],
        };
        let (mut summary, mut out) = (Summary::default(), Vec::new());
        summary.add(&outcome);
        let mut renderer = Renderer::new(format, &mut out);
        renderer.outcome(&outcome).unwrap();
        renderer.end(&summary).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_terminal_gets_a_table_for_each_row_and_the_dead_letter_with_its_processor() {
        let text = written(Format::Table { colour: false });
        assert!(text.starts_with("line 3  thing.made  e\\u001b[2J\n"), "{text}");
        assert!(text.contains("│ note   ┆ STRING ┆ null"), "{text}");
        assert!(text.contains("dead letter (process by others): a b\n"), "{text}");
        assert!(text.ends_with("1 event: 1 row, 1 dead letter\n"), "{text}");
    }

    #[test]
    fn json_is_one_object_an_event_and_nothing_else() {
        let text = written(Format::Json);
        assert_eq!(text.lines().count(), 1);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["rows"][0]["row"]["name"], "\u{9b}31m");
        assert_eq!(json["event_id"], "e\x1b[2J");
    }

    #[test]
    fn text_of_an_event_cannot_control_the_terminal() {
        for format in [Format::Plain, Format::Table { colour: false }] {
            let text = written(format);
            assert!(!text.contains(['\x1b', '\u{9b}']), "{text}");
        }
    }
}
