//! Backends in memory, which can be told to misbehave.

pub mod archive_store;
pub mod dead_letters;
pub mod event_log;
pub mod warehouse;
pub mod yielding;
