//! How far a publish is, for people who watch it. Shown on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::output::{grouped, tell};
use crate::cli::source::Source;

/// How often the display changes though nothing comes: a sign of life.
const TICK: Duration = Duration::from_millis(200);

/// A bar where the size is known, otherwise a count.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// For the source; none where its lines are being typed.
    pub(super) fn new(source: &Source) -> Self {
        if source.is_terminal {
            return Self(ProgressBar::hidden());
        }
        let (bar, template) = match source.bytes {
            Some(bytes) => (
                ProgressBar::new(bytes),
                "{bar:30} {percent}%  {msg}  {bytes_per_sec}, {eta} to go",
            ),
            None => (ProgressBar::no_length(), "{spinner} {msg}  {bytes_per_sec}, {elapsed}"),
        };
        // A template that is no template would show as the default one.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Bytes read and events published so far.
    pub(super) fn at(&self, position: u64, published: u64) {
        self.0.set_position(position);
        self.0.set_message(format!("{} published", grouped(published)));
    }

    /// A line on stderr, above the display.
    pub(super) fn say(&self, label: &str, text: &str) {
        self.0.suspend(|| tell(label, text));
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
