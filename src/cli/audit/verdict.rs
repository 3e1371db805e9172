//! The end of an audit: its conclusion, and the next step after a failure.

use anyhow::anyhow;
use kappa_actors::audit::{Summary, TableTally, Tally};

use super::Args;
use crate::cli::Failure;
use crate::cli::output::{count, tell};

/// Done where everything is as it should be.
pub(super) fn of(summary: &Summary) -> Result<(), Failure> {
    for table in summary.tables.iter().filter(|table| table.older_rule > 0) {
        let TableTally { table, processor, older_rule, .. } = table;
        tell(
            "note",
            &format!(
                "table {table}: a lower revision of the processor {processor} made {}; `kappa replay \
                 --processors {processor}` makes them under the present one",
                count(*older_rule, "row")
            ),
        );
    }
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
    let hint = if total.purged > 0 && total.missing + total.unaccounted + total.stale == 0 {
        "`kappa replay` over these windows makes these rows, or their dead letters, again; \
         --accept-purged takes the purge for an answer"
    } else if total.missing + total.unaccounted + total.stale > 0 {
        "`kappa replay` over these windows makes these rows again"
    } else if total.differing > 0 {
        "raise the processor's revision if its rule has changed, replay into staging and merge"
    } else if total.damaged > 0 {
        "`kappa archive verify` shows details of the files"
    } else {
        "delete one of the rows by hand, or give the table a key"
    };
    Err(Failure::with_hint(error, hint))
}

/// Fails where no event was selected though the archive has events, and names the range that it has.
/// An empty archive is right.
pub(super) fn of_range(args: &Args, summary: &Summary, left_out: u64) -> Result<(), Failure> {
    let total = &summary.total;
    if total.events + total.repeated + left_out > 0 {
        return Ok(());
    }
    let (error, hint) = match (summary.event_times, summary.archived) {
        (Some((first, last)), _) if args.event_time.is_some() => (
            anyhow!("no events of this event time: 0 events"),
            format!("choose a range between {first} and {last}, the event times of the archive"),
        ),
        (_, Some((first, last))) => (
            anyhow!("no events in this time range: 0 events"),
            format!(
                "choose a range between {first} and {last}, the publish times of the archive, or \
                 select by the events' own time with --event-time"
            ),
        ),
        _ => {
            tell("note", "the archive holds no events: 0 events");
            return Ok(());
        }
    };
    Err(Failure::with_hint(error, hint))
}

/// Returns a possible cause of missing rows in one table.
fn note(table: &TableTally) -> Option<String> {
    let TableTally { table: name, processor, rows, missing, staleness, .. } = table;
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
    let Tally { missing, purged, twice, stale, differing, unaccounted, damaged, .. } = *total;
    let is = |n: u64| if n == 1 { "is" } else { "are" };
    let found = [
        (missing, format!("{} {} missing", count(missing, "row"), is(missing))),
        (purged, purged_words(purged)),
        (twice, format!("{} too many", count(twice, "row"))),
        (stale, format!("{} {} stale", count(stale, "row"), is(stale))),
        (differing, format!("{} with other values", count(differing, "row"))),
        (unaccounted, format!("{} without row or dead letter", count(unaccounted, "event"))),
        (damaged, format!("the archive is damaged in {}", count(damaged, "place"))),
    ];
    let found = found.into_iter().filter(|(n, _)| *n > 0).map(|(_, words)| words);
    found.collect::<Vec<_>>().join(", ")
}

fn purged_words(rows: u64) -> String {
    match rows {
        1 => "1 row is missing because its dead letter was purged".to_owned(),
        _ => format!("{rows} rows are missing because their dead letters were purged"),
    }
}
