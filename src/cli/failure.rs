//! How a command ends that is not done.

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::settings::{Problem, Problems};
use crate::visible;

/// Why a command is not done.
#[derive(Debug)]
pub enum Failure {
    /// Wrong usage or configuration: exit code 2.
    Refused(Problems),
    /// The requested answer is exit code 1, without a message.
    Differs,
    /// Anything else: exit code 1.
    Failed {
        /// What happened.
        error: anyhow::Error,
        /// What to do about it, where there is something.
        hint: Option<String>,
    },
}

impl Failure {
    /// A failure with a hint.
    #[must_use]
    pub fn with_hint(error: impl Into<anyhow::Error>, hint: impl Into<String>) -> Self {
        Self::Failed { error: error.into(), hint: Some(hint.into()) }
    }

    /// Tells the user on stderr, and gives the process's exit code.
    pub(super) fn report(&self) -> ExitCode {
        if self.is_broken_pipe() {
            return ExitCode::SUCCESS;
        }
        match self {
            Self::Differs => ExitCode::FAILURE,
            Self::Refused(Problems(problems)) => {
                for Problem { hint, .. } in
                    problems.iter().inspect(|problem| print("error", problem))
                {
                    hint.iter().for_each(|hint| print("hint", hint));
                }
                ExitCode::from(2)
            }
            Self::Failed { error, hint } => {
                print("error", &chain(error));
                hint.iter().for_each(|hint| print("hint", hint));
                ExitCode::FAILURE
            }
        }
    }

    /// Returns whether the reader of the output has closed it.
    fn is_broken_pipe(&self) -> bool {
        let Self::Failed { error, .. } = self else { return false };
        let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
        kinds.map(io::Error::kind).any(|kind| kind == io::ErrorKind::BrokenPipe)
    }
}

/// The error and its causes, but those whose words an earlier one repeats.
fn chain(error: &anyhow::Error) -> String {
    let mut told = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

/// Writes one line to stderr; colours are left out where they are not wanted.
fn print(label: &str, text: &dyn std::fmt::Display) {
    let colour = if label == "error" { "\x1b[1;31m" } else { "\x1b[1;36m" };
    // An error on stderr itself cannot be reported.
    let text = text.to_string();
    let text = visible::lines(&text);
    let _ = writeln!(anstream::stderr(), "{colour}{label}:\x1b[0m {text}");
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Refused(problems)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed { error, hint: None }
    }
}

impl From<crate::telemetry::TelemetryError> for Failure {
    fn from(error: crate::telemetry::TelemetryError) -> Self {
        anyhow::Error::from(error).into()
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        anyhow::Error::from(error).into()
    }
}
