//! `kappa try`

use std::path::PathBuf;

/// Show what each event would become: rows, or the dead letter and why
///
/// Reads one event a line. Writes nothing, and needs no log and no data folder.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa try events.jsonl
  echo '{\"event_id\":\"e1\",\"event_type\":\"order.placed\"}' | kappa try -")]
pub struct Args {
    /// The file, or - for standard input
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
    /// One JSON object an event
    #[arg(long)]
    pub json: bool,
}
