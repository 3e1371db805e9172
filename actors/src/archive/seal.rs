//! From parts to a manifest.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::manifest::{Limits, Manifest, Sealed, Source};
use super::name::{self, FinalName, ManifestName, PartName};
use super::{Compression, Final, Finished, Incarnation, IndexName, LineFormat, Window, finish};
use crate::port::{ArchiveStore, ObjectInfo, ObjectRef, Put, StoreError};

/// Calls on the store at the same time.
pub(super) const CALLS: usize = 8;

/// Why a window could not be sealed or finished. Nothing is lost: call again.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The store did not answer as it should; call again later.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest is damaged, or of another version of kappa: only a person can decide.
    #[error("the manifest {name} cannot be read: {source}")]
    Manifest {
        /// The manifest's name.
        name: String,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// The index is damaged, or of another version of kappa.
    #[error("the index {name} cannot be read: {source}")]
    Index {
        /// The index's name.
        name: String,
        /// The fault.
        source: serde_json::Error,
    },
}

/// Seals and finishes until nothing of the incarnation is left in this window, and answers the
/// finals that came of it. May be called by anyone at any time, and again after any failure.
///
/// # Errors
/// [`SealError`]: call again later.
pub async fn close(
    store: &dyn ArchiveStore,
    window: Window,
    incarnation: &Incarnation,
    limits: Limits,
) -> Result<Vec<Final>, SealError> {
    let mut finals = Vec::new();
    while let Some(sealed) = seal(store, window, incarnation, limits).await? {
        if finish(store, &sealed).await? == Finished::Composed {
            finals.extend(sealed.manifest.finals);
        }
    }
    Ok(finals)
}

/// Returns the manifest to finish next: an unfinished one, or a new one of the waiting parts. `None` without either.
///
/// # Errors
/// [`SealError`]: call again later.
pub async fn seal(
    store: &dyn ArchiveStore,
    window: Window,
    incarnation: &Incarnation,
    limits: Limits,
) -> Result<Option<Sealed>, SealError> {
    loop {
        // In this order: see the module's reasons.
        let turn = next_turn(store, window, incarnation).await?;
        if let Some(manifest) = first_manifest(store, window, incarnation).await? {
            match read(store, &manifest).await? {
                Some(sealed) => return Ok(Some(sealed)),
                None => continue, // finished by another meanwhile
            }
        }
        let Some(parts) = waiting_parts(store, window, incarnation, limits.parts).await? else {
            sweep(store, window, incarnation).await?;
            return Ok(None);
        };
        if parts.sources.is_empty() {
            continue; // composed and removed while their checksums were asked for
        }
        let name = ManifestName { window, incarnation: incarnation.clone(), turn };
        let manifest = Manifest::plan(name, parts.form, parts.sources, limits.final_bytes);
        // Where another was faster, or an earlier answer was lost, the next round finds it.
        if let Some(sealed) = write(store, manifest).await? {
            return Ok(Some(sealed));
        }
    }
}

/// One above the highest turn that has finals or an index. An index remembers finals that were lost:
/// a new final must not take the name of one of them.
async fn next_turn(
    store: &dyn ArchiveStore,
    window: Window,
    incarnation: &Incarnation,
) -> Result<u32, StoreError> {
    let finals = store.list(&name::prefix_by_day(name::EVENTS, window, incarnation)).await?;
    let indexes = store.list(&name::prefix_by_day(name::INDEX, window, incarnation)).await?;
    let finals = finals.iter().filter_map(|info| info.name.parse::<FinalName>().ok());
    let indexes = indexes.iter().filter_map(|info| info.name.parse::<IndexName>().ok());
    let turns = finals.map(|name| name.manifest.turn).chain(indexes.map(|name| name.0.turn));
    Ok(turns.max().map_or(0, |turn| turn + 1))
}

async fn first_manifest(
    store: &dyn ArchiveStore,
    window: Window,
    incarnation: &Incarnation,
) -> Result<Option<ObjectInfo>, StoreError> {
    let prefix = name::prefix_of(name::MANIFESTS, window, incarnation);
    let found = store.list(&prefix).await?.into_iter();
    let turns = found.filter_map(|info| Some((info.name.parse::<ManifestName>().ok()?.turn, info)));
    Ok(turns.min_by_key(|(turn, _)| *turn).map(|(_, info)| info))
}

/// Reads a small object; `None` when it is gone.
pub(super) async fn read_all(
    store: &dyn ArchiveStore,
    name: &str,
) -> Result<Option<Vec<u8>>, StoreError> {
    match store.read(name).await {
        Ok(chunks) => Ok(Some(chunks.try_collect::<Vec<Bytes>>().await?.concat())),
        Err(StoreError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a manifest; `None` when it is gone.
pub(super) async fn read(
    store: &dyn ArchiveStore,
    info: &ObjectInfo,
) -> Result<Option<Sealed>, SealError> {
    let Some(body) = read_all(store, &info.name).await? else { return Ok(None) };
    let unreadable = |source| SealError::Manifest { name: info.name.clone(), source };
    let manifest = serde_json::from_slice(&body).map_err(unreadable)?;
    let object = ObjectRef { name: info.name.clone(), generation: info.generation };
    Ok(Some(Sealed { manifest, object }))
}

/// Parts of one format and compression that are in no manifest, in the order of their numbers.
struct WaitingParts {
    form: (LineFormat, Compression),
    sources: Vec<Source>,
}

async fn waiting_parts(
    store: &dyn ArchiveStore,
    window: Window,
    incarnation: &Incarnation,
    limit: usize,
) -> Result<Option<WaitingParts>, StoreError> {
    let found = store.list(&name::prefix_of(name::PARTS, window, incarnation)).await?;
    let named = found.into_iter().filter_map(|info| Some((info.name.parse().ok()?, info)));
    let mut parts: Vec<(PartName, ObjectInfo)> = named.collect();
    parts.sort_by_key(|(name, _)| name.number);
    let form = |(name, _): &(PartName, ObjectInfo)| (name.format, name.compression);
    let Some(first) = parts.first().map(form) else { return Ok(None) };
    parts.retain(|part| form(part) == first);
    parts.truncate(limit);
    let sources = stream::iter(parts).map(|(_, info)| source(store, info)).buffered(CALLS);
    let sources: Vec<Option<Source>> = sources.try_collect().await?;
    Ok(Some(WaitingParts { form: first, sources: sources.into_iter().flatten().collect() }))
}

/// The part with its checksum; `None` when it is gone, for then it is composed already.
async fn source(store: &dyn ArchiveStore, info: ObjectInfo) -> Result<Option<Source>, StoreError> {
    let known = match info.crc32c {
        Some(_) => Some(info),
        None => find(store, &info.name).await?,
    };
    Ok(known.map(|info| Source {
        name: info.name,
        generation: info.generation,
        size: info.size,
        crc32c: info.crc32c.unwrap_or_default(),
    }))
}

/// Returns the object `name`, if it exists.
pub(super) async fn find(
    store: &dyn ArchiveStore,
    name: &str,
) -> Result<Option<ObjectInfo>, StoreError> {
    match store.info(name).await {
        Ok(info) => Ok(Some(info)),
        Err(StoreError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes the manifest unless its turn is taken.
async fn write(store: &dyn ArchiveStore, manifest: Manifest) -> Result<Option<Sealed>, SealError> {
    let name = manifest.name().to_string();
    let body = serde_json::to_vec(&manifest)
        .map_err(|source| SealError::Manifest { name: name.clone(), source })?;
    match store.put_if_absent(&name, body.into()).await? {
        Put::Stored(info) => {
            let object = ObjectRef { name, generation: info.generation };
            Ok(Some(Sealed { manifest, object }))
        }
        Put::Exists(_) => Ok(None),
    }
}

/// Removes the intermediates of a finisher that another one overtook. Intermediates are made only while their manifest
/// exists: if there is none after they were listed, they are of no use.
async fn sweep(
    store: &dyn ArchiveStore,
    window: Window,
    incarnation: &Incarnation,
) -> Result<(), StoreError> {
    let left = store.list(&name::prefix_of(name::COMPOSING, window, incarnation)).await?;
    if left.is_empty() || first_manifest(store, window, incarnation).await?.is_some() {
        return Ok(());
    }
    remove(store, left).await
}

/// Removes exactly these.
pub(super) async fn remove(
    store: &dyn ArchiveStore,
    objects: Vec<ObjectInfo>,
) -> Result<(), StoreError> {
    let objects =
        objects.into_iter().map(|info| ObjectRef { name: info.name, generation: info.generation });
    remove_all(store, objects.collect()).await
}

/// Removes exactly these.
pub(super) async fn remove_all(
    store: &dyn ArchiveStore,
    objects: Vec<ObjectRef>,
) -> Result<(), StoreError> {
    let deleted = stream::iter(objects).map(|object| delete(store, object));
    deleted.buffer_unordered(CALLS).try_collect().await
}

async fn delete(store: &dyn ArchiveStore, object: ObjectRef) -> Result<(), StoreError> {
    store.delete(&object).await
}
