//! Actors that may die: addresses that outlive them, the shell they run in, and the supervisors
//! that start them again.
//!
//! ractor stops a supervisor with any of its children, gives a restarted actor a new reference,
//! and bounds no mailbox. Here a supervisor restarts the child that died, others reach a child
//! by its [`Address`], which stays valid, and the [`Account`](crate::delivery::Account) bounds the
//! contents of mailboxes.

mod address;
mod child;
mod errand;
mod restart;
mod role;
mod supervisor;

pub use address::Address;
pub use child::{Child, group, worker};
pub use errand::Errand;
pub use restart::Backoff;
pub use role::{Me, Role, RoleError};
pub use supervisor::{Order, Spent, Supervisor};

#[cfg(test)]
mod tests;
