//! Conformance: archive_store.
