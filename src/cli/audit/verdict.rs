//! How an audit ends: what it proves, and what to do where it does not.

use anyhow::anyhow;
use kappa_actors::audit::{Summary, TableTally, Tally};

use crate::cli::Failure;
use crate::cli::output::{count, tell};

/// Done where everything is as it should be.
pub(super) fn of(summary: &Summary) -> Result<(), Failure> {
    for table in summary.tables.iter().filter(|table| table.missing > 0) {
        if let Some(note) = note(table) {
            tell("note", &note);
        }
    }
    let total = &summary.total;
    if total.is_clean() {
        return Ok(());
    }
    let error = anyhow!("{}", words(total));
    let hint = if total.missing + total.unaccounted > 0 {
        "`kappa replay` over these windows makes what is missing again"
    } else if total.damaged > 0 {
        "`kappa archive verify` tells more of the files"
    } else {
        "delete one of the rows by hand, or give the table a key"
    };
    Err(Failure::with_hint(error, hint))
}

/// What may be behind missing rows of one table.
fn note(table: &TableTally) -> Option<String> {
    let TableTally { table: name, processor, rows, missing, staleness } = table;
    if rows == missing {
        return Some(format!(
            "table {name}: none of the rows that these events make is there ({missing}); the \
             processor {processor} may be newer than the events, and `kappa replay --processors \
             {processor}` makes its rows"
        ));
    }
    (!staleness.is_zero()).then(|| {
        let staleness = humantime::format_duration(*staleness);
        format!(
            "table {name} may be up to {staleness} stale (max_staleness): rows written since then \
             only seem to be missing; audit again after that time"
        )
    })
}

fn words(total: &Tally) -> String {
    let Tally { missing, twice, unaccounted, damaged, .. } = *total;
    let is = |n: u64| if n == 1 { "is" } else { "are" };
    let found = [
        (missing, format!("{} {} missing", count(missing, "row"), is(missing))),
        (twice, format!("{} too many", count(twice, "row"))),
        (unaccounted, format!("{} without row or dead letter", count(unaccounted, "event"))),
        (damaged, format!("the archive is damaged in {}", count(damaged, "place"))),
    ];
    let found = found.into_iter().filter(|(n, _)| *n > 0).map(|(_, words)| words);
    found.collect::<Vec<_>>().join(", ")
}
