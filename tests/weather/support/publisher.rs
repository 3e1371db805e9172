//! A publisher: this process, while the daemon is another.

use std::path::Path;
use std::time::Duration;

use kappa::backend::embedded::log::{EmbeddedLog, LogOptions};
use kappa_actors::message::NewMessage;
use kappa_actors::port::EventLog;
use tokio::runtime::{Builder, Runtime};

use super::events::Published;

/// The log of a data folder, and a runtime to ask it on.
pub(crate) struct Publisher {
    log: EmbeddedLog,
    runtime: Runtime,
}

impl Publisher {
    pub(crate) fn open(data_dir: &Path) -> Self {
        let options = LogOptions {
            max_in_flight: 45_000,
            subscription: "kappa".to_owned(),
            subscription_life: None,
            max_age: Duration::from_secs(7 * 86_400),
            max_unused: None,
            max_bytes: 10 << 30,
            // Larger than the daemon's limit, so that oversized events reach it.
            max_event_bytes: 100 << 20,
        };
        std::fs::create_dir_all(data_dir).unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        Self { log: EmbeddedLog::open(data_dir, options).unwrap(), runtime }
    }

    /// Publishes in one commit.
    pub(crate) fn publish(&self, events: &[Published]) {
        let messages =
            events.iter().map(|event| NewMessage::from_payload(event.payload.clone())).collect();
        for outcome in self.runtime.block_on(self.log.publish(messages)) {
            outcome.unwrap();
        }
    }

    /// Messages not acknowledged.
    pub(crate) fn backlog(&self) -> u64 {
        self.runtime.block_on(self.log.backlog()).unwrap().messages.unwrap()
    }
}
