//! Events a second over the last minute.

use std::collections::VecDeque;
use std::time::Instant;

/// Samples a minute holds when one is taken each second.
const SAMPLES: usize = 60;

/// The readings of one running count, oldest first.
#[derive(Debug, Default)]
pub(super) struct RateWindow(VecDeque<(Instant, u64)>);

impl RateWindow {
    /// Records the count at `now`; a minute later the sample is dropped.
    pub(super) fn sample(&mut self, now: Instant, count: u64) {
        // One more reading than spans.
        if self.0.len() > SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back((now, count));
    }

    /// The mean rate over the readings held, in events a second; 0 before the second reading.
    pub(super) fn per_second(&self) -> f64 {
        let (Some((from, low)), Some((to, high))) = (self.0.front(), self.0.back()) else {
            return 0.0;
        };
        let seconds = to.saturating_duration_since(*from).as_secs_f64();
        if seconds > 0.0 { high.saturating_sub(*low) as f64 / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_rate_drops_samples_older_than_a_minute() {
        let start = Instant::now();
        let mut window = RateWindow::default();
        window.sample(start, 0);
        assert_eq!(window.per_second(), 0.0);
        for second in 1..=30 {
            window.sample(start + Duration::from_secs(second), second * 100);
        }
        assert_eq!(window.per_second(), 100.0);
        for second in 31..=90 {
            window.sample(start + Duration::from_secs(second), 3_000);
        }
        assert_eq!(window.per_second(), 0.0);
    }
}
