//! `kappa run`

/// Run the daemon
///
/// Takes events from the log until it is stopped: by SIGTERM or Ctrl-C it settles what is in
/// flight within `drain_timeout` and gives the rest back to the log. A second signal ends it at
/// once, still without losing an event.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa run
  kappa run --config prod.toml --data-dir /var/lib/kappa
  kappa run --until-idle --set status.listen=127.0.0.1:0")]
pub struct Args {
    /// End once the backlog is empty and everything is acknowledged
    #[arg(long)]
    pub until_idle: bool,
}
