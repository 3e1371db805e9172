//! Cloud Storage as the archive.
