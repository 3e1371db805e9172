#![doc = include_str!("archive/README.md")]

mod annotated;
mod compression;
mod finish;
mod incarnation;
mod index;
mod line;
mod manifest;
mod name;
mod objects;
mod part;
mod seal;
mod unfinished;
mod window;

pub use compression::Compression;
pub use finish::{Finished, finish};
pub use incarnation::{Incarnation, NotAnIncarnation};
pub use index::{IndexedFinal, Indexes, Tally, indexes_between};
pub use line::{ArchivedEvent, LineError, LineFormat, Origin};
pub use manifest::{Final, Limits, Manifest, Sealed, Source};
pub use name::{FinalName, IndexName, ManifestName, OtherName, PartName};
pub use objects::{ArchiveObject, objects_between, requeued_objects};
pub use part::{EncodedPart, Part, StorePartError, store_part};
pub use seal::{SealError, close, seal};
pub use unfinished::{Unfinished, unfinished};
pub use window::{NotAWindow, WINDOW, Window};

#[cfg(test)]
mod tests;
