//! The settings that every command takes.

use std::path::PathBuf;

use clap::{ArgMatches, Args, FromArgMatches};

use crate::settings::Sources;

// Where settings come from. No doc comment: it would become the help of every command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Settings")]
pub(super) struct GlobalArgs {
    /// A configuration file; may be given again, the later ones count more
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// One setting, as in --set drain_timeout=10s; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The folder of the embedded log, warehouse and archive; short for --set data_dir=DIR
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl GlobalArgs {
    /// `command` and all below it, taking these.
    ///
    /// clap's own global arguments would silently forget those before the command when
    /// there is more behind it.
    pub(super) fn on_every(command: clap::Command) -> clap::Command {
        Self::augment_args(command).mut_subcommands(Self::on_every)
    }

    /// The settings given at any level, in the order of the command line.
    pub(super) fn gather(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut all = Self::from_arg_matches(matches)?;
        if let Some((_, below)) = matches.subcommand() {
            let below = Self::gather(below)?;
            all.config.extend(below.config);
            all.set.extend(below.set);
            all.data_dir = below.data_dir.or(all.data_dir);
        }
        Ok(all)
    }

    /// Adds the environment.
    pub(super) fn sources(&self) -> Sources {
        Sources {
            files: self.config.clone(),
            environment: std::env::vars_os().collect(),
            set: self.set.clone(),
            data_dir: self.data_dir.clone(),
        }
    }
}
