//! `kappa replay`

mod progress;

use std::io::Write;
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::anyhow;
use kappa_actors::port::ReprocessError;
use kappa_actors::replay::{EndedBy, Fault, JournalError, ReplayRange};
use kappa_actors::time::Timestamp;

use super::Failure;
use super::output::{count, tell};
use super::process::{Signals, run_to_end};
use super::range::{RangeArgs, event_time, time};
use crate::replay::{Ended, Job, Options, ReplayError, ReplayPlan, Selected, Source, Target};
use crate::settings::{Problem, Problems, Settings};
use crate::telemetry;
use crate::wiring::{Blueprint, RuleBook};
use progress::Progress;

/// How long freed memory is kept at least: a job works as fast as it can, and at that rate the pages
/// are wanted again at once. Of 10, 100 and 300 ms, 300 is hardly faster and takes more memory.
pub(super) const MEMORY_RELEASE: Duration = Duration::from_millis(100);

/// Run history through the pipeline again, by the present configuration
///
/// A job with an end, beside a running daemon. Rows go to staging tables, to be compared with `kappa
/// diff` and copied into the live ones with `kappa merge`, or straight over the live rows. No event is
/// archived again; an invalid event becomes a dead letter that names the replay. If it is killed,
/// --resume goes on with it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa replay --from 2026-02-17 --to 2026-02-18
  kappa replay --from 2026-02-17T14:30:00Z --to 2026-02-17T15:00:00Z --processors orders --rate 5000
  kappa replay --from 2026-02-17 --to 2026-02-18 --into live --source log
  kappa replay --event-time 2026-01-01..2026-02-01
  kappa replay --source files 'events-2026-01-*.jsonl'
  kappa replay --resume 20260217T143000-1f6a9c02")]
pub struct Args {
    /// Only events published at this time or later: 2026-02-17 or 2026-02-17T14:30:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Option<Timestamp>,
    /// Only events published before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Option<Timestamp>,
    /// Only events of this time of their own, as in 2026-01-01..2026-02-01; either end may be left
    /// out. With it, --from and --to may be left out too
    #[arg(long, value_name = "FROM..TO", value_parser = event_time)]
    pub event_time: Option<ReplayRange>,
    /// The files of --source files, as in 'events-2026-01-*.jsonl' or 'gs://bucket/2026/*.gz'
    #[arg(value_name = "PATTERN")]
    pub patterns: Vec<String>,
    /// Where history is read
    #[arg(long, value_name = "SOURCE", default_value = "archive")]
    pub source: Source,
    /// Only these processors, with commas between
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub processors: Vec<String>,
    /// Where rows are written
    #[arg(long, value_name = "TARGET", default_value = "staging")]
    pub into: Target,
    /// Events a second, at most
    #[arg(long, value_name = "N")]
    pub rate: Option<NonZeroU32>,
    /// Drop the rows that an earlier replay, which no longer runs, has staged for these tables
    #[arg(long)]
    pub replace: bool,
    /// Leave out unreadable lines of the archive and events missing from the log, and be complete
    /// without it
    #[arg(long)]
    pub skip_damaged: bool,
    /// Import archived files that hold payloads without positions, though the tables have rows: a
    /// row that a log wrote stays
    #[arg(long)]
    pub as_import: bool,
    /// Go on with the replay of this id
    #[arg(
        long,
        value_name = "ID",
        conflicts_with_all = ["from", "to", "event_time", "patterns", "source", "processors", "into", "replace", "as_import"]
    )]
    pub resume: Option<String>,
}

/// Replays to the end, and writes the result to `out`.
pub(super) fn main(
    args: &Args,
    mut settings: Settings,
    out: &mut (impl Write + Send),
) -> Result<(), Failure> {
    let blueprint = Blueprint::of(&settings)?;
    if settings.is_default("logging.filter") {
        "warn".clone_into(&mut settings.logging.filter);
    }
    telemetry::install_for(&settings.logging)?;
    run_to_end(run(args, &settings, &blueprint, out))
}

async fn run(
    args: &Args,
    settings: &Settings,
    blueprint: &Blueprint,
    out: &mut impl Write,
) -> Result<(), Failure> {
    // Listened to before anything is begun: a signal during the start is not lost.
    let mut signals = Signals::listen()?;
    RuleBook::refuse_changed(settings, &blueprint.processors).await?;
    let mut job = tokio::select! {
        job = start(args, settings, blueprint) => job?,
        _ = signals.next() => return Err(anyhow!("stopped before anything was replayed").into()),
    };
    tell("note", &said(&job, args.resume.is_some()));
    let shown = Progress::new();
    let worked = tokio::select! {
        worked = job.run(|progress, done| shown.at(progress, done)) => worked,
        signal = signals.next() => {
            shown.say("note", &format!("{signal}: stopping; a second signal ends at once"));
            Ok(())
        }
    };
    shown.finish();
    let id = job.id().to_owned();
    let ended_by = job.progress().ended_by;
    let ended = tokio::select! {
        ended = job.end() => ended,
        _ = signals.next() => return Err(interrupted(&id)),
    };
    let ended = match (worked, ended) {
        (Err(error), _) | (Ok(()), Err(error)) => return Err(failed(error, Some(&id))),
        (Ok(()), Ok(ended)) => ended,
    };
    report(&ended, ended_by, out)?;
    for fault in &ended.faults {
        tell("damaged", &damaged(fault));
    }
    if !ended.faults.is_empty() {
        let what = count(ended.faults.len() as u64, "part");
        let error = anyhow!("{what} of the source cannot be read; the rest is replayed");
        return Err(if ended.complete {
            error.into()
        } else {
            Failure::with_hint(
                error,
                format!(
                    "restore what is damaged and go on with `kappa replay --resume {id}`, or leave out what \
                 cannot be read with --skip-damaged"
                ),
            )
        });
    }
    if ended.complete { Ok(()) } else { Err(interrupted(&id)) }
}

async fn start(args: &Args, settings: &Settings, blueprint: &Blueprint) -> Result<Job, Failure> {
    let Args { rate, replace, skip_damaged, as_import, .. } = *args;
    let options = Options { rate, replace, skip_damaged, as_import };
    let started = match &args.resume {
        None => {
            let plan = ReplayPlan::new(
                selected(args)?,
                (args.source, args.into),
                &args.processors,
                blueprint,
            )?;
            Job::begin(settings, blueprint, plan, options).await
        }
        Some(id) => Job::resume(settings, blueprint, id, options).await,
    };
    started.map_err(|error| failed(error, args.resume.as_deref()))
}

/// Which events are meant. All of an archive or a log is not replayed by mistake.
fn selected(args: &Args) -> Result<Selected, Problems> {
    let bounded = args.from.is_some() && args.to.is_some() || args.event_time.is_some();
    if matches!(args.source, Source::Archive | Source::Log) && !bounded {
        let reason =
            format!("a replay of the {} needs --from and --to, or --event-time", args.source);
        return Err(Problem::new("--from", reason, "use --from 2026-02-17 --to 2026-02-18").into());
    }
    if (args.source == Source::Files) == args.patterns.is_empty() {
        let reason = "patterns of files and --source files go together";
        let hint = "use --source files 'events-2026-01-*.jsonl'";
        return Err(Problem::new("PATTERN", reason, hint).into());
    }
    let range = RangeArgs { from: args.from, to: args.to }.range();
    Ok(Selected { range, event_time: args.event_time, files: args.patterns.clone() })
}

fn said(job: &Job, resumed: bool) -> String {
    let (id, plan) = (job.id(), job.plan());
    let names: Vec<_> = plan.rules.keys().map(String::as_str).collect();
    let verb = if resumed { "goes on" } else { "begins" };
    format!(
        "replay {id} {verb}: {} from {} to {} into {}, by {}; status at http://{}",
        plan.source,
        plan.from,
        plan.to,
        plan.into,
        names.join(", "),
        job.address()
    )
}

/// Prints the result, one fact a line.
fn report(ended: &Ended, ended_by: Option<EndedBy>, out: &mut impl Write) -> Result<(), Failure> {
    writeln!(out, "replay\t{}", ended.id)?;
    writeln!(out, "events\t{}", ended.events)?;
    for (table, rows) in &ended.rows {
        writeln!(out, "rows {table}\t{rows}")?;
    }
    writeln!(out, "dead letters\t{}", ended.dead_letters)?;
    match ended_by {
        Some(EndedBy::Proof) => {
            tell("note", "ended when the log had all of the range acknowledged");
        }
        Some(EndedBy::LaterEvent) => tell(
            "note",
            "ended at an event published after the range; the log did not prove the end",
        ),
        Some(EndedBy::Quiet) => {
            tell("note", "ended when nothing more came; the log did not prove the end");
        }
        None => {}
    }
    if ended.complete && ended.events == 0 {
        tell("note", "nothing was replayed: the source has no events of that time");
        if let Some(ReplayRange { from, to }) = ended.held {
            tell("note", &format!("the archive holds events published from {from} to {to}"));
        }
    }
    Ok(out.flush()?)
}

/// Where the source is damaged, and how.
fn damaged(Fault { object, line, reason }: &Fault) -> String {
    match line {
        0 => format!("{object}: {reason}"),
        line => format!("{object}:{line}: {reason}"),
    }
}

fn interrupted(id: &str) -> Failure {
    Failure::with_hint(
        anyhow!("the replay {id} has not come to its end"),
        format!("go on with it: kappa replay --resume {id}"),
    )
}

fn failed(error: ReplayError, id: Option<&str>) -> Failure {
    match (error, id) {
        (ReplayError::Refused { reason, hint }, _) => Failure::with_hint(anyhow!(reason), hint),
        (error @ ReplayError::Gone(_), _) => Failure::with_hint(
            error,
            "begin a new replay of the same range: events replayed twice change nothing",
        ),
        (ReplayError::Staging(error @ ReprocessError::Taken(_)), _) => Failure::with_hint(
            error,
            "put it into the live table with `kappa merge`, or drop it with `kappa replay --replace`",
        ),
        (ReplayError::Other(error), None) => error.into(),
        (
            ReplayError::Journal(error @ (JournalError::Unknown(_) | JournalError::Finished(_))),
            _,
        ) => Failure::with_hint(error, "`kappa replay --from T --to T` begins a new one"),
        (error, Some(id)) => {
            Failure::with_hint(error, format!("go on with it: kappa replay --resume {id}"))
        }
        (error, None) => anyhow::Error::from(error).into(),
    }
}
