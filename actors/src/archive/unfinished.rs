//! What still waits to become final.

use std::collections::BTreeMap;

use super::name::{self, PartName};
use super::{Incarnation, Window};
use crate::port::{ArchiveStore, StoreError};

/// An incarnation that left parts, a manifest or intermediates in a window. [`close`](super::close)
/// it, unless its actor lives.
///
/// Two that are equal at the beginning and the end of a span say that it was silent in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// The window.
    pub window: Window,
    /// Who left it.
    pub incarnation: Incarnation,
    /// Number of its parts in the store.
    pub parts: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// The highest number among them.
    pub newest_part: Option<u32>,
}

/// All that is unfinished, the oldest window first.
///
/// # Errors
/// [`StoreError::Unavailable`]: ask again later.
pub async fn unfinished(store: &dyn ArchiveStore) -> Result<Vec<Unfinished>, StoreError> {
    let mut found = BTreeMap::new();
    for kind in [name::PARTS, name::MANIFESTS, name::COMPOSING] {
        for info in store.list(kind).await? {
            let Some((window, incarnation)) = name::owner(&info.name) else { continue };
            let one = found.entry((window, incarnation.clone())).or_insert_with(|| Unfinished {
                window,
                incarnation,
                parts: 0,
                bytes: 0,
                newest_part: None,
            });
            if let Ok(part) = info.name.parse::<PartName>() {
                one.parts += 1;
                one.bytes += info.size;
                one.newest_part = one.newest_part.max(Some(part.number));
            }
        }
    }
    Ok(found.into_values().collect())
}
