//! The actors of kappa and their guarantees.
//!
//! Start reading at [`delivery`]: its rules on deliveries and claims make every acknowledged event durable. The crate
//! reaches the world through the traits in [`port`] only; it has no cloud, HTTP or command-line dependency.

pub mod actor;
pub mod archive;
pub mod audit;
pub mod dead_letter_table;
pub mod delivery;
pub mod envelope;
pub mod fault_class;
mod json;
pub mod message;
pub mod pipeline;
pub mod port;
pub mod position;
pub mod processor;
pub mod replay;
pub mod row;
pub mod settings;
pub mod supervision;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;
pub mod version;
pub mod vitals;
