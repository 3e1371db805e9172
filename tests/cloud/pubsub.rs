//! Pub/Sub as the event log.
