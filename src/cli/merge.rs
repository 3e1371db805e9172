//! `kappa merge`

use std::io::Write;

use kappa_actors::port::MergeOptions;

use super::Failure;
use super::output::tell;
use super::process::runtime;
use super::staged::StagedTable;
use crate::settings::Settings;

/// The note on a merge that BigQuery cannot do in one statement.
const IN_STEPS: &str = "readers see the rows merged so far; if it is interrupted, merge again";

/// Copy the staged rows of a replay into the live table
///
/// A merge is atomic, except into a BigQuery upsert table, which is merged row by row (a note says
/// so). A live row of a higher version stays. Afterwards the staging table is dropped. If the
/// command is killed, merge again: the second merge completes the first.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa merge orders --dry-run
  kappa merge orders
  kappa merge orders --remove-missing --keep-staging")]
pub struct Args {
    /// The live table
    #[arg(value_name = "TABLE")]
    pub table: String,
    /// Count what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not drop the staging table afterwards
    #[arg(long)]
    pub keep_staging: bool,
    /// Remove live rows of replayed events that the present rule no longer makes
    #[arg(long)]
    pub remove_missing: bool,
}

/// Merges, and writes the result to `out`.
pub(super) fn main(args: &Args, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    let options = MergeOptions { remove_missing: args.remove_missing, dry_run: args.dry_run };
    let merged = runtime()?.block_on(async {
        let staged = StagedTable::open(settings, &args.table).await?;
        if options.remove_missing && staged.how.scope.is_none() {
            let error = anyhow::anyhow!(
                "the replay into {} has not ended: its missing rows cannot be known",
                args.table
            );
            return Err(Failure::with_hint(error, "merge without --remove-missing"));
        }
        if staged.in_steps && !args.dry_run {
            let name = &args.table;
            tell("note", &format!("{name} takes upserts: this is not one step, {IN_STEPS}"));
        }
        let merged = staged.store.merge(&staged.table, &staged.how, options).await?;
        // Only now: the dropped rows are in the live table.
        if !args.dry_run && !args.keep_staging {
            staged.store.drop_staging(&args.table).await?;
        }
        Ok(merged)
    })?;
    let counts = [
        ("inserted", merged.inserted),
        ("replaced", merged.replaced),
        ("unchanged", merged.unchanged),
        ("kept because live is newer", merged.kept),
        ("removed", merged.removed),
        ("may hide an older row", merged.may_hide),
    ];
    for (what, rows) in counts {
        writeln!(out, "{what}\t{rows}")?;
    }
    out.flush()?;
    if merged.may_hide > 0 {
        tell("note", &may_hide(&args.table, merged.may_hide));
    }
    Ok(())
}

/// A key that has no row now may have had an older one, of an event that was not replayed.
fn may_hide(table: &str, rows: u64) -> String {
    format!(
        "{rows} rows removed from {table} may have replaced older rows of their keys, of events \
         outside the replayed range: replay the whole history and merge again to bring these back"
    )
}
