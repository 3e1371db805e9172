//! The files behind the ports, closed without keeping the daemon waiting.
//!
//! Closing one waits for its thread, which may be waiting for another process's lock. What is not
//! committed by then is not acknowledged either, so nothing is lost by ending without it.

use std::time::Duration;

use kappa_actors::pipeline::Ports;
use kappa_actors::port::LogError;
use tokio::sync::oneshot;

/// How long a stop waits for the files to be closed.
const CLOSING: Duration = Duration::from_secs(1);

/// Keeps the files open, so that nobody else has to close them.
#[derive(Debug)]
pub(crate) struct Files(Option<Ports>);

impl Files {
    /// The files behind these ports.
    pub(crate) fn of(ports: &Ports) -> Self {
        Self(Some(ports.clone()))
    }

    /// Describes the faults of the log for which messages could not be handed out.
    pub(crate) async fn held_up(&self) -> Result<Vec<String>, LogError> {
        let Some(ports) = &self.0 else { return Ok(Vec::new()) };
        let faults = ports.log.faults().await?.into_iter();
        Ok(faults.filter(|fault| fault.waiting > 0).map(|fault| fault.reason).collect())
    }

    /// Closes them; gives up waiting after a while.
    pub(crate) async fn close(mut self) {
        let (closed, is_closed) = oneshot::channel::<()>();
        close_aside(self.0.take(), closed);
        let _ = tokio::time::timeout(CLOSING, is_closed).await;
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        close_aside(self.0.take(), ());
    }
}

/// Drops the ports, and then `told`, on a thread of its own.
fn close_aside(ports: Option<Ports>, told: impl Send + 'static) {
    if let Some(ports) = ports {
        std::thread::spawn(move || {
            drop(ports);
            drop(told);
        });
    }
}
