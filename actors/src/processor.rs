//! Processors: events into rows.
