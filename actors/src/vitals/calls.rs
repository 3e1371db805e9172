//! The calls on a backend that one caller is waiting for.
//!
//! Every call behind a port is entered here while it lasts. The watchdog counts how long the oldest
//! one is without an answer. Only an answer resets that time: a caller that gives up, or dies, and
//! calls again is still waiting for the first answer. While no caller waits, the time counts down.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::lock;

/// Reports whether a call may wait for longer at the moment.
pub(crate) type MayWait = Arc<dyn Fn() -> bool + Send + Sync>;

/// The calls of one caller: an actor, or a task beside the actors.
#[derive(Debug, Default)]
pub struct Calls(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Calls without an answer by number, so the oldest is the first.
    in_flight: BTreeMap<u64, Call>,
    /// Calls so far.
    begun: u64,
    answered: u64,
    /// How long the oldest call, and those before it that were given up, had no answer.
    silent_for: Duration,
    /// The oldest call when that was counted last.
    silent: &'static str,
    panicked: bool,
}

struct Call {
    name: &'static str,
    may_wait: Option<MayWait>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The state of a caller for the watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    /// The call that has no answer.
    pub(super) call: &'static str,
    /// For how long.
    pub(super) lasting: Duration,
    /// Whether any call is waiting for its answer now.
    pub(super) is_waiting: bool,
    /// Calls answered so far.
    pub(super) answered: u64,
}

impl Calls {
    /// Waits for the answer to a call. Dropping this future gives the call up.
    pub async fn watch<T>(&self, name: &'static str, call: impl Future<Output = T>) -> T {
        self.watch_unless(None, name, call).await
    }

    /// Like [`Self::watch`], but time does not count while `may_wait` is true.
    pub(crate) async fn watch_unless<T>(
        &self,
        may_wait: Option<MayWait>,
        name: &'static str,
        call: impl Future<Output = T>,
    ) -> T {
        let mut in_flight = self.begin(Call { name, may_wait });
        let answer = call.await;
        in_flight.is_answered = true;
        answer
    }

    fn begin(&self, call: Call) -> InFlight<'_> {
        let mut state = lock(&self.0);
        state.begun += 1;
        let number = state.begun;
        state.in_flight.insert(number, call);
        InFlight { calls: self, number, is_answered: false }
    }

    /// Whether a call panicked since the last question.
    pub(crate) fn take_panic(&self) -> bool {
        std::mem::take(&mut lock(&self.0).panicked)
    }

    /// Adds `step` to the time that the oldest call has no answer.
    pub(super) fn count(&self, step: Duration) -> Silence {
        let mut state = lock(&self.0);
        let oldest = state.in_flight.first_key_value();
        let oldest = oldest.map(|(_, call)| (call.name, call.may_wait.clone()));
        if let Some((name, may_wait)) = &oldest
            && !may_wait.as_ref().is_some_and(|may_wait| may_wait())
        {
            state.silent = name;
            state.silent_for += step;
        }
        if oldest.is_none() {
            state.silent_for = state.silent_for.saturating_sub(step);
        }
        Silence {
            call: state.silent,
            lasting: state.silent_for,
            is_waiting: oldest.is_some(),
            answered: state.answered,
        }
    }
}

/// A call without an answer, until it is dropped.
struct InFlight<'a> {
    calls: &'a Calls,
    number: u64,
    is_answered: bool,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.calls.0);
        let is_oldest = state.in_flight.keys().next() == Some(&self.number);
        state.in_flight.remove(&self.number);
        let panicked = !self.is_answered && std::thread::panicking();
        state.panicked |= panicked;
        if self.is_answered || panicked {
            state.answered += 1;
            if is_oldest {
                state.silent_for = Duration::ZERO;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use futures::FutureExt as _;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lasting(calls: &Calls) -> u64 {
        calls.count(SECOND).lasting.as_secs()
    }

    #[test]
    fn only_an_answer_resets_the_time_of_the_oldest_call() {
        let calls = Calls::default();
        assert_eq!(lasting(&calls), 0, "nothing is asked");
        let mut first = Box::pin(calls.watch("write", pending::<()>()));
        assert!(first.as_mut().now_or_never().is_none());
        assert_eq!((lasting(&calls), lasting(&calls)), (1, 2));

        calls.watch("write", ready(())).now_or_never().unwrap();
        assert_eq!(lasting(&calls), 3, "the answer to a later call proves nothing of the first");
        drop(first);
        let mut second = Box::pin(calls.watch("write", pending::<()>()));
        assert!(second.as_mut().now_or_never().is_none());
        assert_eq!(lasting(&calls), 4, "the next call waits for the same answer");
        drop(second);
        assert_eq!(lasting(&calls), 3, "no caller waits");
        calls.watch("write", ready(())).now_or_never().unwrap();
        assert_eq!(lasting(&calls), 0);
    }

    #[test]
    fn a_call_that_waits_its_turn_ages_only_once_it_is_the_oldest() {
        let calls = Calls::default();
        let (answer, answered) = tokio::sync::oneshot::channel();
        let mut first = Box::pin(calls.watch("write", answered));
        let mut second = Box::pin(calls.watch("write", pending::<()>()));
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        assert_eq!(lasting(&calls), 1);
        answer.send(()).unwrap();
        first.now_or_never().unwrap().unwrap();
        assert_eq!(lasting(&calls), 1);
    }

    #[test]
    fn time_does_not_count_while_a_call_may_wait() {
        let calls = Calls::default();
        let may_wait = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&may_wait);
        let excuse: MayWait = Arc::new(move || asked.load(Relaxed));
        let mut pull = Box::pin(calls.watch_unless(Some(excuse), "pull", pending::<()>()));
        assert!(pull.as_mut().now_or_never().is_none());
        assert_eq!(lasting(&calls), 0);
        may_wait.store(false, Relaxed);
        assert_eq!(lasting(&calls), 1);
    }

    #[test]
    fn a_panic_of_a_call_is_reported_once() {
        let calls = Calls::default();
        let call = calls.watch("write", async { panic!("the client choked") });
        let outcome: Result<(), _> =
            std::panic::AssertUnwindSafe(call).catch_unwind().now_or_never().unwrap();
        assert!(outcome.is_err());
        assert!(calls.take_panic());
        assert!(!calls.take_panic());
        assert_eq!(lasting(&calls), 0);
    }
}
