//! `kappa demo`

/// Generate events and watch the pipeline work on them
///
/// Ends with what became of them: rows by table, archived lines and files, dead letters by reason,
/// events a second. Then it keeps running, with its status page at the address it prints.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa demo
  kappa demo --events 1000000 --exit")]
pub struct Args {
    /// How many events to generate
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub events: u64,
    /// End when the events are done
    #[arg(long)]
    pub exit: bool,
}
