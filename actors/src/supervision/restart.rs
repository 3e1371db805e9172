//! When a child that died is started again: a budget within a window, and a pause that grows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;

use crate::delivery::{Crash, doubled};
use crate::settings::RestartPolicy;

/// The restarts of one child.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    recent: VecDeque<Restart>,
}

/// One restart: when it was charged, and the crash before it, if that was one.
#[derive(Debug)]
struct Restart {
    at: Instant,
    crash: Option<Arc<Crash>>,
}

impl Restart {
    /// Returns whether the failure counts against the actor. An event in hand may turn out to be the cause later, so the
    /// past is judged again each time.
    fn counts(&self) -> bool {
        !self.crash.as_ref().is_some_and(Crash::is_excused)
    }
}

impl Restarts {
    /// Charges one restart at `now`. Returns the pause before it, or `None` when the budget is spent.
    ///
    /// Failures that an event caused do not count: poison in every batch would otherwise spend any budget.
    pub(super) fn charge(
        &mut self,
        policy: &RestartPolicy,
        now: Instant,
        crash: Option<&Arc<Crash>>,
    ) -> Option<Duration> {
        while self.recent.front().is_some_and(|one| now.duration_since(one.at) >= policy.window) {
            self.recent.pop_front();
        }
        let before = self.recent.iter().filter(|one| one.counts()).count();
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        if before >= policy.budget {
            return None;
        }
        self.recent.push_back(Restart { at: now, crash: crash.cloned() });
        Some(jittered(doubled(policy.backoff, before, policy.max_backoff)))
    }
}

/// A pause that doubles from one failure to the next, until a success.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Pauses from `first` to `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// Counts a failure; the pause before the next try.
    pub fn failed(&mut self) -> Duration {
        let pause = doubled(self.first, self.failures, self.longest);
        self.failures = self.failures.saturating_add(1);
        jittered(pause)
    }

    /// The next failure is a first one.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// Returns between three quarters of the pause and all of it, so that actors that failed together do not start
/// together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.75..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(budget: u32) -> RestartPolicy {
        RestartPolicy {
            budget,
            window: Duration::from_secs(60),
            backoff: Duration::from_millis(10),
            max_backoff: Duration::from_millis(40),
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut restarts = Restarts::default();
        let now = Instant::now();
        for expected in [10, 20, 40, 40] {
            let pause = restarts.charge(&policy(9), now, None).unwrap();
            let expected = Duration::from_millis(expected);
            assert!(pause <= expected && pause >= expected.mul_f64(0.75), "{pause:?}");
        }
    }

    #[test]
    fn a_spent_budget_comes_back_with_time() {
        let mut restarts = Restarts::default();
        let now = Instant::now();
        assert!(restarts.charge(&policy(1), now, None).is_some());
        assert!(restarts.charge(&policy(1), now + Duration::from_secs(59), None).is_none());
        assert!(restarts.charge(&policy(1), now + Duration::from_secs(60), None).is_some());
    }
}
