//! The event log: SQLite.
