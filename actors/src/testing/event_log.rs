//! Conformance: event_log.
