//! The index of a manifest's finals: their sizes, lines and checksums.
//!
//! It is written once the finals were checked and before their parts are removed, and it is kept as
//! long as they are. So a final whose parts are gone has an index, and the index shows when the
//! final was lost, cut or edited. To remove a day of events on purpose, remove its folder below
//! `index/` too.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::manifest::Manifest;
use super::name::{self, FinalName, IndexName, ManifestName};
use super::objects::shared_prefix;
use super::seal::{self, CALLS, SealError};
use super::{ArchiveObject, Compression, LineFormat};
use crate::port::{ArchiveStore, Put, StoreError};
use crate::time::Timestamp;

/// The content of an index object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Index {
    /// The format of the finals' lines.
    format: LineFormat,
    /// How the finals are compressed.
    compression: Compression,
    /// All finals of the manifest.
    finals: Vec<IndexedFinal>,
}

/// One final, as it was composed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedFinal {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// How many lines it has; unknown where a part's name did not hold it.
    pub lines: Option<u64>,
    /// Its CRC-32C.
    pub crc32c: u32,
}

/// An object's bytes and lines, as they were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Bytes.
    pub size: u64,
    /// Their CRC-32C.
    pub crc32c: u32,
    /// Lines, counted by the caller.
    pub lines: u64,
}

impl Tally {
    /// Takes the object's next bytes in, as they are stored.
    pub fn add(&mut self, chunk: &[u8]) {
        self.size += chunk.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, chunk);
    }
}

impl IndexedFinal {
    /// Compares the final with the bytes read from it; `None` where they agree.
    #[must_use]
    pub fn difference(&self, read: &Tally) -> Option<String> {
        match self.lines {
            Some(lines) if read.lines != lines => {
                Some(format!("has {} of the {lines} lines that it was composed of", read.lines))
            }
            _ if read.size != self.size => {
                Some(format!("has {} bytes instead of {}", read.size, self.size))
            }
            _ if read.crc32c != self.crc32c => {
                Some("was edited: its checksum is not that of its index".to_owned())
            }
            _ => None,
        }
    }
}

impl Index {
    fn of(manifest: &Manifest) -> Self {
        let finals = manifest.finals.iter().map(|one| IndexedFinal {
            name: one.name.clone(),
            size: one.size,
            lines: one.lines,
            crc32c: one.crc32c,
        });
        let Manifest { format, compression, .. } = *manifest;
        Self { format, compression, finals: finals.collect() }
    }
}

async fn read(store: &dyn ArchiveStore, name: &str) -> Result<Option<Index>, SealError> {
    let Some(body) = seal::read_all(store, name).await? else { return Ok(None) };
    let unreadable = |source| SealError::Index { name: name.to_owned(), source };
    serde_json::from_slice(&body).map(Some).map_err(unreadable)
}

/// Whether the turn's index is this manifest's, or is not written yet. With another, the manifest
/// is stale, though finals of its turn may have been lost since.
pub(super) async fn admits(
    store: &dyn ArchiveStore,
    manifest: &Manifest,
) -> Result<bool, SealError> {
    let found = read(store, &IndexName(manifest.name()).to_string()).await?;
    Ok(found.is_none_or(|index| index == Index::of(manifest)))
}

/// Writes the manifest's index unless it is there; answers whether it is this manifest's.
pub(super) async fn write(
    store: &dyn ArchiveStore,
    manifest: &Manifest,
) -> Result<bool, SealError> {
    let name = IndexName(manifest.name()).to_string();
    let body = serde_json::to_vec(&Index::of(manifest))
        .map_err(|source| SealError::Index { name: name.clone(), source })?;
    match store.put_if_absent(&name, body.into()).await? {
        Put::Stored(_) => Ok(true),
        Put::Exists(_) => admits(store, manifest).await,
    }
}

/// The indexes of a range of windows, and how they differ from a listing of its objects.
#[derive(Clone, Debug, Default)]
pub struct Indexes {
    finals: BTreeMap<String, IndexedFinal>,
    /// Finals that an index names and that are gone.
    pub lost: Vec<IndexedFinal>,
    /// Finals that have no index, though their parts are gone: it was lost, or an older version
    /// of kappa composed them.
    pub unindexed: Vec<String>,
    /// Indexes that cannot be read: the object, and why.
    pub unreadable: Vec<(String, String)>,
}

impl Indexes {
    /// A final as its index describes it.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&IndexedFinal> {
        self.finals.get(name)
    }

    /// Compares the content read from an object with its index (a final) or its name (a part).
    /// `None` where they agree, or where neither describes the object.
    #[must_use]
    pub fn difference(&self, object: &ArchiveObject, read: &Tally) -> Option<String> {
        match (self.find(&object.name), object.lines) {
            (Some(indexed), _) => indexed.difference(read),
            (None, Some(lines)) if lines != read.lines => {
                Some(format!("has {} of the {lines} lines that it was stored with", read.lines))
            }
            (None, _) => None,
        }
    }
}

/// The indexes of the windows that overlap `[from, to)`. `objects` is what
/// [`objects_between`](super::objects_between) listed for the same range, before this call. A final
/// that is composed meanwhile is neither lost nor unindexed.
///
/// # Errors
/// [`SealError`]: ask again later.
pub async fn indexes_between(
    store: &dyn ArchiveStore,
    from: Timestamp,
    to: Timestamp,
    objects: &[ArchiveObject],
) -> Result<Indexes, SealError> {
    let mut indexes = Indexes::default();
    if from >= to {
        return Ok(indexes);
    }
    let names = store.list(&shared_prefix(name::INDEX, from, to)).await?.into_iter();
    let names = names.filter_map(|info| Some((info.name.parse::<IndexName>().ok()?, info.name)));
    let names = names.filter(|(IndexName(manifest), _)| {
        manifest.window.start() < to && manifest.window.end() > from
    });
    let read = stream::iter(names).map(|(_, name)| async move {
        match read(store, &name).await {
            Err(SealError::Index { source, .. }) => Ok(Err((name, source.to_string()))),
            read => read.map(Ok),
        }
    });
    let read: Vec<_> = read.buffered(CALLS).try_collect().await?;
    for index in read {
        match index {
            Ok(index) => {
                let finals = index.into_iter().flat_map(|index| index.finals);
                indexes.finals.extend(finals.map(|one| (one.name.clone(), one)));
            }
            Err(unreadable) => indexes.unreadable.push(unreadable),
        }
    }
    let listed: BTreeSet<&str> = objects.iter().map(|object| &*object.name).collect();
    for indexed in indexes.finals.values().filter(|one| !listed.contains(&*one.name)) {
        // It may have been composed after the listing.
        if !is_there(store, &indexed.name).await? {
            indexes.lost.push(indexed.clone());
        }
    }
    for object in objects {
        let Ok(FinalName { manifest, .. }) = object.name.parse() else { continue };
        if indexes.find(&object.name).is_none() && !is_indexed(store, manifest).await? {
            indexes.unindexed.push(object.name.clone());
        }
    }
    Ok(indexes)
}

/// Whether a turn has an index, or a manifest that is being finished and will get one. In this
/// order: the index is written before the manifest goes, and may have been written just now.
async fn is_indexed(store: &dyn ArchiveStore, manifest: ManifestName) -> Result<bool, StoreError> {
    Ok(is_there(store, &manifest.to_string()).await?
        || is_there(store, &IndexName(manifest).to_string()).await?)
}

/// Whether an object exists, without its checksum, which a store may have to read it for.
async fn is_there(store: &dyn ArchiveStore, name: &str) -> Result<bool, StoreError> {
    Ok(store.list(name).await?.iter().any(|info| info.name == name))
}
