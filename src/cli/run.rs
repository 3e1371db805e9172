//! `kappa run`

use std::sync::Arc;

use kappa_actors::pipeline::{Intake, Stopped};

use super::Failure;
use super::process::{Signals, run_to_end};
use crate::daemon::Daemon;
use crate::settings::Settings;
use crate::telemetry;
use crate::wiring::Blueprint;

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

/// Runs the daemon to its end.
pub(super) fn main(args: &Args, settings: Settings) -> Result<(), Failure> {
    let blueprint = Blueprint::of(&settings)?;
    telemetry::install_for(&settings.logging)?;
    run_to_end(run(args, settings, &blueprint))
}

async fn run(args: &Args, settings: Settings, blueprint: &Blueprint) -> Result<(), Failure> {
    // Listened to before anything is taken: a signal during the start is not lost.
    let mut signals = Signals::listen()?;
    let intake = if args.until_idle { Intake::UntilIdle } else { Intake::Open };
    let mut daemon = tokio::select! {
        started = Daemon::start(settings, blueprint, intake) => started?,
        signal = signals.next() => {
            tracing::info!(signal, "stopped before the start was done");
            return Ok(());
        }
    };
    let status = format!("http://{}", daemon.address());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %status, "running");
    let ended = tokio::select! {
        ended = end_of(&mut daemon, args.until_idle) => ended,
        signal = signals.next() => {
            tracing::info!(signal, "stopping; a second signal ends at once");
            Ok(())
        }
    };
    let board = Arc::clone(daemon.board());
    let stopped = tokio::select! {
        stopped = daemon.stop() => stopped,
        signal = signals.next() => {
            return Err(anyhow::anyhow!(
                "a second signal ({signal}) ended the daemon at once: what was not acknowledged comes again"
            ).into());
        }
    };
    let acknowledged = board.counters().acked.get();
    let Stopped { given_back, archive_closed } = stopped;
    tracing::info!(acknowledged, given_back, archive_closed, "stopped");
    Ok(ended?)
}

/// Waits for the end that comes from within.
async fn end_of(daemon: &mut Daemon, until_idle: bool) -> Result<(), anyhow::Error> {
    let failed = if until_idle {
        match daemon.idle().await {
            Ok(()) => {
                tracing::info!("nothing is left to do: stopping");
                return match &daemon.held_up().await?[..] {
                    [] => Ok(()),
                    faults => Err(anyhow::anyhow!("{}", faults.join("; "))),
                };
            }
            Err(failed) => failed,
        }
    } else {
        daemon.failed().await
    };
    tracing::error!(reason = %failed, "the actors failed for good: stopping");
    Err(failed.into())
}
