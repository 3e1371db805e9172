//! A background call of an actor, which goes on with its mailbox meanwhile.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};

use futures::FutureExt as _;
use ractor::Message;
use tokio::task::{JoinError, JoinHandle};
use tracing::Instrument as _;

use super::role::Me;

/// Work that is under way beside an actor. Dropping it cancels it, so that it ends with the
/// actor's life.
#[derive(Debug)]
pub struct Errand<T>(JoinHandle<Result<T, Box<dyn Any + Send>>>);

impl<T: Send + 'static> Errand<T> {
    /// Starts it. After any end except a drop, `me` gets the message that `ended` makes.
    pub fn start<M: Message>(
        me: &Me<M>,
        work: impl Future<Output = T> + Send + 'static,
        ended: impl FnOnce() -> M + Send + 'static,
    ) -> Self {
        let remind = me.reminder(ended);
        let work = async move {
            let outcome = AssertUnwindSafe(work).catch_unwind().await;
            remind();
            outcome
        };
        Self(tokio::spawn(work.in_current_span()))
    }

    /// Waits for its outcome. If it panicked, this panics: the claims in the handler are suspect then, as
    /// if the handler had done the work itself.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub async fn outcome(mut self) -> Result<T, JoinError> {
        match (&mut self.0).await? {
            Ok(outcome) => Ok(outcome),
            Err(panic) => resume_unwind(panic),
        }
    }
}

impl<T> Drop for Errand<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
