//! Closes the files of the ports without delaying the daemon.
//!
//! Closing one waits for its thread, which may wait for another process's lock. Uncommitted rows are not
//! acknowledged, so ending without them loses no event.

use std::time::Duration;

use kappa_actors::pipeline::Ports;
use kappa_actors::port::LogError;
use tokio::sync::oneshot;

/// How long a stop waits for the files to be closed.
const CLOSING: Duration = Duration::from_secs(1);

/// Keeps the files open, so that no other owner has to close them.
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

/// Drops the ports, and then `done`, on a thread of its own.
fn close_aside(ports: Option<Ports>, done: impl Send + 'static) {
    if let Some(ports) = ports {
        std::thread::spawn(move || {
            drop(ports);
            drop(done);
        });
    }
}
