//! `kappa subscriptions`

use std::io::Write;

use anyhow::anyhow;

use super::Failure;
use crate::backend::embedded::log::{self, Holding};
use crate::settings::{EventLogBackend, Settings};

/// List and remove the subscriptions of the embedded event log
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands on subscriptions.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// List each subscription with the events that it has not acknowledged, and its last use
    ///
    /// One a line, with tabs between, the one that holds most first. The time of the last use is
    /// noted once a minute.
    List,
    /// Remove a subscription that is no longer used: it keeps no event in the log any more
    ///
    /// The next reader of that name processes again all that is still in the log.
    Remove {
        /// The subscription, as `list` shows it
        name: String,
        /// Also remove the one that this configuration reads
        #[arg(long)]
        force: bool,
    },
}

/// Carries out the command, and writes its answer to `out`.
pub(super) fn main(args: &Args, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    let dir = &settings.data_dir;
    if settings.event_log.backend != EventLogBackend::Embedded {
        return Err(Failure::from(anyhow!("only the embedded event log keeps subscriptions here")));
    }
    if !dir.join(log::FILE).exists() || !dir.join(log::SUBSCRIPTIONS_FILE).exists() {
        let error = anyhow!("there is no log with subscriptions in {}", dir.display());
        return Err(Failure::with_hint(error, "name the folder with --data-dir"));
    }
    match &args.command {
        Command::List => {
            for Holding { name, events, used } in
                log::subscriptions(dir).map_err(anyhow::Error::from)?
            {
                writeln!(out, "{name}\t{events}\t{used}")?;
            }
        }
        Command::Remove { name, force } => {
            if *name == settings.event_log.subscription && !force {
                let error = anyhow!("{name} is the subscription that this configuration reads");
                let hint = "pass --force to process again all that is still in the log";
                return Err(Failure::with_hint(error, hint));
            }
            if !log::remove_subscription(dir, name).map_err(anyhow::Error::from)? {
                let error = anyhow!("there is no subscription {name}");
                return Err(Failure::with_hint(error, "see `kappa subscriptions list`"));
            }
            writeln!(out, "removed\t{name}")?;
        }
    }
    Ok(out.flush()?)
}
