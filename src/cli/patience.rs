//! Publishes through bad weather: a log that is full or unavailable is waited for, for a while.

use std::time::Duration;

use kappa_actors::message::NewMessage;
use kappa_actors::port::{EventLog, PublishError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The first pause before a message is published again; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest such pause: soon enough after the daemon has made room.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long is waited while the log takes nothing at all: longer than a daemon takes to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the outcomes of a call to [`publish`] read.
pub(super) type Outcomes = Vec<Result<String, PublishError>>;

/// Publishes all, in their order, and repeats those that a full or unavailable log did not take, until it
/// has taken nothing for 30 seconds or `stop` is cancelled. One outcome for each message, in the
/// same order; `waits` hears of the first fault of each wait.
pub(super) async fn publish(
    log: &dyn EventLog,
    messages: &[NewMessage],
    stop: &CancellationToken,
    waits: impl Fn(&str),
) -> Outcomes {
    if messages.is_empty() {
        return Vec::new();
    }
    let mut outcomes = log.publish(messages.to_vec()).await;
    let mut pause = FIRST_PAUSE;
    let mut since = Instant::now();
    loop {
        let waiting = indexes_to_repeat(&outcomes);
        let Some(Err(why)) = waiting.first().map(|&first| &outcomes[first]) else {
            return outcomes;
        };
        if pause == FIRST_PAUSE {
            let patience = PATIENCE.as_secs();
            waits(&format!("{why}; trying again for {patience} seconds"));
        }
        if stop.is_cancelled() || since.elapsed() >= PATIENCE {
            return outcomes;
        }
        // When the command is stopped, one last attempt.
        let _ = tokio::time::timeout(pause, stop.cancelled()).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        let again = waiting.iter().map(|&index| messages[index].clone()).collect();
        for (&index, outcome) in waiting.iter().zip(log.publish(again).await) {
            if outcome.is_ok() {
                since = Instant::now();
            }
            outcomes[index] = outcome;
        }
    }
}

/// Which messages may be taken later.
fn indexes_to_repeat(outcomes: &Outcomes) -> Vec<usize> {
    let later = |outcome: &Result<_, _>| {
        matches!(outcome, Err(PublishError::Full(_) | PublishError::Unavailable(_)))
    };
    (0..outcomes.len()).filter(|&index| later(&outcomes[index])).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use kappa_actors::message::Lease;
    use kappa_actors::port::{Backlog, LogError, Pulled, Room, Sought};
    use kappa_actors::time::Timestamp;

    use super::*;

    /// A log with room for some messages, and for some more after each refusal; it refuses `bad`
    /// for good.
    struct Tight {
        room: Mutex<usize>,
        more: usize,
        taken: Mutex<Vec<NewMessage>>,
    }

    impl Tight {
        fn with_room(room: usize, more: usize) -> Self {
            Self { room: Mutex::new(room), more, taken: Mutex::default() }
        }

        fn take(&self, message: NewMessage) -> Result<String, PublishError> {
            if message.payload == "bad" {
                return Err(PublishError::Refused("bad".to_owned()));
            }
            let mut room = self.room.lock().unwrap();
            *room = room.checked_sub(1).ok_or(PublishError::Full("0 left".to_owned()))?;
            self.taken.lock().unwrap().push(message);
            Ok("id".to_owned())
        }

        fn taken(&self) -> Vec<NewMessage> {
            self.taken.lock().unwrap().clone()
        }
    }

    #[async_trait]
    impl EventLog for Tight {
        async fn publish(&self, messages: Vec<NewMessage>) -> Outcomes {
            let outcomes: Outcomes = messages.into_iter().map(|it| self.take(it)).collect();
            *self.room.lock().unwrap() += self.more;
            outcomes
        }
        async fn pull(&self, _: Room, _: Duration) -> Result<Pulled, LogError> {
            Ok(Pulled::End)
        }
        async fn acknowledge(&self, _: &[Lease]) -> Result<(), LogError> {
            Ok(())
        }
        async fn give_back(&self, _: &[Lease]) -> Result<(), LogError> {
            Ok(())
        }
        async fn seek(&self, _: Timestamp) -> Result<Sought, LogError> {
            Ok(Sought { messages: None })
        }
        async fn backlog(&self) -> Result<Backlog, LogError> {
            Ok(Backlog::default())
        }
    }

    fn messages(payloads: &[&'static str]) -> Vec<NewMessage> {
        payloads.iter().map(|payload| NewMessage::from_payload(*payload)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_log_is_waited_for_and_takes_each_message_once_and_in_order() {
        let (log, all) = (Tight::with_room(2, 1), messages(&["1", "2", "3", "4", "5"]));
        let told = Mutex::new(Vec::new());
        let tell = |text: &str| told.lock().unwrap().push(text.to_owned());
        let outcomes = publish(&log, &all, &CancellationToken::new(), tell).await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert_eq!(log.taken(), all);
        let text = "the event log is full: 0 left; trying again for 30 seconds";
        assert_eq!(told.into_inner().unwrap(), [text]);
    }

    #[tokio::test(start_paused = true)]
    async fn refused_messages_are_not_tried_again_and_do_not_delay_others() {
        let (log, all) = (Tight::with_room(9, 0), messages(&["1", "bad", "2"]));
        let outcomes = publish(&log, &all, &CancellationToken::new(), |_| ()).await;
        assert_eq!(log.taken(), messages(&["1", "2"]));
        assert!(matches!(outcomes[1], Err(PublishError::Refused(_))), "{outcomes:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_timeout_the_missing_messages_are_named() {
        let (log, all) = (Tight::with_room(1, 0), messages(&["1", "2"]));
        let begun = Instant::now();
        let outcomes = publish(&log, &all, &CancellationToken::new(), |_| ()).await;
        assert!(matches!(outcomes[..], [Ok(_), Err(PublishError::Full(_))]), "{outcomes:?}");
        assert!(begun.elapsed() >= PATIENCE && begun.elapsed() < 2 * PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_waiting_at_once() {
        let (log, all) = (Tight::with_room(0, 0), messages(&["1"]));
        let (begun, stop) = (Instant::now(), CancellationToken::new());
        stop.cancel();
        assert!(publish(&log, &all, &stop, |_| ()).await[0].is_err());
        assert!(begun.elapsed() < FIRST_PAUSE);
    }
}
