//! The data folder belongs to one daemon at a time.

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::Context as _;

use crate::backend::embedded::folder;

/// The file whose lock shows that a daemon runs here. The lock ends with the process.
const FILE: &str = "daemon.lock";

/// The folder is ours for as long as this lives.
#[derive(Debug)]
pub(super) struct FolderLock {
    _file: File,
}

/// Another daemon runs on this folder.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0}: another daemon runs on this data folder\n\
     hint: stop it, or choose another folder with --data-dir"
)]
struct Taken(String);

impl FolderLock {
    /// Makes the folder if there is none, and takes it.
    pub(super) fn take(data_dir: &Path) -> anyhow::Result<Self> {
        let shown = data_dir.display().to_string();
        folder::make(data_dir).with_context(|| shown.clone())?;
        let path = data_dir.join(FILE);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Taken(shown).into()),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| shown),
        }
    }
}
