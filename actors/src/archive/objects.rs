//! Lists the objects that a reader of the archive needs.

use std::collections::BTreeSet;

use super::incarnation::REQUEUE;
use super::name::{self, FinalName, PartName};
use super::seal::{self, SealError};
use super::{Compression, LineFormat, Window};
use crate::port::{ArchiveStore, ObjectInfo, StoreError};
use crate::time::Timestamp;

/// An object that holds event lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveObject {
    /// The window its events were published in.
    pub window: Window,
    /// Its name.
    pub name: String,
    /// What its lines hold.
    pub format: LineFormat,
    /// How it is compressed.
    pub compression: Compression,
    /// How many lines it has, if its name holds it: a part's does, a final's index does.
    pub lines: Option<u64>,
    /// Its size in bytes.
    pub size: u64,
}

/// Lists the finals, and the parts that are not composed yet, of all windows that overlap `[from, to)`, in the order
/// of windows and names.
///
/// A part may be composed before it is read. When a part is gone, its lines are in a final: list again.
///
/// # Errors
/// [`SealError`]: list again later.
pub async fn objects_between(
    store: &dyn ArchiveStore,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<ArchiveObject>, SealError> {
    if from >= to {
        return Ok(Vec::new());
    }
    // Parts before finals: a part that is composed in between is listed twice, never missed.
    let parts = store.list(name::PARTS).await?;
    let finals = store.list(&shared_prefix(name::EVENTS, from, to)).await?;
    let composed = composed(store, &finals).await?;
    let waiting = parts.into_iter().filter(|info| !composed.contains(&info.name));
    let mut objects: Vec<_> = waiting
        .filter_map(part)
        .chain(finals.into_iter().filter_map(finished))
        .filter(|object| object.window.start() < to && object.window.end() > from)
        .collect();
    objects.sort_by(|a, b| (a.window, &a.name).cmp(&(b.window, &b.name)));
    Ok(objects)
}

/// The objects of a window that requeues wrote, and few others.
///
/// When one turns out to be gone, its lines are in a final by then, so ask again.
///
/// # Errors
/// [`StoreError::Unavailable`]: ask again later.
pub async fn requeued_objects(
    store: &dyn ArchiveStore,
    window: Window,
) -> Result<Vec<ArchiveObject>, StoreError> {
    let parts = store.list(&format!("{}{window}/{REQUEUE}", name::PARTS)).await?;
    let day = window.day();
    let finals = format!("{}dt={day}/events-{window}-{REQUEUE}", name::EVENTS);
    let finals = store.list(&finals).await?;
    Ok(parts.into_iter().filter_map(part).chain(finals.into_iter().filter_map(finished)).collect())
}

/// The beginning that the names of all finals or indexes (`kind`) between two times share, so that
/// one listing finds them.
pub(super) fn shared_prefix(kind: &str, from: Timestamp, to: Timestamp) -> String {
    let folder = |time| format!("{kind}dt={}", Window::of(time).day());
    let (first, last) = (folder(from), folder(to));
    let shared = first.chars().zip(last.chars()).take_while(|(a, b)| a == b);
    shared.map(|(letter, _)| letter).collect()
}

/// Returns the names of the parts whose lines are in finals already.
async fn composed(
    store: &dyn ArchiveStore,
    finals: &[ObjectInfo],
) -> Result<BTreeSet<String>, SealError> {
    let mut composed = BTreeSet::new();
    for info in store.list(name::MANIFESTS).await? {
        let Some(sealed) = seal::read(store, &info).await? else { continue };
        for planned in sealed.manifest.finals {
            let listed = finals.iter().any(|info| info.name == planned.name);
            // By checksum: the parts of a stale manifest are in no final.
            if listed && seal::find(store, &planned.name).await?.is_some_and(|it| planned.is(&it)) {
                composed.extend(planned.parts.into_iter().map(|part| part.name));
            }
        }
    }
    Ok(composed)
}

fn part(info: ObjectInfo) -> Option<ArchiveObject> {
    let PartName { window, lines, format, compression, .. } = info.name.parse().ok()?;
    Some(ArchiveObject { window, name: info.name, format, compression, lines, size: info.size })
}

fn finished(info: ObjectInfo) -> Option<ArchiveObject> {
    let FinalName { manifest, format, compression, .. } = info.name.parse().ok()?;
    let (window, lines) = (manifest.window, None);
    Some(ArchiveObject { window, name: info.name, format, compression, lines, size: info.size })
}
