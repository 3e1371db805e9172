//! `kappa audit`

mod json;
mod lines;
mod verdict;

use std::io::{self, BufWriter, Write};

use kappa_actors::audit::{AuditFailure, Selection, Summary, Tally, Told};
use kappa_actors::port::{Acknowledged, LogError};
use kappa_actors::replay::ReplayRange;
use kappa_actors::time::Timestamp;

use super::Failure;
use super::output::{self, Format, count, tell};
use super::process::runtime;
use super::range::{RangeArgs, event_time, time};
use crate::settings::Settings;
use crate::wiring::{Blueprint, acknowledged, open_audit};

/// Prove that every archived event has its rows, or a dead letter
///
/// Runs the archive through the present processors without writing, and compares the version of each
/// row that they make with the current row of its key. A row that is at least as new is right.
/// Reports with exit code 1: rows that are `missing`, that are there `twice`, or that are `stale`
/// (an older message made them); events that have neither row nor dead letter (`unaccounted`); files
/// of the archive that are lost, edited or cannot be read (`damaged`); and with --values rows of the
/// expected version with other values (`differs`). A row that the same message made under a lower
/// revision is reported as `older rule`, and is no failure.
///
/// Only an open dead letter of the same message and processor accounts for a row: not one that was
/// requeued, and not one of a staging replay. Tables without a key are counted by the event's or the
/// message's id. Windows that are not sealed, that may hold events which are not acknowledged, or that
/// are fresher than a table may be stale are left out, and reported. Repeated lines are counted and
/// are no fault.
///
/// Lines in the format `payload` do not hold their message's id and publish time. Of these, audit
/// proves that the key has a row, but it cannot decide whether that row is older, except by its
/// `order_by` value, or by the event time of an imported row. It looks for a dead letter with the same
/// payload, so a letter counts for every message with its payload.
///
/// A range without any event is an error, which names the range that the archive has; an empty archive
/// is none.
///
/// In a pipe, one a line with tabs between: the kind, start of the five-minute window, table (or
/// processor), key, event, FILE:LINE, and details; `left out` with start, end, table and reason;
/// `window` with its counts; at last the sum.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa audit --from 2026-02-17 --to 2026-02-18
  kappa audit --event-time 2026-01-01..2026-02-01 --values
  kappa audit --from 2026-02-17 --json | jq '.findings[] | select(.kind == \"missing\")'
  kappa audit | grep ^missing")]
pub struct Args {
    /// Which events.
    #[command(flatten)]
    pub range: RangeArgs,
    /// Only events whose own time is in this range, FROM..TO, as in 2026-01-01..2026-02-01
    #[arg(long, value_name = "RANGE", value_parser = event_time)]
    pub event_time: Option<ReplayRange>,
    /// Also compare the values of rows that have the expected version, except columns with `now`
    #[arg(long)]
    pub values: bool,
    /// Take a purged dead letter for an answer, as an open one
    #[arg(long)]
    pub accept_purged: bool,
    /// Take messages published before this time as acknowledged, instead of asking the log
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub acknowledged_before: Option<Timestamp>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// Where an audit is written to.
trait Report {
    fn told(&mut self, told: Told) -> io::Result<()>;
    fn end(&mut self, summary: &Summary) -> io::Result<()>;
}

/// Writes the audit to `out`.
pub(super) fn main(args: &Args, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    let out = BufWriter::new(out);
    match output::format(args.json) {
        Format::Json => audit(args, settings, json::Object::new(args, out)),
        Format::Plain => audit(args, settings, lines::Lines::new(out)),
        Format::Table { colour } => audit(args, settings, lines::Screen::new(out, colour)),
    }
}

fn audit(args: &Args, settings: &Settings, mut report: impl Report) -> Result<(), Failure> {
    let blueprint = Blueprint::of(settings)?;
    let mut written = Ok(());
    let mut left_out = 0;
    let mut told = |told| {
        left_out += u64::from(matches!(told, Told::LeftOut(_)));
        let told = match told {
            Told::Window(mut tally) => {
                args.accept(&mut tally);
                Told::Window(tally)
            }
            told => told,
        };
        written = report.told(told);
        written.is_ok()
    };
    let mut summary = runtime()?.block_on(async {
        let audit = open_audit(settings, &blueprint, args.values).await?;
        let log = bound(args, settings);
        let selection = Selection { published: args.range.range(), event_time: args.event_time };
        Ok::<_, Failure>(audit.run(selection, log, &mut told).await?)
    })?;
    written?;
    let accepted = args.accept(&mut summary.total);
    if accepted > 0 {
        let what = count(accepted, "row");
        tell("note", &format!("{what} count as answered by dead letters that were purged"));
    }
    report.end(&summary)?;
    verdict::of(&summary)?;
    verdict::of_range(args, &summary, left_out)
}

impl Args {
    /// Counts purged letters like open ones if that is wanted. Returns how many rows that are.
    fn accept(&self, tally: &mut Tally) -> u64 {
        if !self.accept_purged {
            return 0;
        }
        let purged = std::mem::take(&mut tally.purged);
        tally.dead_letters += purged;
        purged
    }
}

/// Up to when events are acknowledged.
async fn bound(args: &Args, settings: &Settings) -> Result<Acknowledged, LogError> {
    if let Some(time) = args.acknowledged_before {
        return Ok(Acknowledged::Before(time));
    }
    Ok(acknowledged(settings).await?.unwrap_or_else(|| {
        let folder = settings.data_dir.display();
        tell("note", &format!("there is no event log in {folder}: nothing waits in it"));
        Acknowledged::All
    }))
}

impl From<AuditFailure> for Failure {
    fn from(error: AuditFailure) -> Self {
        match &error {
            AuditFailure::Log(LogError::Refused(_)) => Self::with_hint(
                error,
                "say yourself with --acknowledged-before TIME up to when all is acknowledged",
            ),
            _ => anyhow::Error::from(error).into(),
        }
    }
}
