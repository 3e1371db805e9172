//! `kappa publish`

use std::path::PathBuf;

/// Append the lines of a file to the log, one event a line
///
/// Lines are taken as they are, whatever bytes they hold; blank ones are skipped. A line over
/// `max_event_bytes` is refused by its number, the others are published, and the exit code is 1.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa publish events.jsonl
  kappa generate --events 1000 | kappa publish -")]
pub struct Args {
    /// The file, or - for standard input
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
}
