//! `kappa run`

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use kappa_actors::pipeline::{Intake, Stopped};
use kappa_actors::vitals::{Board, Snapshot};

use super::Failure;
use super::process::{Signals, run_to_end};
use crate::daemon::Daemon;
use crate::settings::Settings;
use crate::telemetry;
use crate::wiring::Blueprint;

/// How often `run --until-idle` reports the work that is left.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Run the daemon
///
/// Takes events from the log until it is stopped: on SIGTERM, SIGHUP or Ctrl-C it settles events in
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
    /// End with exit code 1 if that has not come after this time, such as "10m"
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    #[arg(requires = "until_idle")]
    pub deadline: Option<Duration>,
    /// End with exit code 1 if an event became a dead letter meanwhile
    #[arg(long)]
    pub fail_on_dead_letters: bool,
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
        ended = end_of(&mut daemon, args) => ended,
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
                "a second signal ({signal}) ended the daemon at once: unacknowledged events come again"
            ).into());
        }
    };
    let acknowledged = board.counters().acked.get();
    let dead_letters = board.counters().dead_lettered();
    let Stopped { given_back, archive_closed } = stopped;
    tracing::info!(acknowledged, dead_letters, given_back, archive_closed, "stopped");
    ended?;
    if args.fail_on_dead_letters && dead_letters > 0 {
        let error = anyhow::anyhow!("events became dead letters: {dead_letters}");
        return Err(Failure::with_hint(error, "see `kappa dead-letters list`"));
    }
    Ok(())
}

/// Waits for the end that comes from within.
async fn end_of(daemon: &mut Daemon, args: &Args) -> Result<(), anyhow::Error> {
    let board = Arc::clone(daemon.board());
    let failed = if args.until_idle {
        tokio::select! {
            idle = daemon.idle() => match idle {
                Ok(idle) => {
                    tracing::info!(because = %idle, "nothing is left to do: stopping");
                    return match &daemon.held_up().await?[..] {
                        [] => Ok(()),
                        faults => Err(anyhow::anyhow!("{}", faults.join("; "))),
                    };
                }
                Err(failed) => failed,
            },
            deadline = past(args.deadline) => {
                let deadline = humantime::format_duration(deadline);
                anyhow::bail!("not idle after {deadline}: {}", work_left(&board));
            }
            never = report_work_left(&board) => match never {},
        }
    } else {
        daemon.failed().await
    };
    tracing::error!(reason = %failed, "the actors failed for good: stopping");
    Err(failed.into())
}

/// Waits until the deadline has passed, and returns it. Never returns without one.
async fn past(deadline: Option<Duration>) -> Duration {
    let Some(deadline) = deadline else { return std::future::pending().await };
    tokio::time::sleep(deadline).await;
    deadline
}

async fn report_work_left(board: &Board) -> Infallible {
    loop {
        tokio::time::sleep(REPORT_INTERVAL).await;
        tracing::info!("not idle yet: {}", work_left(board));
    }
}

/// Describes the work that is left: unacknowledged events, and the faults that delay them.
fn work_left(board: &Board) -> String {
    let Snapshot { counters, reasons, .. } = board.snapshot();
    let backlog = counters.backlog.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
    let mut text = format!(
        "{backlog} events are not acknowledged, {} of them in flight",
        counters.in_flight_messages
    );
    for reason in reasons {
        text += &format!("; {reason}");
    }
    text
}
