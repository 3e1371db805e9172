//! The longer wait after a quota error: asking soon again makes it last.

use std::time::Duration;

use tokio::time::Instant;

/// When a table may be written again.
#[derive(Debug)]
pub(super) struct Pause {
    first: Duration,
    longest: Duration,
    next: Duration,
    until: Option<(Instant, String)>,
}

impl Pause {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first, until: None }
    }

    /// Starts a pause, twice as long as the previous one. A pause that holds already is not extended: writes in flight
    /// together meet one quota.
    pub(super) fn start(&mut self, why: &str) {
        if self.holds().is_some() {
            return;
        }
        self.until = Some((Instant::now() + self.next, why.to_owned()));
        self.next = (self.next * 2).min(self.longest);
    }

    /// Why nothing may be sent now, if it may not.
    pub(super) fn holds(&self) -> Option<String> {
        let (until, why) = self.until.as_ref()?;
        let left = until.checked_duration_since(Instant::now())?;
        let left = humantime::format_duration(Duration::from_secs(left.as_secs() + 1));
        Some(format!("{why}; a quota is waited for, {left} more"))
    }

    /// Ends a pause after rows were taken. Rows that were in flight when it began do not end it.
    pub(super) fn end(&mut self) {
        if self.holds().is_some() {
            return;
        }
        self.next = self.first;
        self.until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pause_doubles_with_each_refusal_and_not_with_each_refused_request() {
        let second = Duration::from_secs(1);
        let mut pause = Pause::new(second, 10 * second);
        for length in [1, 2, 4] {
            let started = Instant::now();
            for _ in 0..4 {
                pause.start("too much");
                // One that was sent before.
                pause.end();
            }
            while pause.holds().is_some() {
                tokio::time::advance(second / 10).await;
            }
            let lasted = started.elapsed();
            assert!(
                (length * second..length * second + second / 2).contains(&lasted),
                "{lasted:?}"
            );
        }
        pause.end();
        assert_eq!(pause.holds(), None);
    }
}
