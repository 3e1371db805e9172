//! How results are written: tables on a terminal, plain lines in a pipe, JSON where it is asked for.

use std::io::{IsTerminal as _, Stdout, Write as _};

pub(super) use crate::status::client::Format;
pub(super) use crate::status::client::render::{grouped, table};
use crate::telemetry::wants_colour;
use crate::visible::{self, Visible};
pub(super) use crate::visible::{cell, one_line};

/// Where results go.
pub(super) fn stdout() -> Visible<Stdout> {
    let out = std::io::stdout();
    let is_terminal = out.is_terminal();
    Visible::new(out, is_terminal)
}

/// How this process's standard output wants it.
pub(super) fn format(json: bool) -> Format {
    let out = std::io::stdout();
    if json {
        Format::Json
    } else if out.is_terminal() {
        Format::Table { colour: wants_colour(&out) }
    } else {
        Format::Plain
    }
}

/// Says something on stderr that is neither a result nor an error.
pub(super) fn tell(label: &str, text: &str) {
    // An error on stderr itself cannot be reported.
    let text = visible::lines(text);
    let _ = writeln!(anstream::stderr(), "\x1b[1;33m{label}:\x1b[0m {text}");
}

/// `1 event`, `2000 events`: digits as scripts read them.
pub(super) fn count(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// The text, or a dash where there is none: a field of a plain line is never empty.
pub(super) fn or_dash(text: Option<&str>) -> String {
    match text {
        Some(text) if !text.is_empty() => one_line(text),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_thing_is_not_many() {
        let counts = [0, 1, 2_000].map(|n| count(n, "event"));
        assert_eq!(counts, ["0 events", "1 event", "2000 events"]);
    }

    #[test]
    fn a_field_is_never_empty_and_never_breaks_its_line() {
        assert_eq!([None, Some(""), Some("a\nb")].map(or_dash), ["-", "-", "a b"]);
    }
}
