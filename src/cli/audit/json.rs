//! An audit as one JSON object. Findings may be many: they are written as they come.

use std::io::{self, Write};

use kappa_actors::audit::{Finding, LeftOut, Reason, Standing, Summary, Tally, Told, What};
use kappa_actors::row::Value;
use serde_json::{Map, Value as Json, json};

use super::{Args, Report, lines};
use crate::cli::try_events::value::ValueJson;

/// The object, on its way.
pub(super) struct Object<W> {
    out: W,
    head: Json,
    left_out: Vec<Json>,
    windows: Vec<Json>,
    /// Findings written, once the object is begun.
    begun: Option<u64>,
}

impl<W: Write> Object<W> {
    pub(super) fn new(args: &Args, out: W) -> Self {
        let time = |time: Option<kappa_actors::time::Timestamp>| time.map(|time| time.to_string());
        let head = json!({
            "from": time(args.range.from),
            "to": time(args.range.to),
            "event_time": args.event_time.map(|range| [range.from, range.to].map(|it| it.to_string())),
        });
        Self { out, head, left_out: Vec::new(), windows: Vec::new(), begun: None }
    }

    /// Writes everything that comes before the first finding.
    fn begin(&mut self) -> io::Result<u64> {
        if let Some(findings) = self.begun {
            return Ok(findings);
        }
        self.begun = Some(0);
        let (head, left_out) = (&self.head, Json::from(std::mem::take(&mut self.left_out)));
        let (from, to) = (&head["from"], &head["to"]);
        let event_time = &head["event_time"];
        write!(
            self.out,
            "{{\"from\":{from},\"to\":{to},\"event_time\":{event_time},\"left_out\":{left_out},\
             \"findings\":["
        )?;
        Ok(0)
    }
}

impl<W: Write> Report for Object<W> {
    fn told(&mut self, told: Told) -> io::Result<()> {
        match told {
            Told::LeftOut(it) => self.left_out.push(left_out(&it)),
            Told::Found(it) => {
                let before = self.begin()?;
                self.begun = Some(before + 1);
                let comma = if before == 0 { "" } else { "," };
                write!(self.out, "{comma}{}", finding(&it))?;
            }
            Told::Window(it) => {
                let mut counted = counts(&it);
                counted.insert("window".to_owned(), it.window.start().to_string().into());
                self.windows.push(counted.into());
            }
        }
        Ok(())
    }

    fn end(&mut self, summary: &Summary) -> io::Result<()> {
        self.begin()?;
        let windows = Json::from(std::mem::take(&mut self.windows));
        let tables = summary.tables.iter().map(|it| {
            json!({
                "table": it.table,
                "processor": it.processor,
                "rows": it.rows,
                "missing": it.missing,
                "stale": it.stale,
                "older_rule": it.older_rule,
            })
        });
        let (tables, total) = (Json::from_iter(tables), Json::from(counts(&summary.total)));
        let clean = summary.total.is_clean();
        writeln!(
            self.out,
            "],\"windows\":{windows},\"tables\":{tables},\"total\":{total},\"clean\":{clean}}}"
        )?;
        self.out.flush()
    }
}

fn counts(tally: &Tally) -> Map<String, Json> {
    let counts = [
        ("events", tally.events),
        ("rows", tally.rows),
        ("dead_letters", tally.dead_letters),
        ("purged", tally.purged),
        ("repeated_lines", tally.repeated),
        ("missing", tally.missing),
        ("twice", tally.twice),
        ("stale", tally.stale),
        ("differs", tally.differing),
        ("older_rule", tally.older_rule),
        ("unaccounted", tally.unaccounted),
        ("damaged", tally.damaged),
    ];
    counts.into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect()
}

fn left_out(it: &LeftOut) -> Json {
    let reason = match it.reason {
        Reason::Unsealed => "unsealed",
        Reason::Unacknowledged(_) => "unacknowledged",
        Reason::Stale(_) => "stale",
        Reason::Untraceable(_) => "untraceable",
    };
    json!({
        "from": it.from.to_string(),
        "to": it.to.to_string(),
        "windows": it.windows,
        "table": it.table,
        "reason": reason,
        "why": lines::why(it.reason),
    })
}

fn finding(finding: &Finding) -> Json {
    let row = |kind: &str, it: &Standing| {
        let column = |(&column, value): (&usize, &Value)| {
            let column = &it.table.columns[column];
            (column.name.clone(), json!(ValueJson(column.kind, value)))
        };
        let key: Map<_, _> = it.columns.iter().zip(&it.key.0).map(column).collect();
        json!({
            "kind": kind,
            "table": it.table.name,
            "key": key,
            "event_id": it.event,
            "expected": it.expected,
            "found": it.found,
        })
    };
    let mut json = match &finding.what {
        What::Missing(it) => row("missing", it),
        What::Twice(it) => row("twice", it),
        What::Stale { row: it, expected, found } => {
            let mut json = row("stale", it);
            json["expected_version"] = expected.to_string().into();
            json["found_version"] = found.map(|found| found.to_string()).into();
            json
        }
        What::OlderRule { row: it, expected, found } => {
            let mut json = row("older_rule", it);
            json["expected_revision"] = (*expected).into();
            json["found_revision"] = (*found).into();
            json
        }
        What::Differs { row: it, columns } => {
            let mut json = row("differs", it);
            let columns = columns.iter().map(|differs| {
                let column = &it.table.columns[differs.column];
                json!({
                    "column": column.name,
                    "expected": ValueJson(column.kind, &differs.expected),
                    "found": ValueJson(column.kind, &differs.found),
                })
            });
            json["columns"] = columns.collect();
            json
        }
        What::Unaccounted { event, processor, reason } => json!({
            "kind": "unaccounted",
            "processor": processor,
            "event_id": event,
            "reason": reason,
        }),
        What::Damaged(reason) => json!({ "kind": "damaged", "reason": reason }),
    };
    json["window"] = finding.window.start().to_string().into();
    json["file"] = (*finding.file).into();
    json["line"] = finding.line.into();
    json
}
