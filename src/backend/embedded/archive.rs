//! The archive store: a local folder.
//!
//! An object is a file, its name the path below the folder. It is written under a temporary name, synced, and renamed
//! without replacing an existing file; then the folders above it are synced. So a reader sees the whole object or
//! none, a stored object survives a power cut, and of any number of processes one gets the name. No file is ever
//! changed.
//!
//! All work on files is done on blocking threads. A call that is cancelled still runs to its end
//! there.

mod aside;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream;
use kappa_actors::port::{ArchiveStore, ByteStream, ObjectInfo, ObjectRef, Put, StoreError};

use self::aside::Aside;
use crate::backend::object_name;

/// How much is read and copied at a time: large enough that a blocking thread's hand-over does not
/// count.
const CHUNK_BYTES: usize = 1 << 20;

/// Sources of one compose, at most; see the port.
const MAX_SOURCES: usize = 32;

/// An archive in a folder of this machine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LocalArchive(Arc<Folder>);

impl LocalArchive {
    /// Opens the archive in `root`, creating the folder if it is missing, and removes what writers
    /// that were killed left aside. Other processes may be at work in it.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(root: &Path) -> io::Result<Self> {
        let aside = Aside::open(root)?;
        Ok(Self(Arc::new(Folder { root: root.to_path_buf(), aside })))
    }

    /// Runs `work` on a blocking thread.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let folder = Arc::clone(&self.0);
        let joined = tokio::task::spawn_blocking(move || work(&folder)).await;
        joined.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
    }
}

#[async_trait]
impl ArchiveStore for LocalArchive {
    async fn put_if_absent(&self, name: &str, body: Bytes) -> Result<Put, StoreError> {
        let name = name.to_owned();
        self.blocking(move |folder| folder.put(&name, &body)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let prefix = prefix.to_owned();
        self.blocking(move |folder| folder.list(&prefix)).await
    }

    async fn info(&self, name: &str) -> Result<ObjectInfo, StoreError> {
        let name = name.to_owned();
        self.blocking(move |folder| folder.info(&name)).await
    }

    async fn read(&self, name: &str) -> Result<ByteStream, StoreError> {
        let named = name.to_owned();
        let (path, file) = self
            .blocking(move |folder| Ok((folder.path(&named)?, folder.open_object(&named)?.0)))
            .await?;
        Ok(stream::try_unfold((path, file), next_chunk).boxed())
    }

    async fn compose(&self, name: &str, sources: &[ObjectRef]) -> Result<Put, StoreError> {
        let (name, sources) = (name.to_owned(), sources.to_vec());
        self.blocking(move |folder| folder.compose(&name, &sources)).await
    }

    async fn delete(&self, object: &ObjectRef) -> Result<(), StoreError> {
        let object = object.clone();
        self.blocking(move |folder| folder.delete(&object)).await
    }
}

/// The folder and its operations. All of them block.
#[derive(Debug)]
struct Folder {
    root: PathBuf,
    aside: Aside,
}

impl Folder {
    fn path(&self, name: &str) -> Result<PathBuf, StoreError> {
        object_name::check(name)?;
        Ok(self.root.join(name))
    }

    fn put(&self, name: &str, body: &[u8]) -> Result<Put, StoreError> {
        let path = self.path(name)?;
        let stored = self.aside.store(&path, |file| {
            file.write_all(body)?;
            Ok(crc32c::crc32c(body))
        });
        self.answer(name, stored.map_err(|error| at(&path, &error))?)
    }

    /// Returns the result of a store: the new object, or the existing one.
    fn answer(&self, name: &str, stored: Option<(fs::Metadata, u32)>) -> Result<Put, StoreError> {
        Ok(match stored {
            Some((metadata, crc32c)) => Put::Stored(info(name, &metadata, Some(crc32c))),
            None => Put::Exists(self.info(name)?),
        })
    }

    /// Opens an object. A folder of that name is no object.
    fn open_object(&self, name: &str) -> Result<(File, fs::Metadata), StoreError> {
        let path = self.path(name)?;
        let gone = || StoreError::NotFound(name.to_owned());
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?, file)));
        match opened {
            Ok((metadata, file)) if metadata.is_file() => Ok((file, metadata)),
            Ok(_) => Err(gone()),
            Err(error) if is_gone(&error) && self.root.is_dir() => Err(gone()),
            Err(error) => Err(at(&path, &error)),
        }
    }

    fn info(&self, name: &str) -> Result<ObjectInfo, StoreError> {
        let (mut file, metadata) = self.open_object(name)?;
        let crc32c = copy(&mut file, &mut io::sink(), 0);
        let crc32c = crc32c.map_err(|error| at(&self.root.join(name), &error))?;
        Ok(info(name, &metadata, Some(crc32c)))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let (above, _) = prefix.rsplit_once('/').unwrap_or_default();
        if !above.is_empty() {
            object_name::check(above)?;
        }
        let mut found = Vec::new();
        let mut folders = vec![above.to_owned()];
        while let Some(folder) = folders.pop() {
            let listed = self.list_folder(&folder, prefix, &mut folders, &mut found);
            listed.map_err(|error| at(&self.root.join(&folder), &error))?;
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Adds a folder's files to `found`, and the folders in it that may hold more to `folders`.
    fn list_folder(
        &self,
        folder: &str,
        prefix: &str,
        folders: &mut Vec<String>,
        found: &mut Vec<ObjectInfo>,
    ) -> io::Result<()> {
        let entries = match fs::read_dir(self.root.join(folder)) {
            Ok(entries) => entries,
            // Removed with its last object, or never made; but not the archive itself.
            Err(error) if is_gone(&error) && self.root.is_dir() => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let file_name = entry.file_name();
            let Some(last) = file_name.to_str().filter(|last| !last.starts_with('.')) else {
                continue;
            };
            let name = if folder.is_empty() { last.to_owned() } else { format!("{folder}/{last}") };
            if !name.starts_with(prefix) && !prefix.starts_with(&format!("{name}/")) {
                continue;
            }
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(name),
                Ok(metadata) if metadata.is_file() => found.push(info(&name, &metadata, None)),
                Ok(_) => {}
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn compose(&self, name: &str, sources: &[ObjectRef]) -> Result<Put, StoreError> {
        let path = self.path(name)?;
        if !(1..=MAX_SOURCES).contains(&sources.len()) {
            let count = sources.len();
            return Err(StoreError::Refused(format!("{count} sources to compose, not 1 to 32")));
        }
        let open = |source: &ObjectRef| match self.open_object(&source.name)? {
            (file, metadata) if generation(&metadata) == source.generation => Ok(file),
            _ => Err(StoreError::NotFound(source.name.clone())),
        };
        let mut files = sources.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let stored = self
            .aside
            .store(&path, |to| files.iter_mut().try_fold(0, |crc32c, from| copy(from, to, crc32c)));
        self.answer(name, stored.map_err(|error| at(&path, &error))?)
    }

    /// A name is not written again while its old version is being removed, so no file with other bytes can take the name
    /// between the check of the version and its removal.
    fn delete(&self, object: &ObjectRef) -> Result<(), StoreError> {
        let path = self.path(&object.name)?;
        let removed = match fs::symlink_metadata(&path) {
            Ok(found) if generation(&found) == object.generation => fs::remove_file(&path),
            Ok(_) => return Ok(()),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if !(is_gone(&error) && self.root.is_dir()) => Err(at(&path, &error)),
            _ => {
                self.remove_empty_folders(&path);
                Ok(())
            }
        }
    }

    /// Removes the folders above `path` that are empty now. A writer that meant to use one makes
    /// it again.
    fn remove_empty_folders(&self, path: &Path) {
        let above = path.ancestors().skip(1).take_while(|folder| *folder != self.root);
        for folder in above {
            if fs::remove_dir(folder).is_err() {
                return;
            }
        }
    }
}

/// Copies all of `from`, and continues the checksum over it.
fn copy(from: &mut File, to: &mut dyn Write, mut crc32c: u32) -> io::Result<u32> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(crc32c),
            read => {
                crc32c = crc32c::crc32c_append(crc32c, &buffer[..read]);
                to.write_all(&buffer[..read])?;
            }
        }
    }
}

type Reading = (PathBuf, File);

async fn next_chunk((path, mut file): Reading) -> Result<Option<(Bytes, Reading)>, StoreError> {
    let joined = tokio::task::spawn_blocking(move || {
        let mut chunk = BytesMut::zeroed(CHUNK_BYTES);
        let read = file.read(&mut chunk).map_err(|error| at(&path, &error))?;
        chunk.truncate(read);
        Ok((read > 0).then(|| (chunk.freeze(), (path, file))))
    });
    joined.await.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
}

fn info(name: &str, metadata: &fs::Metadata, crc32c: Option<u32>) -> ObjectInfo {
    let (size, generation) = (metadata.len(), generation(metadata));
    ObjectInfo { name: name.to_owned(), size, generation, crc32c }
}

/// Combines the time of writing, to the nanosecond, and the inode: another file of this name differs in one of them,
/// whatever the clock does.
fn generation(metadata: &fs::Metadata) -> i64 {
    let written = metadata.mtime().wrapping_mul(1_000_000_000).wrapping_add(metadata.mtime_nsec());
    written ^ metadata.ino().rotate_left(32).cast_signed()
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Divides errors by the caller's next step: space may be freed and a permission granted, but an impossible name stays
/// impossible.
fn at(path: &Path, error: &io::Error) -> StoreError {
    let text = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::InvalidFilename
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory => StoreError::Refused(text),
        _ => StoreError::Unavailable(text),
    }
}

#[cfg(test)]
mod tests;
