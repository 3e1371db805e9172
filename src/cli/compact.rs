//! `kappa compact`

use std::io::Write;

use anyhow::anyhow;
use chrono::NaiveDate;
use kappa_actors::processor::Processor as _;

use super::Failure;
use super::staged::find_rule;
use crate::backend::embedded::warehouse;
use crate::settings::{Settings, WarehouseBackend};
use crate::wiring::Blueprint;

/// Remove superseded and repeated rows from a table
///
/// BigQuery, tables that are appended to: looks for keys with several rows, then removes all but the
/// newest of each, one day after the other, in one statement a day. The view shows the same rows
/// before and after. If the command is killed, compact again for the remaining days. Embedded: gives
/// free pages of the warehouse's file back to the file system.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa compact orders --dry-run
  kappa compact orders --from 2026-02-01 --to 2026-03-01")]
pub struct Args {
    /// The table
    #[arg(value_name = "TABLE")]
    pub table: String,
    /// Only partitions of this day (UTC) or later: 2026-02-17
    #[arg(long, value_name = "DAY")]
    pub from: Option<NaiveDate>,
    /// Only partitions before this day; by default before today
    #[arg(long, value_name = "DAY")]
    pub to: Option<NaiveDate>,
    /// Print the rows to remove and the estimated bytes that this reads, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Compacts, and writes the removed rows to `out`.
pub(super) fn main(args: &Args, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    let blueprint = Blueprint::of(settings)?;
    let table = find_rule(&blueprint, &args.table)?.plan.table();
    match settings.warehouse.backend {
        WarehouseBackend::Embedded => embedded(args, settings, out)?,
        #[cfg(feature = "gcp")]
        WarehouseBackend::BigQuery => bigquery::compact(args, settings, table, out)?,
        #[cfg(not(feature = "gcp"))]
        WarehouseBackend::BigQuery => {
            return Err(
                anyhow!("warehouse.backend is \"bigquery\", which is not in this build").into()
            );
        }
    }
    Ok(out.flush()?)
}

fn embedded(args: &Args, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    if args.from.is_some() || args.to.is_some() {
        let error = anyhow!("the embedded warehouse has one file for all days");
        return Err(Failure::with_hint(error, "leave --from and --to out"));
    }
    let compacted = warehouse::compact(&settings.data_dir, &args.table, args.dry_run)?;
    let Some(compacted) = compacted else {
        let folder = settings.data_dir.display();
        let error = anyhow!("there is no table {} in {folder}", args.table);
        return Err(Failure::with_hint(error, "name the folder with --data-dir"));
    };
    writeln!(out, "rows\t{}", compacted.rows)?;
    writeln!(out, "bytes before\t{}", compacted.before)?;
    writeln!(out, "bytes after\t{}", compacted.after)?;
    Ok(())
}

#[cfg(feature = "gcp")]
mod bigquery {
    use chrono::Utc;
    use kappa_actors::row::TableSpec;

    use super::*;
    use crate::backend::bigquery::{Days, Partition};
    use crate::cli::output::tell;
    use crate::cli::process::runtime;
    use crate::wiring::cloud::bigquery_tables;

    pub(super) fn compact(
        args: &Args,
        settings: &Settings,
        table: &TableSpec,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let days = Days { from: args.from, to: args.to.unwrap_or_else(|| Utc::now().date_naive()) };
        if days.from.is_some_and(|from| from >= days.to) {
            let error = anyhow!("no day is before {} and not before --from", days.to);
            return Err(Failure::with_hint(
                error,
                "choose a later --to; today is left out by default",
            ));
        }
        runtime()?.block_on(async {
            let warehouse = bigquery_tables(settings)?;
            let plan = warehouse.plan_compaction(table, days).await?;
            let rows: u64 = plan.partitions.iter().map(|it| it.removes).sum();
            let bytes: u64 = plan.looked + plan.partitions.iter().map(|it| it.bytes).sum::<u64>();
            let parts = plan.partitions.len();
            tell("note", &format!(
                "{rows} rows to remove in {parts} partitions before {}; reads about {bytes} bytes",
                days.to
            ));
            for partition in &plan.partitions {
                if !args.dry_run {
                    warehouse.compact(table, partition).await?;
                }
                write_line(partition, out)?;
            }
            writeln!(out, "{}\t{rows}", if args.dry_run { "to remove" } else { "removed" })?;
            writeln!(out, "bytes read, estimated\t{bytes}")?;
            Ok(())
        })
    }

    fn write_line(partition: &Partition, out: &mut impl Write) -> std::io::Result<()> {
        let day = partition.day.map_or_else(|| "whole table".to_owned(), |day| day.to_string());
        writeln!(out, "{day}\t{} rows\t{} bytes", partition.removes, partition.bytes)?;
        // A killed command has reported all that it did.
        out.flush()
    }
}
