//! `kappa demo`

mod census;
mod feed;
mod progress;
mod report;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use kappa_actors::pipeline::Intake;
use kappa_actors::time::Timestamp;
use kappa_actors::vitals::{Board, Counter};
use tokio::time::MissedTickBehavior;

use super::process::{Signals, run_to_end};
use super::{Failure, generate};
use crate::daemon::Daemon;
use crate::generate::{Generator, Ids};
use crate::settings::Settings;
use crate::telemetry;
use crate::wiring::{Blueprint, open_log};
use census::Census;
use feed::Feed;
use progress::Progress;
use report::Report;

/// The share of generated events that are invalid, as `kappa generate` has it.
const INVALID_PERCENT: f64 = 1.0;

/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(50);

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

impl Args {
    fn generator(&self, invalid_percent: f64) -> Generator {
        let (events, seed, ids) = (self.events, None, Ids::Ordered);
        Generator::new(generate::Args { events, seed, invalid_percent, ids }.options())
    }
}

/// Runs the demo to its end.
pub(super) fn main(args: &Args, mut settings: Settings) -> Result<(), Failure> {
    let blueprint = Blueprint::of(&settings)?;
    try_one(args, &blueprint)?;
    if settings.is_default("logging.filter") {
        "warn".clone_into(&mut settings.logging.filter);
    }
    telemetry::install_for(&settings.logging)?;
    if settings.is_default("status.listen") && is_in_use(settings.status.listen) {
        eprintln!("{} is in use: status gets a free port", settings.status.listen);
        settings.status.listen.set_port(0);
    }
    run_to_end(run(args, &settings, &blueprint))
}

/// Generated events must be valid for the configuration, or the counts mean nothing.
fn try_one(args: &Args, blueprint: &Blueprint) -> Result<(), Failure> {
    let sample = args.generator(0.0).next().unwrap_or_else(|| unreachable!("events never end"));
    blueprint.envelope.read(&sample.payload).map(|_| ()).map_err(|invalid| {
        let error = anyhow!("the demo's events are invalid by this configuration: {invalid}");
        Failure::with_hint(error, "leave [envelope] and max_event_bytes at their defaults")
    })
}

fn is_in_use(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

async fn run(args: &Args, settings: &Settings, blueprint: &Blueprint) -> Result<(), Failure> {
    // Listened to before anything is taken: a signal during the start is not lost.
    let mut signals = Signals::listen()?;
    if settings.data_dir.join("log.db").exists() {
        eprintln!(
            "{} holds events already: those that wait go first, and the counts are of this run",
            settings.data_dir.display()
        );
    }
    let mut daemon = tokio::select! {
        // Sinks flush whenever nothing waits, so the counts are there at once.
        started = Daemon::start(settings.clone(), blueprint, Intake::UntilIdle) => started?,
        _ = signals.next() => return Ok(()),
    };
    eprintln!("status at http://{}", daemon.address());
    let worked = tokio::select! {
        worked = work(args, settings, blueprint, &mut daemon) => worked,
        signal = signals.next() => {
            eprintln!("{signal}: stopping; a second signal ends at once");
            return stop(daemon, &mut signals).await;
        }
    };
    let work = match worked {
        Ok(work) => work,
        Err(error) => {
            stop(daemon, &mut signals).await?;
            return Err(error.into());
        }
    };
    if args.exit {
        stop(daemon, &mut signals).await?;
        return tell(work, settings, blueprint).await;
    }
    let told = tell(work, settings, blueprint).await;
    let ended = match told {
        Ok(()) => {
            eprintln!("running, with status at http://{}; Ctrl-C ends", daemon.address());
            tokio::select! {
                failed = daemon.failed() => Err(anyhow::Error::from(failed).into()),
                _ = signals.next() => Ok(()),
            }
        }
        told => told,
    };
    stop(daemon, &mut signals).await?;
    ended
}

/// A run whose events are all acknowledged.
struct Work {
    feed: Feed,
    before: Census,
    began: Timestamp,
    took: Duration,
    redelivered: u64,
}

/// Publishes the events while the daemon works on them, until the last is acknowledged.
async fn work(
    args: &Args,
    settings: &Settings,
    blueprint: &Blueprint,
    daemon: &mut Daemon,
) -> anyhow::Result<Work> {
    daemon.idle().await?;
    let began = Timestamp::now();
    let before = Census::take(settings, blueprint, began).await?;
    let log = open_log(settings).await?;
    let board = Arc::clone(daemon.board());
    let redelivered = board.counters().redelivered.get();
    let (published, started) = (Counter::default(), Instant::now());
    let done = async {
        let feed = feed::publish(&*log, args, blueprint, &published);
        let (feed, ()) = tokio::try_join!(feed, watch(args.events, &published, &board))?;
        anyhow::Ok(feed)
    };
    let feed = tokio::select! {
        feed = done => feed?,
        failed = daemon.failed() => return Err(failed.into()),
    };
    let redelivered = board.counters().redelivered.get() - redelivered;
    Ok(Work { feed, before, began, took: started.elapsed(), redelivered })
}

/// Shows how far it is, until `events` more are acknowledged.
async fn watch(events: u64, published: &Counter, board: &Board) -> anyhow::Result<()> {
    let before = board.counters().acked.get();
    let mut progress = Progress::of(events);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let done = board.counters().acked.get() - before;
        if done >= events {
            return Ok(());
        }
        let trouble = board.snapshot().reasons.into_iter().next();
        progress.show(done, published.get(), trouble.as_ref());
        tick.tick().await;
    }
}

/// Counts the results, prints them, and returns whether the numbers agree.
async fn tell(work: Work, settings: &Settings, blueprint: &Blueprint) -> Result<(), Failure> {
    let Work { feed, before, began, took, redelivered } = work;
    let made = Census::take(settings, blueprint, began).await?.since(&before);
    let report = Report { feed, made, took, redelivered };
    report.show(&mut io::stdout().lock())?;
    report.check().map_err(|wrong| {
        let hint = "somebody else may have published here meanwhile: give the demo a folder of \
                    its own with --data-dir";
        Failure::with_hint(anyhow!("the counts do not add up: {wrong}"), hint)
    })
}

async fn stop(daemon: Daemon, signals: &mut Signals) -> Result<(), Failure> {
    tokio::select! {
        stopped = daemon.stop() => {
            if stopped.given_back > 0 {
                eprintln!("{} events go back to the log, for the next run", stopped.given_back);
            }
            if !stopped.archive_closed {
                eprintln!("the archive is left for the next run to close");
            }
            Ok(())
        }
        signal = signals.next() => Err(anyhow!(
            "a second signal ({signal}) ended the demo at once: unacknowledged events come again"
        ).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Sources;

    #[test]
    fn only_a_setting_that_the_user_left_alone_is_changed() {
        let load = |set: &[&str]| {
            let set = set.iter().map(ToString::to_string).collect();
            Settings::load(&Sources { set, ..Sources::default() }).unwrap()
        };
        for key in ["status.listen", "logging.filter"] {
            assert!(load(&[]).is_default(key));
        }
        // Also if the value is the default.
        assert!(!load(&["status.listen=127.0.0.1:8080"]).is_default("status.listen"));
        assert!(!load(&["logging.filter=info"]).is_default("logging.filter"));
    }

    #[test]
    fn an_address_with_a_listener_is_in_use() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(is_in_use(taken.local_addr().unwrap()));
        assert!(!is_in_use("127.0.0.1:0".parse().unwrap()));
    }

    #[test]
    fn events_that_the_envelope_does_not_fit_are_refused_before_anything_starts() {
        let files = vec![concat!(env!("CARGO_MANIFEST_DIR"), "/config/cloudevents.toml").into()];
        let settings = Settings::load(&Sources { files, ..Sources::default() }).unwrap();
        let blueprint = Blueprint::of(&settings).unwrap();
        let refused = try_one(&Args { events: 1, exit: true }, &blueprint);
        assert!(matches!(refused, Err(Failure::Failed { hint: Some(_), .. })), "{refused:?}");
    }
}
