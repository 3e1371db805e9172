//! Staging against live, in one query.
//!
//! Both sides are joined by key; BigQuery counts, and keeps the examples with the lowest keys.

use kappa_actors::port::{ColumnDiff, Diff, Example, ReprocessError, Shown};
use kappa_actors::row::ColumnType;
use serde_json::Value;

use super::sides::{Sides, position};
use crate::backend::bigquery::WriteMode;
use crate::backend::bigquery::query::Cells;
use crate::backend::bigquery::rest::Rest;

/// Characters of a value in an example. Values may be as large as a row, answers may not.
const SHOWN_CHARS: usize = 1000;

impl Sides<'_> {
    /// Counts and shows every difference. With `removing`, the missing rows do not count as live.
    pub(super) async fn diff(&self, rest: &Rest, removing: bool) -> Result<Diff, ReprocessError> {
        let rows = rest.query(&self.sql(removing), &[]).await?;
        let row = rows.first().ok_or_else(|| unreadable("no row"))?;
        self.read(row)
    }

    fn sql(&self, removing: bool) -> String {
        let missing = self.scope.map(|_| format!(" LEFT JOIN g ON {}", self.same_row("g", "l")));
        format!(
            "{} SELECT {} FROM (SELECT {} FROM s FULL JOIN l ON {}{})",
            self.with(removing),
            self.counted().join(", "),
            self.told_apart().join(", "),
            self.same_key("s", "l"),
            missing.unwrap_or_default(),
        )
    }

    /// Returns the counts and examples of all pairs, in the order in which they are read.
    fn counted(&self) -> Vec<String> {
        let mut counted = ["_staged", "_changed", "_changed AND _newer", "_older", "_hides"]
            .map(|condition| format!("COUNTIF({condition})"))
            .to_vec();
        counted.push(match self.noted() {
            Some(_) => "(SELECT COUNT(*) FROM a) - (SELECT COUNT(*) FROM s)".to_owned(),
            None => "0".to_owned(),
        });
        for kind in ["_added", "_missing"].into_iter().map(str::to_owned).chain(self.cells()) {
            counted.push(format!("COUNT({kind})"));
            if self.how.examples > 0 {
                counted.push(format!(
                    "ARRAY_AGG({kind} IGNORE NULLS ORDER BY {kind} LIMIT {})",
                    self.how.examples
                ));
            }
        }
        counted
    }

    /// Returns the comparison of a staged and a live row, either of which may be missing.
    fn told_apart(&self) -> Vec<String> {
        let (s, l) = (self.mark("s"), self.mark("l"));
        let missing = match self.scope {
            Some(_) => format!("{} IS NOT NULL", self.mark("g")),
            None => "FALSE".to_owned(),
        };
        let hides = match self.mode {
            // The live table still holds the replaced rows.
            WriteMode::Append if !self.compacted => "FALSE".to_owned(),
            _ => format!("{missing} AND {s} IS NULL"),
        };
        let (live, staged) = (self.version("l"), self.version("s"));
        let newer = format!("IFNULL({live} > {staged}, FALSE)");
        let older =
            format!("({newer} AND {} IS DISTINCT FROM {})", position(&live), position(&staged));
        // Equal versions are the same row.
        let both = format!(
            "{s} IS NOT NULL AND {l} IS NOT NULL AND {live} IS DISTINCT FROM {staged} \
             AND NOT {older}"
        );
        let differs: Vec<_> = self.compared.iter().map(|&at| self.differs(at)).collect();
        let changed = match differs.is_empty() {
            true => "FALSE".to_owned(),
            false => format!("{both} AND ({})", differs.join(" OR ")),
        };
        let mut told = vec![
            format!("{s} IS NOT NULL AS _staged"),
            format!("{changed} AS _changed"),
            format!("{newer} AS _newer"),
            format!("{older} AS _older"),
            format!("{hides} AS _hides"),
            self.example(&format!("{s} IS NOT NULL AND {l} IS NULL"), &self.key("s"), "_added"),
            self.example(&missing, &self.key("l"), "_missing"),
        ];
        for ((&at, differs), name) in self.compared.iter().zip(&differs).zip(self.cells()) {
            let mut values = self.key("s");
            values.extend(["l", "s"].map(|side| self.shown(side, at)));
            told.push(self.example(&format!("{both} AND {differs}"), &values, &name));
        }
        told
    }

    /// Names for the compared columns; their own might be anything.
    fn cells(&self) -> impl Iterator<Item = String> {
        (0..self.compared.len()).map(|nth| format!("_column{nth}"))
    }

    fn key(&self, side: &str) -> Vec<String> {
        self.table.key.iter().map(|&at| self.shown(side, at)).collect()
    }

    /// Returns the example of a row for which `condition` is true; NULL for others.
    fn example(&self, condition: &str, values: &[String], name: &str) -> String {
        let shown = match self.how.examples {
            0 => "'1'".to_owned(),
            _ => format!("TO_JSON_STRING(JSON_ARRAY({}))", values.join(", ")),
        };
        format!("IF({condition}, {shown}, NULL) AS {name}")
    }

    /// A value as people read it, and as it is shown of embedded tables.
    fn shown(&self, side: &str, at: usize) -> String {
        let value = self.column(side, at);
        let text = match self.table.columns[at].kind {
            ColumnType::String => value,
            ColumnType::Integer | ColumnType::Float | ColumnType::Numeric => {
                format!("CAST({value} AS STRING)")
            }
            ColumnType::Boolean => {
                format!("CASE WHEN {value} THEN 'true' WHEN NOT {value} THEN 'false' END")
            }
            ColumnType::Timestamp => format!("FORMAT_TIMESTAMP('%Y-%m-%dT%H:%M:%E6SZ', {value})"),
            ColumnType::Date => format!("FORMAT_DATE('%F', {value})"),
            ColumnType::Json => format!("IF({value} IS NULL, NULL, TO_JSON_STRING({value}))"),
            ColumnType::Bytes => format!("TO_BASE64({value})"),
        };
        format!("SUBSTR({text}, 1, {SHOWN_CHARS})")
    }

    fn read(&self, row: &Cells) -> Result<Diff, ReprocessError> {
        let mut cells = row.iter();
        let mut count = || number(cells.next());
        let (staged, changed, live_newer) = (count()?, count()?, count()?);
        let (older, may_hide, removed) = (count()?, count()?, count()?);
        let mut kind = || -> Result<_, ReprocessError> {
            let rows = number(cells.next())?;
            let examples = if self.how.examples > 0 { examples(cells.next())? } else { Vec::new() };
            Ok((rows, examples))
        };
        let (added, added_examples) = kind()?;
        let (missing, missing_examples) = kind()?;
        let mut columns = Vec::new();
        for &at in &self.compared {
            let (rows, found) = kind()?;
            if rows > 0 {
                let name = self.table.columns[at].name.clone();
                let examples = found.into_iter().map(example).collect::<Result<_, _>>()?;
                columns.push(ColumnDiff { name, rows, examples });
            }
        }
        Ok(Diff {
            added,
            added_examples,
            missing: self.scope.map(|_| missing),
            missing_examples,
            may_hide,
            changed,
            live_newer,
            older: older + removed,
            same: staged.saturating_sub(added + changed + older),
            columns,
        })
    }
}

/// A key with the live and the staged value behind it.
fn example(mut values: Vec<Shown>) -> Result<Example, ReprocessError> {
    let (Some(staged), Some(live)) = (values.pop(), values.pop()) else {
        return Err(unreadable("an example"));
    };
    Ok(Example { key: values, live, staged })
}

/// A count as a query shows it.
pub(super) fn number(cell: Option<&Value>) -> Result<u64, ReprocessError> {
    let number = cell.and_then(|cell| cell.as_str()?.parse().ok());
    number.ok_or_else(|| unreadable("a count"))
}

fn examples(cell: Option<&Value>) -> Result<Vec<Vec<Shown>>, ReprocessError> {
    let cells = cell.and_then(Value::as_array).ok_or_else(|| unreadable("examples"))?;
    let read = |cell: &Value| serde_json::from_str(cell["v"].as_str()?).ok();
    let read = cells.iter().map(|cell| read(cell).ok_or_else(|| unreadable("an example")));
    read.collect()
}

pub(super) fn unreadable(what: &str) -> ReprocessError {
    ReprocessError::Unavailable(format!("BigQuery answered with {what} that cannot be read"))
}
