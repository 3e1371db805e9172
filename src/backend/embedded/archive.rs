//! The archive store: a local folder.
