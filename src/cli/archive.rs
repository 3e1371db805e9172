//! `kappa archive`

mod cat;
mod list;
mod verify;

use std::io::Write;
use std::sync::Arc;

use kappa_actors::archive::{ArchiveObject, objects_between};
use kappa_actors::port::ArchiveStore;

use super::output::{self, count, tell};
use super::process::runtime;
use super::range::RangeArgs;
use super::{Failure, output::Format};
use crate::settings::Settings;
use crate::wiring;

/// List, print and verify the archived events
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to do with them.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands on the archive.
#[derive(Clone, Debug, clap::Subcommand)]
#[expect(missing_docs, reason = "a doc here would replace the help of the arguments")]
pub enum Command {
    List(ListArgs),
    Cat(CatArgs),
    Verify(VerifyArgs),
}

/// List the files of the archive, by window
///
/// In a pipe, one a line with tabs between: start of the five-minute window, `final` or `part` (of
/// a window that is not finished), bytes, name.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa archive list
  kappa archive list --from 2026-02-17 --to 2026-02-18 --json")]
pub struct ListArgs {
    /// Which windows.
    #[command(flatten)]
    pub range: RangeArgs,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Write archived events to stdout as they arrived, one a line, window by window
///
/// Line breaks between the tokens of an event are spaces. Events are selected by their publish time;
/// files without a mark such as .annotated in their name do not hold it, and are written whole. A
/// file that is damaged is named on stderr, the rest is written, and the exit code is 1.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa archive cat --from 2026-02-17T14:30:00Z --to 2026-02-17T14:35:00Z
  kappa archive cat | jq -r .event_type | sort | uniq -c
  kappa archive cat --from 2026-02-17 | kappa try -
  kappa archive cat --raw --unique | jq -r ._kappa.at")]
pub struct CatArgs {
    /// Which events.
    #[command(flatten)]
    pub range: RangeArgs,
    /// The lines as they are stored, with message ids and publish times
    #[arg(long)]
    pub raw: bool,
    /// Each message once: the archive holds a line twice after some crashes. Takes some 40 bytes of
    /// memory for each message of a five-minute window
    #[arg(long)]
    pub unique: bool,
}

/// Verify that no file or line was lost or edited since it was archived
///
/// Each final file is compared with its index in the archive: size, number of lines, CRC-32C. Its
/// lines must be events of their window. Names each fault on a line of its own, as FILE: REASON or
/// FILE:LINE: REASON; exit code 1 if there is any.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa archive verify
  kappa archive verify --from 2026-02-17 --to 2026-02-18")]
pub struct VerifyArgs {
    /// Which windows.
    #[command(flatten)]
    pub range: RangeArgs,
}

/// Runs the command and writes its result to `out`.
pub(super) fn main(args: &Args, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let archive = Archive { store: wiring::open_archive(settings).await? };
        match &args.command {
            Command::List(args) => list::list(&archive, args, out).await,
            Command::Cat(args) => cat::cat(&archive, args, out).await,
            Command::Verify(args) => verify::verify(&archive, args, out).await,
        }
    })
}

/// The archive of a configuration.
struct Archive {
    store: Arc<dyn ArchiveStore>,
}

impl Archive {
    /// Lists the files of a range, in the order of their windows; prints a note if there are none.
    async fn objects(&self, range: &RangeArgs) -> Result<Vec<ArchiveObject>, Failure> {
        let range = range.range();
        let objects = objects_between(&*self.store, range.from, range.to)
            .await
            .map_err(anyhow::Error::from)?;
        if objects.is_empty() {
            tell("note", "the archive holds nothing of that time");
        }
        Ok(objects)
    }
}
