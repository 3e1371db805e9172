//! `kappa dead-letters`

mod render;
mod requeue;
mod shelf;

use std::io::Write;

use super::output::{self, tell};
use super::process::runtime;
use super::{Failure, output::count};
use crate::settings::Settings;
use shelf::Shelf;

/// List, show and requeue events that could not be processed
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to do with them.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done with dead letters.
#[derive(Clone, Debug, clap::Subcommand)]
#[expect(missing_docs, reason = "a doc here would replace the help that stands at the arguments")]
pub enum Command {
    List(ListArgs),
    Show(ShowArgs),
    Requeue(RequeueArgs),
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
  kappa dead-letters list --limit 1000000 | cut -f8 | sort | uniq -c")]
pub struct ListArgs {
    /// Only those whose reason contains this text; case counts
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,
    /// One JSON object a line, without the payload
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

/// Publish dead letters again, once what refused them is mended
///
/// Payload, attributes and ordering key go to the log again with the attribute
/// `kappa-requeued-from`, the oldest first, and then the dead letter is marked. Without --reason and
/// --id it takes all that are not marked yet; a marked one goes again only by its id. If the command is killed in between, some
/// are requeued twice, which adds no row to a table with a key.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa dead-letters requeue --reason 'total_amount'
  kappa dead-letters requeue --id 7f3a --id 91bc
  kappa dead-letters requeue")]
pub struct RequeueArgs {
    /// Only those whose reason contains this text; case counts
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Only this one; its beginning will do; may be given again
    #[arg(long, value_name = "ID", conflicts_with = "reason")]
    pub id: Vec<String>,
}

/// Does it, and writes to `out` what was found or done.
pub(super) fn main(args: &Args, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    match &args.command {
        Command::List(args) => list(args, settings, out),
        Command::Show(args) => show(args, settings, out),
        Command::Requeue(args) => requeue(args, settings, out),
    }
}

fn list(args: &ListArgs, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    runtime()?.block_on(async {
        let shelf = Shelf::open(settings).await?;
        // One more than is shown tells whether that is all.
        let mut ids = shelf.find(args.reason.clone(), None, limit.saturating_add(1)).await?;
        let is_all = ids.len() <= limit;
        ids.truncate(limit);
        if ids.is_empty() {
            tell("note", &shelf.nothing_found(args.reason.as_deref()));
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

fn show(args: &ShowArgs, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    let letter = runtime()?.block_on(async {
        let shelf = Shelf::open(settings).await?;
        shelf.named(&args.id).await
    })?;
    render::show(&letter, args.json, out)?;
    Ok(out.flush()?)
}

fn requeue(args: &RequeueArgs, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    let (requeued, done) = runtime()?.block_on(async {
        let shelf = Shelf::open(settings).await?;
        let ids = match &args.id[..] {
            [] => shelf.waiting(args.reason.clone()).await?,
            prefixes => shelf.resolve(prefixes).await?,
        };
        if ids.is_empty() {
            tell("note", &shelf.nothing_found(args.reason.as_deref()));
            return Ok::<_, Failure>((0, Ok(())));
        }
        let mut requeuer = requeue::Requeuer::new(&shelf, settings, !args.id.is_empty()).await?;
        let done = requeuer.all(&ids).await;
        requeuer.close().await;
        Ok((requeuer.requeued(), done))
    })?;
    let said = writeln!(out, "requeued {}", count(requeued, "event")).and_then(|()| out.flush());
    // What was not requeued counts more than that nobody reads what was.
    done.and(said.map_err(Failure::from))
}
