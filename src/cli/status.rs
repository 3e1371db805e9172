//! `kappa status`

/// Show the tree and the counters of a running daemon
///
/// Without --url the address is read from the data folder.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa status --watch
  kappa status --url http://127.0.0.1:8080 --json")]
pub struct Args {
    /// Where the daemon's status is served
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Show it anew each second, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// The daemon's own JSON
    #[arg(long)]
    pub json: bool,
}
