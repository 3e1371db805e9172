//! Windows, parts and manifests: how the archive is laid out and composed.
//!
//! Every line stored in a part comes to stand in a final object, whoever is killed wherever: a
//! part is removed only when its lines stand in a final whose size and checksum were checked. And
//! sealing composes a part once, however many sealers work on the same incarnation at the same
//! time, with listings as old as they like. This is why:
//!
//! - **Turns.** The manifests of an incarnation are numbered. A sealer lists the incarnation's
//!   finals, then its manifests, then its parts. A standing manifest is finished before another is
//!   made. Else the next turn is one above the highest among the finals, which stay for good; and
//!   since a manifest goes last, the parts of all turns before it were gone before the parts were
//!   listed. So what was listed is not composed yet, and goes into the manifest of this turn.
//! - **Sealers collide.** They write the turn's manifest if-absent, and only one can. A sealer so
//!   late that the turn is finished and its manifest removed does write one again. But by then
//!   all the turn's finals stand; a manifest that does not account for them, name by name with
//!   size and checksum, is *stale*: it is abandoned, that is, removed without touching a part.
//! - **Finishers repeat one another.** A manifest fixes names, order and bytes of its finals, and
//!   a final is made if-absent: to finish again, after a kill or side by side, changes nothing. A
//!   finisher that finds a part gone looks at its finals again: parts go only after them, so now
//!   they stand. If they do not, somebody else removed the part, and the manifest is abandoned;
//!   what remains of its parts goes into the next turn, for a line twice is better than none.
//! - **Exact versions.** Parts, intermediates and manifests are read and removed by generation. A
//!   part that comes to stand again, because its writer repeated a put whose answer was lost, is a
//!   new part of the next turn.
//!
//! None of this asks for a clock, a lock or a listing that is a snapshot. It asks that a listing
//! shows what stands throughout it, and hides what was gone before it.

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
