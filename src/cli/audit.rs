//! `kappa audit`

mod json;
mod lines;
mod verdict;

use std::io::{self, BufWriter, Write};

use kappa_actors::audit::{AuditFailure, Summary, Told};
use kappa_actors::port::{Acknowledged, LogError};
use kappa_actors::time::Timestamp;

use super::Failure;
use super::output::{self, Format, tell};
use super::process::runtime;
use super::range::{RangeArgs, time};
use crate::settings::Settings;
use crate::wiring::{Blueprint, acknowledged, open_audit};

/// Prove that every archived event has its rows, or a dead letter
///
/// Runs the archive through the present processors without writing, and asks the warehouse for each
/// row that they make. Names every row that is missing or stands twice, every event that has neither
/// row nor dead letter, and every place where a file cannot be read; exit code 1 if there is any.
/// Windows that are not sealed, that may hold events which are not acknowledged, or that are fresher
/// than a table may be stale are left out, and said. Lines that repeat others are counted and are no
/// fault.
///
/// In a pipe, one a line with tabs between: `missing`, `twice`, `unaccounted` or `damaged`, start of
/// the five-minute window, table (or processor), key, event, FILE:LINE, and what else there is to
/// say; `left out` with start, end, table and reason; `window` with its counts; at last the sum.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa audit --from 2026-02-17 --to 2026-02-18
  kappa audit --from 2026-02-17 --json | jq '.findings[] | select(.kind == \"missing\")'
  kappa audit | grep ^missing")]
pub struct Args {
    /// Which events.
    #[command(flatten)]
    pub range: RangeArgs,
    /// Take what was published before this time as acknowledged, instead of asking the log
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
        written = report.told(told);
        written.is_ok()
    };
    let summary = runtime()?.block_on(async {
        let audit = open_audit(settings, &blueprint).await?;
        let log = bound(args, settings);
        Ok::<_, Failure>(audit.run(args.range.range(), log, &mut told).await?)
    })?;
    written?;
    report.end(&summary)?;
    if summary.windows + left_out == 0 {
        tell("note", "the archive holds nothing of that time: 0 events");
    }
    verdict::of(&summary)
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
