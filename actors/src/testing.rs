//! What tests need: one conformance suite a port, and backends in memory.

pub mod archive_store;
pub mod event_log;
pub mod memory;
pub mod reprocessing;
pub mod warehouse;
