//! Temporary files, which are written before they take their name.
//!
//! Owns the hidden folder `.aside`. A file in it is locked for as long as its writer lives, so a process that
//! opens the archive recognises the files of dead writers.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::backend::embedded::folder::{self, sync};

const FOLDER: &str = ".aside";

/// Rounds in which a folder may be removed between its creation and its use. Every round means that another
/// process's delete made progress.
const ROUNDS: usize = 64;

#[derive(Debug)]
pub(super) struct Aside {
    root: PathBuf,
    folder: PathBuf,
}

impl Aside {
    /// Makes the folders durably, and removes the files of writers that are gone.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let folder = root.join(FOLDER);
        folder::make(&folder)?;
        for entry in fs::read_dir(&folder)? {
            remove_if_left(&entry?.path())?;
        }
        Ok(Self { root: root.to_path_buf(), folder })
    }

    /// Stores the output of `write` durably under `path`. Returns `None` if the path exists; the existing file is
    /// durable then.
    pub(super) fn store<T>(
        &self,
        path: &Path,
        write: impl FnOnce(&mut File) -> io::Result<T>,
    ) -> io::Result<Option<(Metadata, T)>> {
        let stored = if path.try_exists()? { None } else { self.write_and_publish(path, write)? };
        // Also if it existed already: its writer may have died before this.
        self.sync_above(path)?;
        Ok(stored)
    }

    fn write_and_publish<T>(
        &self,
        path: &Path,
        write: impl FnOnce(&mut File) -> io::Result<T>,
    ) -> io::Result<Option<(Metadata, T)>> {
        let mut draft = Draft::new(&self.folder)?;
        let written = write(&mut draft.file)?;
        // The clock's own time: the kernel's timestamps are some milliseconds coarse, and the time
        // distinguishes a version from the previous one.
        draft.file.set_modified(SystemTime::now())?;
        draft.file.sync_all()?;
        let metadata = draft.file.metadata()?;
        Ok(publish(&draft.path, path)?.then_some((metadata, written)))
    }

    /// Syncs the folders from the one that holds `path` up to the root: any of them may be new.
    fn sync_above(&self, path: &Path) -> io::Result<()> {
        for folder in path.ancestors().skip(1) {
            match sync(folder) {
                // The object was removed again, and its folder with it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                synced => synced?,
            }
            if folder == self.root {
                break;
            }
        }
        Ok(())
    }
}

/// A file on its way, removed unless it took its name.
struct Draft {
    path: PathBuf,
    file: File,
}

impl Draft {
    fn new(folder: &Path) -> io::Result<Self> {
        let path = folder.join(format!("{:016x}", rand::random::<u64>()));
        let file = File::create_new(&path)?;
        let draft = Self { path, file };
        draft.file.lock()?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone if it was published. If it cannot be removed now, the next open removes it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Gives `draft` its name, making the folders above; `false` when the name is taken.
fn publish(draft: &Path, path: &Path) -> io::Result<bool> {
    let mut rounds = 0..ROUNDS;
    loop {
        let error = match path.parent().map_or(Ok(()), fs::create_dir_all) {
            Ok(()) => match rename_without_replacing(draft, path) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
                Err(error) => error,
            },
            Err(error) => error,
        };
        // A delete that empties a folder removes it: before the rename, which then finds it gone,
        // or while it is being made, which then finds it both there and not.
        let overtaken =
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists);
        if !overtaken || rounds.next().is_none() {
            return Err(error);
        }
    }
}

fn rename_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems cannot; a second link never replaces either. The first goes with
        // the draft.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => fs::hard_link(from, to),
        renamed => Ok(renamed?),
    }
}

/// Removes a file unless its writer holds its lock.
fn remove_if_left(path: &Path) -> io::Result<()> {
    let removed = match File::open(path) {
        Ok(file) if file.try_lock().is_ok() => fs::remove_file(path),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
