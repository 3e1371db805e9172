//! `kappa seek`

use std::io::Write;

use anyhow::anyhow;
use kappa_actors::port::LogError;
use kappa_actors::time::Timestamp;

use super::Failure;
use super::output::{count, tell};
use super::process::runtime;
use super::range::time;
use crate::settings::{EventLogBackend, Settings};
use crate::wiring::open_log;

/// Move the subscription to a time: a running daemon goes on from there
///
/// Every event published at that time or later is processed again, and none before it. Rows
/// replace those of the same key. On an embedded log, archived events are not archived again; on Pub/Sub
/// their lines are repeated in the archive, which is harmless.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa seek --time 2026-02-17T14:30:00Z
  kappa seek --time 2026-02-17")]
pub struct Args {
    /// The time: 2026-02-17 or 2026-02-17T14:30:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub time: Timestamp,
}

/// Seeks, and writes the number of events to come to `out`, if the log knows it.
pub(super) fn main(args: &Args, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    if settings.event_log.backend == EventLogBackend::Embedded
        && !settings.data_dir.join("log.db").exists()
    {
        let error = anyhow!("there is no log in {}", settings.data_dir.display());
        return Err(Failure::with_hint(error, "name the folder with --data-dir"));
    }
    let sought = runtime()?.block_on(async {
        let log = open_log(settings).await?;
        let sought = log.seek(args.time).await;
        log.close().await;
        sought.map_err(anyhow::Error::from)
    });
    let sought = sought.map_err(|error| match error.downcast_ref::<LogError>() {
        Some(LogError::Refused(_)) => {
            Failure::with_hint(error, "seek a later time, or `kappa replay` from the archive")
        }
        _ => error.into(),
    })?;
    if args.time > Timestamp::now() {
        tell("warning", "the time is in the future: events published before it are passed over");
    }
    let subscription = &settings.event_log.subscription;
    writeln!(out, "sought\t{subscription}\t{}", args.time)?;
    match sought.messages {
        Some(events) => writeln!(out, "to be processed\t{}", count(events, "event"))?,
        None => writeln!(out, "to be processed\tunknown")?,
    }
    Ok(out.flush()?)
}
