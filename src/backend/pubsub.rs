//! Pub/Sub as the event log.

mod options;

pub use options::PubSubOptions;
