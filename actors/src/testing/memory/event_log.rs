//! In memory: event_log.
