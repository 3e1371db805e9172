//! The embedded log, filled before the daemon starts or beside it.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use kappa::backend::embedded::log::{EmbeddedLog, LogOptions};
use kappa::generate::Ids;
use kappa_actors::message::NewMessage;
use kappa_actors::port::EventLog;
use tokio::runtime::Runtime;

use crate::load::generator;

/// Opens the log in `data`, for publishing.
pub fn log_in(data: &Path) -> EmbeddedLog {
    let options = LogOptions {
        max_in_flight: 45_000,
        subscription: "kappa".to_owned(),
        subscription_life: None,
        max_age: Duration::from_secs(7 * 86_400),
        max_unused: None,
        max_bytes: 1 << 40,
        max_event_bytes: 10 << 20,
    };
    EmbeddedLog::open(data, options).unwrap()
}

/// Publishes `count` events into the log of `data`.
pub fn publish(data: &Path, count: u64, ids: Ids) {
    let log = log_in(data);
    let runtime = Runtime::new().unwrap();
    let mut events = generator(ids);
    let mut left = count;
    while left > 0 {
        let batch = left.min(5_000);
        let mut messages = Vec::new();
        for _ in 0..batch {
            let mut payload = Vec::new();
            events.write_next(&mut payload);
            messages.push(NewMessage::from_payload(Bytes::from(payload)));
        }
        runtime.block_on(log.publish(messages)).into_iter().for_each(|one| drop(one.unwrap()));
        left -= batch;
    }
}
