//! `kappa log`

use std::io::Write;

use anyhow::anyhow;

use super::Failure;
use crate::backend::embedded;
use crate::settings::{EventLogBackend, Settings};

/// Repair the embedded event log
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands on the log.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Begin a new generation: publish times follow the clock again
    ///
    /// Publish times never decrease within a generation, so a clock that once was ahead pins them.
    /// Correct the clock first. Events keep their ids and times; later events rank above them,
    /// whatever their publish times are. A daemon may go on running.
    BeginGeneration,
}

/// Carries out the command, and writes the number of the new generation to `out`.
pub(super) fn main(args: &Args, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    let Command::BeginGeneration = args.command;
    if settings.event_log.backend != EventLogBackend::Embedded {
        return Err(Failure::from(anyhow!("only the embedded event log has generations")));
    }
    if !settings.data_dir.join(embedded::log::FILE).exists() {
        let error = anyhow!("there is no log in {}", settings.data_dir.display());
        return Err(Failure::with_hint(error, "name the folder with --data-dir"));
    }
    let generation =
        embedded::log::begin_generation(&settings.data_dir).map_err(anyhow::Error::from)?;
    writeln!(out, "generation\t{generation}")?;
    Ok(out.flush()?)
}
