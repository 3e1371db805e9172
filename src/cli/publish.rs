//! `kappa publish`

mod feed;
mod progress;
mod publisher;

use std::io::Write;
use std::path::PathBuf;

use super::Failure;
use super::process::runtime;
use super::source::Source;
use crate::settings::Settings;
use crate::wiring::open_log;
use publisher::Publisher;

/// Append the lines of a file to the log, one event a line
///
/// Lines are taken as they are, whatever bytes they hold; blank ones are skipped. A line over
/// `max_event_bytes` is refused by its number, the others are published, and the exit code is 1.
/// It works while a daemon runs and while none does. When the log is full or busy it waits half a
/// minute; if that does not help, or on Ctrl-C, it says from which line to go on.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa publish events.jsonl
  tail -n +5001 events.jsonl | kappa publish -
  kappa generate --events 1000 | kappa publish -")]
pub struct Args {
    /// The file, or - for standard input
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
}

/// Publishes the file, and writes to `out` how many events that were.
pub(super) fn main(args: &Args, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    let source = Source::open(&args.file)?;
    let runtime = runtime()?;
    let log = runtime.block_on(open_log(settings))?;
    let mut publisher = Publisher::new(&*log, &source, settings.max_event_bytes);
    let done = runtime.block_on(async {
        let done = publisher.until_stopped(source).await;
        log.close().await;
        done
    });
    let said = writeln!(out, "{}", publisher.tally()).and_then(|()| out.flush());
    // What was not published counts more than that nobody reads what was.
    done.and(said.map_err(Failure::from))
}
