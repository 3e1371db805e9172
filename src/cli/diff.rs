//! `kappa diff`

use std::io::{self, Write};

use kappa_actors::port::{Diff, Shown};
use serde_json::json;

use super::Failure;
use super::output::one_line;
use super::process::runtime;
use super::staged::StagedTable;
use crate::settings::Settings;

/// Compare the staged rows of a replay with the live table
///
/// By key: rows that only staging has, rows that differ and in which columns, live rows of replayed
/// events that the present rule no longer makes, and staged rows that are older than the live row
/// of another event. Columns about the processing (`now = true`, the version) are not
/// compared. Changes nothing.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa diff orders
  kappa diff orders --json | jq .columns
  kappa diff orders --exit-code || kappa merge orders --dry-run")]
pub struct Args {
    /// The live table
    #[arg(value_name = "TABLE")]
    pub table: String,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    /// Exit with 1 if there is a difference
    #[arg(long)]
    pub exit_code: bool,
}

/// Writes the differences to `out`.
pub(super) fn main(args: &Args, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    let diff = runtime()?.block_on(async {
        let staged = StagedTable::open(settings, &args.table).await?;
        Ok::<_, Failure>(staged.store.diff(&staged.table, &staged.how).await?)
    })?;
    if args.json {
        writeln!(out, "{}", to_json(&args.table, &diff))?;
    } else {
        write_lines(&diff, out)?;
    }
    out.flush()?;
    if args.exit_code && !diff.is_empty() { Err(Failure::Differs) } else { Ok(()) }
}

fn write_lines(diff: &Diff, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "added\t{}{}", diff.added, examples(&diff.added_examples))?;
    let missing = diff.missing.map_or_else(|| "unknown".to_owned(), |rows| rows.to_string());
    writeln!(out, "missing\t{missing}{}", examples(&diff.missing_examples))?;
    writeln!(out, "may hide an older row\t{}", diff.may_hide)?;
    writeln!(out, "changed\t{}", diff.changed)?;
    writeln!(out, "live newer\t{}", diff.live_newer)?;
    writeln!(out, "older\t{}", diff.older)?;
    writeln!(out, "same\t{}", diff.same)?;
    for column in &diff.columns {
        writeln!(out, "column {}\t{}", column.name, column.rows)?;
        for it in &column.examples {
            let (live, staged) = (value(&it.live), value(&it.staged));
            writeln!(out, "  {}\t{live} -> {staged}", key(&it.key))?;
        }
    }
    Ok(())
}

fn value(shown: &Shown) -> String {
    shown.as_deref().map_or_else(|| "NULL".to_owned(), one_line)
}

fn key(key: &[Shown]) -> String {
    key.iter().map(value).collect::<Vec<_>>().join("/")
}

fn examples(keys: &[Vec<Shown>]) -> String {
    if keys.is_empty() {
        return String::new();
    }
    format!("\t{}", keys.iter().map(|it| key(it)).collect::<Vec<_>>().join(", "))
}

fn to_json(table: &str, diff: &Diff) -> serde_json::Value {
    let columns = diff.columns.iter().map(|column| {
        let examples: Vec<_> = column
            .examples
            .iter()
            .map(|it| json!({"key": it.key, "live": it.live, "staged": it.staged}))
            .collect();
        json!({"name": column.name, "rows": column.rows, "examples": examples})
    });
    json!({
        "table": table,
        "added": diff.added,
        "added_examples": diff.added_examples,
        "missing": diff.missing,
        "missing_examples": diff.missing_examples,
        "may_hide": diff.may_hide,
        "changed": diff.changed,
        "live_newer": diff.live_newer,
        "older": diff.older,
        "same": diff.same,
        "columns": columns.collect::<Vec<_>>(),
    })
}
