//! The actors, a file each: what it receives, sends and owns, and what its crash costs.
//!
//! They exchange batches of claims, a few hundred at a time, never single events: at that size a
//! hop costs nothing that can be measured.

pub mod archive;
pub mod dead_letter;
pub mod parser;
pub mod processor;
pub mod reader;
pub mod router;
pub mod writer;
