//! How far the demo is: a bar on a terminal, a line every few seconds elsewhere.

use std::fmt;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};
use kappa_actors::vitals::Reason;

/// How often a line is written where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

const TEMPLATE: &str = "{bar:32} {human_pos} of {human_len} events, {rate}, {msg}";

/// Events a second, without the digits behind the point that `{per_sec}` has.
fn rate(state: &ProgressState, out: &mut dyn fmt::Write) {
    // The bar's own buffer: writing to it cannot go wrong.
    let _ = write!(out, "{}/s", HumanCount(state.per_sec() as u64));
}

/// Shows it on standard error; a bar is gone when this is dropped.
pub(super) enum Progress {
    /// On a terminal.
    Bar(ProgressBar),
    /// Elsewhere.
    Lines {
        /// How many events there are.
        events: u64,
        /// When the last line was written.
        last: Instant,
    },
}

impl Progress {
    /// Of `events`, none done.
    pub(super) fn of(events: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines { events, last: Instant::now() };
        }
        let bar = ProgressBar::new(events);
        // The template is a constant: should it be wrong, the plain bar does too.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.with_key("rate", rate));
        }
        Self::Bar(bar)
    }

    /// Prints `done` acknowledged of `published` events, and the trouble that the daemon waits for, if any.
    pub(super) fn show(&mut self, done: u64, published: u64, trouble: Option<&Reason>) {
        let trouble = trouble.map(|reason| format!("; {reason}")).unwrap_or_default();
        let published = format!("{} published{trouble}", HumanCount(published));
        match self {
            Self::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(published);
            }
            Self::Lines { events, last } if last.elapsed() >= LINE_INTERVAL => {
                *last = Instant::now();
                eprintln!("{} of {} events, {published}", HumanCount(done), HumanCount(*events));
            }
            Self::Lines { .. } => {}
        }
    }
}
