//! The command line: the arguments of each command, and its exit code.
//!
//! Exit codes are 0 for done, 1 for failed and 2 for wrong usage or configuration. A reader that
//! stops reading a command's output (`kappa generate | head`) ends it quietly.

pub mod archive;
pub mod audit;
pub mod check;
pub mod compact;
pub mod config;
mod costs;
pub mod dead_letters;
pub mod demo;
pub mod diff;
mod failure;
pub mod generate;
mod global;
pub mod log;
mod memory;
pub mod merge;
mod output;
mod patience;
mod process;
pub mod publish;
mod range;
pub mod replay;
pub mod run;
pub mod seek;
#[cfg(feature = "gcp")]
pub mod setup;
mod source;
mod staged;
pub mod status;
pub mod subscriptions;
pub mod try_events;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use failure::Failure;
use global::GlobalArgs;

use crate::settings::Settings;

/// An event processor for the Kappa architecture: one pipeline, live and replayed
///
/// kappa reads immutable events from a log, checks them, routes them by type, turns them into rows
/// of a warehouse and archives every valid event. Start with `kappa demo`.
#[derive(Debug, Parser)]
#[command(
    name = "kappa",
    version,
    max_term_width = 100,
    after_help = "\
Exit codes: 0 done, 1 failed, 2 wrong usage or configuration."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "a doc here would replace the help of the arguments")]
pub enum Command {
    Run(run::Args),
    Demo(demo::Args),
    Publish(publish::Args),
    Generate(generate::Args),
    Try(try_events::Args),
    Check(check::Args),
    #[cfg(feature = "gcp")]
    Setup(setup::Args),
    Status(status::Args),
    DeadLetters(dead_letters::Args),
    Seek(seek::Args),
    Log(log::Args),
    Subscriptions(subscriptions::Args),
    Replay(replay::Args),
    Diff(diff::Args),
    Merge(merge::Args),
    Compact(compact::Args),
    Audit(audit::Args),
    Archive(archive::Args),
    Config(config::Args),
}

/// Runs the command that this process was given.
#[must_use]
pub fn main() -> ExitCode {
    process::keep_files_private();
    match parse(std::env::args_os()) {
        Ok((cli, global)) => match dispatch(cli.command, &global) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(),
        },
        Err(error) => {
            // An error on stderr itself cannot be reported.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

/// Reads the command line; its settings may come before and after the command.
fn parse(args: impl IntoIterator<Item = OsString>) -> Result<(Cli, GlobalArgs), clap::Error> {
    let matches = GlobalArgs::on_every(Cli::command()).try_get_matches_from(args)?;
    Ok((Cli::from_arg_matches(&matches)?, GlobalArgs::gather(&matches)?))
}

fn dispatch(command: Command, global: &GlobalArgs) -> Result<(), Failure> {
    let keep_for = match command {
        Command::Replay(_) => replay::MEMORY_RELEASE,
        _ => Duration::ZERO,
    };
    let settings = || {
        let settings = Settings::load(&global.sources());
        settings.inspect(|settings| memory::release_after(settings.memory_release.max(keep_for)))
    };
    match command {
        Command::Seek(args) => seek::main(&args, &settings()?, &mut output::stdout()),
        Command::Subscriptions(args) => {
            subscriptions::main(&args, &settings()?, &mut output::stdout())
        }
        Command::Log(args) => log::main(&args, &settings()?, &mut output::stdout()),
        Command::Replay(args) => replay::main(&args, settings()?, &mut output::stdout()),
        Command::Merge(args) => merge::main(&args, &settings()?, &mut output::stdout()),
        Command::Compact(args) => compact::main(&args, &settings()?, &mut output::stdout()),
        Command::Diff(args) => diff::main(&args, &settings()?, &mut output::stdout()),
        // Needs no valid configuration, so it can help to correct one.
        Command::Config(config::Args { command: config::Command::Reference }) => {
            config::reference(&mut output::stdout())
        }
        Command::Config(config::Args { command: config::Command::Show(args) }) => {
            config::show(&args, &settings()?, &mut output::stdout())
        }
        Command::Generate(args) => generate::main(&args, &mut output::stdout()),
        Command::Run(args) => run::main(&args, settings()?),
        Command::Publish(args) => publish::main(&args, &settings()?, &mut output::stdout()),
        Command::Try(args) => try_events::main(&args, &settings()?, &mut output::stdout()),
        Command::Status(args) => status::main(&args, &settings()?, &mut output::stdout()),
        Command::Check(args) => check::main(&args, &settings()?, &mut output::stdout()),
        #[cfg(feature = "gcp")]
        Command::Setup(args) => setup::main(&args, &settings()?, &mut output::stdout()),
        Command::DeadLetters(args) => dead_letters::main(&args, settings()?, &mut output::stdout()),
        Command::Audit(args) => audit::main(&args, &settings()?, &mut output::stdout()),
        Command::Archive(args) => archive::main(&args, &settings()?, &mut output::stdout()),
        Command::Demo(args) => demo::main(&args, settings()?),
    }
}

#[cfg(test)]
mod tests;
