//! Cloud Storage as the archive.

mod options;

pub use options::GcsOptions;
