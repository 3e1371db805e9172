//! Folders of the data, made durably.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Makes `folder` and the missing folders above it. They survive a power cut, with all files that
/// were synced in them.
///
/// # Errors
/// The file system's.
pub fn make(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = match folder.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        None => Path::new("/"),
    };
    make(above)?;
    match fs::create_dir(folder) {
        // Another process was faster, and may not have synced it yet.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
        made => made?,
    }
    sync(above)
}

/// Makes creations, renames and removals in `folder` durable.
///
/// # Errors
/// The file system's.
pub fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_folders_are_made_and_present_ones_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b/c");
        make(&folder).unwrap();
        make(&folder).unwrap();
        assert!(folder.is_dir());
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        make(&root.path().join("file")).unwrap_err();
        make(&root.path().join("file/below")).unwrap_err();
    }
}
