//! In memory: archive_store.
