//! How far a replay is: a bar on a terminal, a line every ten seconds elsewhere.

use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::cli::output::{count, grouped, tell};
use crate::replay;

/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(10);

/// Steps of the bar.
const STEPS: u64 = 1_000;

/// The display.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    began: Instant,
    told: Mutex<Instant>,
}

impl Progress {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(STEPS);
            // A template that is no template would show as the default one.
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent}%  {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, began: now, told: Mutex::new(now) }
    }

    /// Shows that so many events are done.
    pub(super) fn at(&self, progress: &replay::Progress, done: u64) {
        let elapsed = self.began.elapsed();
        let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
        let left = time_left(elapsed, progress.share);
        let left =
            left.map(|left| format!(", {:#} to go", HumanDuration(left))).unwrap_or_default();
        if let Some(bar) = &self.bar {
            bar.set_position((progress.share * STEPS as f64) as u64);
            let events = grouped(done);
            bar.set_message(format!("{events} events  {}/s{left}", grouped(rate as u64)));
            return;
        }
        let Ok(mut told) = self.told.lock() else { return };
        if told.elapsed() >= LINE {
            *told = Instant::now();
            let percent = (progress.share * 100.0) as u64;
            tell("replay", &format!("{percent}%, {}, {rate:.0}/s{left}", count(done, "event")));
        }
    }

    /// A line on stderr, above the display.
    pub(super) fn say(&self, label: &str, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| tell(label, text)),
            None => tell(label, text),
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How long the rest takes if it goes on so; unknown before anything is read.
fn time_left(elapsed: Duration, share: f64) -> Option<Duration> {
    let left = elapsed.as_secs_f64() * (1.0 - share) / share;
    (share > 0.0).then(|| Duration::try_from_secs_f64(left.max(0.0)).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_the_bytes_read() {
        let left = |share| time_left(Duration::from_secs(30), share);
        assert_eq!(left(0.0), None);
        assert_eq!(left(0.25), Some(Duration::from_secs(90)));
        assert_eq!(left(1.0), Some(Duration::ZERO));
    }
}
