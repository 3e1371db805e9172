//! Recognises that the files of an open connection were removed or replaced.
//!
//! A process keeps its open files: after `rm` or `mv`, commits go to a file that no other process
//! finds, and are lost with the last one that has it open.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Error, ffi};

/// The files of an open connection: the database and its write-ahead log.
#[derive(Debug)]
pub struct OpenFiles {
    files: Vec<(PathBuf, Option<FileId>)>,
}

/// Device and inode.
type FileId = (u64, u64);

impl OpenFiles {
    /// Looks at the files of `path`, which a connection has just opened and read.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let with_id = |path: PathBuf| {
            let id = id(&path).ok().flatten();
            (path, id)
        };
        Self { files: [path.to_path_buf(), log.into()].map(with_id).into() }
    }

    /// Checks that the same files are still at their paths.
    ///
    /// # Errors
    /// One that names the file which was removed or replaced.
    pub fn check(&self) -> rusqlite::Result<()> {
        for (path, opened) in &self.files {
            if opened.is_some() && !matches!(id(path), Ok(now) if now == *opened) {
                let text = format!(
                    "{} was removed or replaced while this process has it open: restart it",
                    path.display()
                );
                let code = ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED);
                return Err(Error::SqliteFailure(code, Some(text)));
            }
        }
        Ok(())
    }
}

#[cfg(unix)]
fn id(path: &Path) -> io::Result<Option<FileId>> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).map(|found| Some((found.dev(), found.ino())))
}

/// Elsewhere an open file cannot be removed.
#[cfg(not(unix))]
fn id(path: &Path) -> io::Result<Option<FileId>> {
    fs::metadata(path).map(|_| None)
}
