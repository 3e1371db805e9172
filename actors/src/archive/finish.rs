//! From a manifest to finals.

use super::index;
use super::manifest::{Final, Manifest, Sealed};
use super::seal::{SealError, find, remove, remove_all};
use crate::port::{ArchiveStore, ObjectInfo, ObjectRef, Put, StoreError};

/// Sources that one call composes, at most: the port's limit, and that of Cloud Storage.
const FAN_IN: usize = 32;

/// What became of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// Its finals exist and its parts are removed.
    Composed,
    /// It was stale and is removed; its parts were not touched. Seal again.
    Abandoned,
}

/// Composes exactly the manifest's parts into its finals, checks these, writes their index, and
/// removes the parts, the intermediates and, last, the manifest.
///
/// Anyone may finish any manifest, also at the same time, and again after any failure.
///
/// # Errors
/// [`SealError`]: call again later.
pub async fn finish(store: &dyn ArchiveStore, sealed: &Sealed) -> Result<Finished, SealError> {
    let manifest = &sealed.manifest;
    let finished = if is_composed(store, manifest).await? {
        let parts = manifest.finals.iter().flat_map(|planned| &planned.parts);
        remove_all(store, parts.map(super::Source::object).collect()).await?;
        Finished::Composed
    } else {
        tracing::warn!(target: "archive", manifest = %sealed.object.name, "a stale manifest is abandoned");
        Finished::Abandoned
    };
    remove(store, store.list(&manifest.name().intermediates()).await?).await?;
    store.delete(&sealed.object).await?;
    Ok(finished)
}

/// Makes the finals and their index, and reports whether exactly these are in the store. The index
/// comes before the parts go: from here on it is what notices a final that is lost.
async fn is_composed(store: &dyn ArchiveStore, manifest: &Manifest) -> Result<bool, SealError> {
    Ok(index::admits(store, manifest).await?
        && make_finals(store, manifest).await?
        && index::write(store, manifest).await?)
}

/// Makes the finals and returns whether the turn has exactly these. If not, the manifest is stale, or another program
/// removed or damaged a part.
async fn make_finals(store: &dyn ArchiveStore, manifest: &Manifest) -> Result<bool, StoreError> {
    let standing = store.list(&manifest.name().finals()).await?;
    let planned = |info: &ObjectInfo| manifest.finals.iter().any(|one| one.name == info.name);
    if !standing.iter().all(planned) {
        return Ok(false);
    }
    for one in 0..manifest.finals.len() {
        if !make_final(store, manifest, one).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes one final unless it exists, and returns whether it has the right bytes.
async fn make_final(
    store: &dyn ArchiveStore,
    manifest: &Manifest,
    index: usize,
) -> Result<bool, StoreError> {
    let planned = &manifest.finals[index];
    if let Some(standing) = find(store, &planned.name).await? {
        return Ok(planned.is(&standing));
    }
    match compose(store, manifest, index, planned).await {
        Ok(made) => Ok(planned.is(&made)),
        // Parts are removed only when every final exists, so after a missing part the finals are listed again.
        Err(StoreError::NotFound(_)) => {
            Ok(find(store, &planned.name).await?.is_some_and(|standing| planned.is(&standing)))
        }
        Err(error) => Err(error),
    }
}

/// Composes one final, by way of intermediates where it has more than 32 parts.
async fn compose(
    store: &dyn ArchiveStore,
    manifest: &Manifest,
    index: usize,
    planned: &Final,
) -> Result<ObjectInfo, StoreError> {
    let intermediates = manifest.name().intermediates();
    let mut sources: Vec<_> = planned.parts.iter().map(super::Source::object).collect();
    let mut level = 0;
    while sources.len() > FAN_IN {
        sources = condense(store, &format!("{intermediates}{index}-{level}-"), &sources).await?;
        level += 1;
    }
    join(store, &planned.name, &sources).await
}

/// Replaces runs of sources by intermediates, from the left, and no more of them than it takes to
/// come down to 32: on disk every intermediate is another copy.
async fn condense(
    store: &dyn ArchiveStore,
    prefix: &str,
    sources: &[ObjectRef],
) -> Result<Vec<ObjectRef>, StoreError> {
    let mut condensed = Vec::new();
    let mut rest = sources;
    while !rest.is_empty() {
        let excess = (condensed.len() + rest.len()).saturating_sub(FAN_IN);
        let (run, behind) = rest.split_at((excess + 1).min(FAN_IN).min(rest.len()));
        rest = behind;
        match run {
            [alone] => condensed.push(alone.clone()),
            run => {
                let info = join(store, &format!("{prefix}{}", condensed.len()), run).await?;
                condensed.push(ObjectRef { name: info.name, generation: info.generation });
            }
        }
    }
    Ok(condensed)
}

async fn join(
    store: &dyn ArchiveStore,
    name: &str,
    sources: &[ObjectRef],
) -> Result<ObjectInfo, StoreError> {
    match store.compose(name, sources).await? {
        Put::Stored(info) | Put::Exists(info) => Ok(info),
    }
}
