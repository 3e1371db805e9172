//! Senders with their own token, and how many events each may publish.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The attribute that names an event's sender.
pub(super) const ATTRIBUTE: &str = "sender";

/// One sender.
pub(super) struct Sender {
    pub(super) name: String,
    /// The token's hash.
    pub(super) hash: blake3::Hash,
    rate: Option<Rate>,
}

/// At most so many events a second, on average. A request may take more than the allowance; the next
/// one then waits until the debt is paid.
struct Rate {
    per_second: f64,
    gathered: Mutex<(f64, Instant)>,
}

impl Sender {
    /// A sender that may publish `rate` events a second, or any number.
    pub(super) fn new(name: &str, token: &str, rate: Option<u64>) -> Self {
        let rate = rate.map(|rate| Rate {
            per_second: rate as f64,
            gathered: Mutex::new((rate as f64, Instant::now())),
        });
        Self { name: name.to_owned(), hash: blake3::hash(token.as_bytes()), rate }
    }

    /// Takes `events` from the allowance.
    ///
    /// # Errors
    /// How long to wait first, where earlier requests took more than there was.
    pub(super) fn charge(&self, events: u64) -> Result<(), Duration> {
        let Some(rate) = &self.rate else { return Ok(()) };
        let mut gathered = rate.gathered();
        if gathered.0 <= 0.0 {
            let seconds = (1.0 - gathered.0) / rate.per_second;
            return Err(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
        }
        gathered.0 -= events as f64;
        Ok(())
    }

    /// Gives back the charge for events that were not published.
    pub(super) fn give_back(&self, events: u64) {
        if let Some(rate) = &self.rate {
            rate.gathered().0 += events as f64;
        }
    }
}

impl Rate {
    /// The allowance by now, at most that of a second.
    fn gathered(&self) -> MutexGuard<'_, (f64, Instant)> {
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let more = now.duration_since(gathered.1).as_secs_f64() * self.per_second;
        *gathered = ((gathered.0 + more).min(self.per_second), now);
        gathered
    }
}

/// Without the token's hash.
impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_sender_gets_its_rate_on_average() {
        let sender = Sender::new("shop", "token", Some(100));
        sender.charge(350).unwrap();
        let wait = sender.charge(1).unwrap_err();
        assert_eq!(wait.as_millis(), 2_510, "250 too many take 2.5 s, and one more 10 ms");
        tokio::time::advance(wait).await;
        sender.charge(1).unwrap();
        sender.charge(1).unwrap_err();
        tokio::time::advance(Duration::from_secs(3_600)).await;
        sender.charge(100).unwrap();
        sender.charge(1).unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn events_that_were_not_published_are_not_charged() {
        let sender = Sender::new("shop", "token", Some(10));
        sender.charge(1_000).unwrap();
        sender.give_back(1_000);
        sender.charge(1).unwrap();
    }

    #[tokio::test]
    async fn without_a_rate_there_is_no_limit() {
        let sender = Sender::new("shop", "token", None);
        assert!((0..10).all(|_| sender.charge(u64::MAX).is_ok()));
    }
}
