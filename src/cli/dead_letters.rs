//! `kappa dead-letters`

mod edit;
mod purge;
mod render;
mod requeue;
mod shelf;
mod summary;
mod trial;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use super::Failure;
use super::output::{self, tell};
use super::process::{run_to_end, runtime};
use crate::settings::Settings;
use crate::telemetry;
use crate::wiring::Blueprint;
use shelf::{Shelf, Wanted};

/// List, show, requeue and correct events that could not be processed
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to do with them.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands on dead letters.
#[derive(Clone, Debug, clap::Subcommand)]
#[expect(missing_docs, reason = "a doc here would replace the help of the arguments")]
pub enum Command {
    List(ListArgs),
    Summary(SummaryArgs),
    Show(ShowArgs),
    Requeue(RequeueArgs),
    Edit(EditArgs),
    Purge(PurgeArgs),
}

/// List dead letters, the newest first
///
/// In a pipe, one a line with tabs between: id, when it failed, stage, processor, event type,
/// event id, when it was requeued, reason; - for what it does not have.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa dead-letters list
  kappa dead-letters list --reason 'not JSON' --json
  kappa dead-letters list --class 'envelope: not JSON'
  kappa dead-letters list --limit 1000000 | cut -f8")]
pub struct ListArgs {
    /// Which letters.
    #[command(flatten)]
    pub wanted: Wanted,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,
    /// One JSON object a line, without the payload
    #[arg(long)]
    pub json: bool,
}

/// Count dead letters by the class of their fault
///
/// A class names the place and the kind of a fault, such as `orders.total_amount: not a NUMERIC`, and
/// no value of an event. In a pipe, one a line with tabs between: number of letters, how many of them
/// are open, how many were purged, first failure, last failure, stage, duty (a processor, archive or
/// route), class, the id of one of them.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa dead-letters summary
  kappa dead-letters summary --reason 'total_amount' --json")]
pub struct SummaryArgs {
    /// Which letters.
    #[command(flatten)]
    pub wanted: Wanted,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Show one dead letter whole, its payload included
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa dead-letters show 7f3a
  kappa dead-letters show 7f3a --json | jq -r .payload | base64 -d")]
pub struct ShowArgs {
    /// The dead letter's id, as `list` shows it; its beginning will do
    #[arg(value_name = "ID")]
    pub id: String,
    /// One JSON object, the payload in base64
    #[arg(long)]
    pub json: bool,
}

/// Process dead letters again, once what refused them is mended
///
/// Each event goes to the duty that failed, with its old position: to one processor, or, if it
/// never was valid, to all of them and to the archive. Nothing that is stored is stored again, and
/// a newer row of the same key stays. It works beside a running daemon. A letter whose event fails
/// again is open again. Without --reason, --class and --id it takes all open letters but those of
/// replays into staging; a letter that was requeued goes again only by its id. Rows of a table without a
/// key may be added twice if the command is killed.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa dead-letters requeue --try
  kappa dead-letters requeue --reason 'total_amount'
  kappa dead-letters requeue --id 7f3a --id 91bc
  kappa dead-letters requeue")]
pub struct RequeueArgs {
    /// Which letters.
    #[command(flatten)]
    pub wanted: Wanted,
    /// Only this one; its beginning will do; may be given again
    #[arg(long, value_name = "ID", conflicts_with_all = ["reason", "class"])]
    pub id: Vec<String>,
    /// Report how many would succeed by the present rules, by reason, and write nothing
    #[arg(long)]
    pub r#try: bool,
}

/// Publish a corrected event in place of a dead letter
///
/// The corrected event is a new event: it comes from --file, or from the editor named by VISUAL or
/// EDITOR. It gets the letter's attributes, `kappa-corrects` and the ordering key. Then the letter
/// is marked as requeued.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa dead-letters edit 7f3a
  kappa dead-letters edit 7f3a --file corrected.json")]
pub struct EditArgs {
    /// The dead letter's id, as `list` shows it; its beginning will do
    #[arg(value_name = "ID")]
    pub id: String,
    /// The corrected event
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Remove the content of old dead letters
///
/// A purge removes payload, attributes, ordering key, event id, event type and reason of a letter, open
/// or requeued. An event that never was valid is in no archive: its content is lost then. Class,
/// stage, duty, message id and times stay, so the summary still counts the letter, and an audit reports
/// a row that is missing because its letter was purged. A payload that is an object of the archive,
/// `dead-letters/ID`, stays there. The daemon does the same with `dead_letters.max_age`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa dead-letters purge --older-than 30d --dry-run
  kappa dead-letters purge --older-than 30d --requeued --yes
  kappa dead-letters purge --older-than 7d --class 'envelope: not JSON'")]
pub struct PurgeArgs {
    /// Only letters that failed longer ago than this, such as 30d
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    pub older_than: Duration,
    /// Which letters.
    #[command(flatten)]
    pub wanted: Wanted,
    /// Only letters that are requeued
    #[arg(long)]
    pub requeued: bool,
    /// Count the letters, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// Runs the command, and writes its result to `out`.
pub(super) fn main(
    args: &Args,
    mut settings: Settings,
    out: &mut (impl Write + Send),
) -> Result<(), Failure> {
    match &args.command {
        Command::List(args) => list(args, &settings, out),
        Command::Summary(args) => summary(args, &settings, out),
        Command::Show(args) => show(args, &settings, out),
        Command::Requeue(args) => requeue(args, &mut settings, out),
        Command::Edit(args) => edit(args, &settings, out),
        Command::Purge(args) => purge(args, &settings, out),
    }
}

fn list(args: &ListArgs, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    runtime()?.block_on(async {
        let shelf = Shelf::open(settings).await?;
        // One more than is shown, to know whether that is all.
        let mut ids = shelf.find(&args.wanted, limit.saturating_add(1)).await?;
        let is_all = ids.len() <= limit;
        ids.truncate(limit);
        if ids.is_empty() {
            tell("note", &shelf.nothing_found(&args.wanted));
        }
        let mut list = render::List::new(output::format(args.json), out);
        for id in &ids {
            // One after the other: payloads are large.
            if let Some(letter) = shelf.get(id).await? {
                list.add(&letter)?;
            }
        }
        list.end()?;
        if !is_all {
            tell("note", "there are more: raise --limit");
        }
        Ok(())
    })
}

fn summary(args: &SummaryArgs, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let shelf = Shelf::open(settings).await?;
        let groups = shelf.groups(&args.wanted).await?;
        if groups.is_empty() {
            tell("note", &shelf.nothing_found(&args.wanted));
        }
        Ok(summary::write(&groups, output::format(args.json), out)?)
    })
}

fn show(args: &ShowArgs, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    let letter = runtime()?.block_on(async {
        let shelf = Shelf::open(settings).await?;
        shelf.named(&args.id).await
    })?;
    render::show(&letter, args.json, out)?;
    Ok(out.flush()?)
}

fn requeue(
    args: &RequeueArgs,
    settings: &mut Settings,
    out: &mut (impl Write + Send),
) -> Result<(), Failure> {
    let blueprint = Blueprint::of(settings)?;
    if settings.is_default("logging.filter") {
        "warn".clone_into(&mut settings.logging.filter);
    }
    telemetry::install_for(&settings.logging)?;
    run_to_end(async {
        let shelf = Shelf::open(settings).await?;
        let ids = match &args.id[..] {
            [] => shelf.waiting(&args.wanted).await?,
            prefixes => shelf.resolve(prefixes).await?,
        };
        let store = shelf.store().filter(|_| !ids.is_empty());
        let Some(store) = store else {
            tell("note", &shelf.nothing_found(&args.wanted));
            writeln!(out, "requeued 0 events")?;
            return Ok(out.flush()?);
        };
        if args.r#try {
            return trial::run(&shelf, &blueprint, &ids, out).await;
        }
        let again = !args.id.is_empty();
        requeue::requeue(settings, &blueprint, (store, ids), again, out).await
    })
}

fn edit(args: &EditArgs, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    let blueprint = Blueprint::of(settings)?;
    runtime()?.block_on(async {
        let shelf = Shelf::open(settings).await?;
        let what = (&*args.id, args.file.as_deref());
        edit::run((settings, &blueprint), &shelf, what, out).await
    })
}

fn purge(args: &PurgeArgs, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let shelf = Shelf::open(settings).await?;
        if shelf.store().is_none() {
            tell("note", &shelf.nothing_found(&args.wanted));
        }
        purge::run(args, shelf.store(), out).await
    })
}
