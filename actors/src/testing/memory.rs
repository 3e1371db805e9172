//! Backends in memory, with switches for faults.

pub mod archive_store;
pub mod dead_letters;
pub mod event_log;
pub mod warehouse;
pub mod yielding;
