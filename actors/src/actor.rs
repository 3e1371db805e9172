//! The actors, one file each. A file begins with the messages that its actor receives and sends, its state, and the
//! cost of its crash.
//!
//! Actors exchange batches of a few hundred claims, never single events: at that size the cost of a hop cannot be
//! measured.

pub mod archive;
pub mod dead_letter;
pub mod parser;
pub mod processor;
pub mod reader;
pub mod router;
pub mod writer;
