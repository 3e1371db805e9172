//! Logs: one line an event of the daemon's life, on standard error.
//!
//! Only `main` installs the global parts, the subscriber and the panic hook.

mod panic;

use std::io::{self, IsTerminal};

use serde::Deserialize;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::settings::LoggingSettings;
pub use panic::install_panic_hook;

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error(
        "logging.filter is {filter:?}: {reason}\n\
         hint: a level, or levels by target, as in \"info,kappa_actors=debug\""
    )]
    Filter {
        /// As configured.
        filter: String,
        /// The fault.
        reason: String,
    },
    /// There is a subscriber already.
    #[error("logging is set up already")]
    Installed,
}

/// Logs to standard error from now on, for the whole process. `RUST_LOG` is not read: the key
/// `logging.filter` is the one place.
///
/// # Errors
/// [`TelemetryError`]; nothing is installed then.
pub fn install(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let colour = wants_colour(&io::stderr());
    let subscriber = subscriber(format, filter, colour, io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Installed)
}

/// Configures the log lines of the process by `logging`, and logs a panic as one line.
///
/// # Errors
/// [`TelemetryError`]; nothing is installed then.
pub fn install_for(logging: &LoggingSettings) -> Result<(), TelemetryError> {
    install(logging.format, &logging.filter)?;
    install_panic_hook();
    Ok(())
}

/// Checks a filter without installing anything.
///
/// # Errors
/// [`TelemetryError::Filter`].
pub fn check_filter(filter: &str) -> Result<(), TelemetryError> {
    parse(filter).map(|_| ())
}

/// Whether `stream` should be coloured: it is a terminal, and `NO_COLOR` is unset or empty.
#[must_use]
pub fn wants_colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The spans of the actor library would precede every line, and hold only numbers.
const QUIET: &str = "ractor=warn";

fn parse(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder().parse(format!("{QUIET},{filter}")).map_err(|error| {
        TelemetryError::Filter { filter: filter.to_owned(), reason: error.to_string() }
    })
}

fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    colour: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt()
        .with_env_filter(parse(filter)?)
        .with_writer(writer)
        .with_ansi(colour)
        // A closed standard error must not panic the code that logs.
        .log_internal_errors(false);
    Ok(match format {
        LogFormat::Text => Box::new(lines.finish()),
        LogFormat::Json => {
            Box::new(lines.json().flatten_event(true).with_span_list(false).finish())
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, work: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, filter, false, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, work);
        let written = lines.0.lock().unwrap();
        String::from_utf8(written.clone()).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn every_json_line_is_valid_by_itself() {
        let lines = logged(LogFormat::Json, "info", || {
            let span = tracing::info_span!("handle", actor = "kappa/intake/router");
            let _entered = span.enter();
            tracing::info!(events = 3, text = "quote \" and\nnewline \x1b[2J", "two\nlines");
            tracing::debug!("below the filter");
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!((&line["level"], &line["events"]), (&"INFO".into(), &3.into()));
        assert_eq!(line["message"], "two\nlines");
        assert_eq!(line["span"]["actor"], "kappa/intake/router");
    }

    #[test]
    fn a_panic_is_one_line_with_its_actor_and_no_backtrace() {
        for format in [LogFormat::Json, LogFormat::Text] {
            let lines = logged(format, "info", || {
                let span = tracing::error_span!("handle", actor = "kappa/intake/router");
                span.in_scope(|| panic::log("worker-1", "src/a.rs:1:2", "bad\nevent"));
            });
            assert_eq!(lines.len(), 1, "{lines:?}");
            for part in ["kappa/intake/router", "worker-1", "src/a.rs:1:2", "bad\\nevent"] {
                assert!(lines[0].contains(part), "{part} in {}", lines[0]);
            }
        }
    }

    #[test]
    fn a_backtrace_is_logged_at_debug_level() {
        let lines =
            logged(LogFormat::Json, "kappa::telemetry=debug", || panic::log("main", "", ""));
        assert_eq!(lines.len(), 2, "{lines:?}");
        let line: Value = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!(line["level"], "DEBUG");
        assert!(line["backtrace"].as_str().unwrap().contains("panic"), "{line}");
    }

    #[test]
    fn spans_of_the_actor_library_precede_a_line_only_on_request() {
        for (filter, shown) in [("info", false), ("info,ractor=info", true)] {
            let lines = logged(LogFormat::Text, filter, || {
                let span = tracing::info_span!(target: "ractor::actor", "Actor", id = "0.7");
                span.in_scope(|| tracing::info!("stored"));
            });
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert_eq!(lines[0].contains("Actor{"), shown, "{lines:?}");
        }
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        check_filter("info,kappa_actors=debug").unwrap();
        let error = check_filter("info,kappa=loud").unwrap_err().to_string();
        assert!(error.starts_with("logging.filter is \"info,kappa=loud\": "), "{error}");
    }
}
