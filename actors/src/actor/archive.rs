//! The archive's actors: the keeper, one actor for each open window, and the recovery.

mod directory;
mod keeper;
mod recovery;
mod window;

pub use directory::Directory;
pub use keeper::{Keeper, KeeperMessage, KeeperPorts};
pub use recovery::{Recovery, RecoveryMessage, Sweep};
pub use window::{WindowActor, WindowMessage, WindowPorts};
