//! The actors of Kappa, and everything they promise.
//!
//! Start reading at [`delivery`]: what it says about deliveries and claims is what makes an
//! acknowledged event a durable one. The three ports in [`port`] are all this crate knows of the
//! world; it has no cloud, HTTP or command-line dependency.

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
