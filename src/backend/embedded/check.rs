//! Verifies the SQLite files of a data folder. Only reads, so a daemon may run on the folder.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::sqlite::{self, OpenError};
use super::{log, warehouse};

/// Something wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The problem.
    pub problem: String,
    /// What to do about it.
    pub hint: String,
}

impl Fault {
    pub(super) fn new(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { problem: problem.into(), hint: hint.into() }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::new(error.to_string(), RESTORE)
    }
}

impl From<OpenError> for Fault {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Version { found, known, .. } => {
                Self::new(sqlite::version_problem(found, known), sqlite::VERSION_HINT)
            }
            OpenError::Sqlite { reason, .. } => reason.into(),
        }
    }
}

/// One file of the data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedFile {
    /// The file.
    pub path: PathBuf,
    /// A description of its content, if that is known.
    pub holds: Option<String>,
    /// Its faults; empty if it is sound.
    pub faults: Vec<Fault>,
}

const RESTORE: &str = "stop the daemon and restore the file from a backup";

/// Verifies every SQLite file in `dir`.
///
/// # Errors
/// When the folder cannot be listed.
pub fn check_folder(dir: &Path) -> io::Result<Vec<CheckedFile>> {
    let mut paths = Vec::new();
    for entry in dir.read_dir()? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "db") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths.into_iter().map(|path| check_file(dir, path)).collect())
}

fn check_file(dir: &Path, path: PathBuf) -> CheckedFile {
    let mut faults = quick_check(&path);
    let mut holds = None;
    // A damaged file would only fail again.
    if faults.is_empty() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let checked = match name {
            log::FILE => log::check::events(dir),
            log::SUBSCRIPTIONS_FILE => log::check::subscriptions(dir),
            warehouse::FILE | warehouse::STAGING_FILE => warehouse::check_version(&path),
            _ => Ok((String::new(), Vec::new())),
        };
        match checked {
            Ok((text, found)) => {
                holds = (!text.is_empty()).then_some(text);
                faults.extend(found);
            }
            Err(fault) => faults.push(fault),
        }
    }
    CheckedFile { path, holds, faults }
}

/// SQLite's own check of the file's structure.
fn quick_check(path: &Path) -> Vec<Fault> {
    const MOST: usize = 20;
    let check = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(sqlite::BUSY_TIMEOUT)?;
        let mut check = connection.prepare(&format!("PRAGMA quick_check({MOST})"))?;
        let rows = check.query_map((), |row| row.get::<_, String>(0))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    match check() {
        Ok(lines) => {
            let bad = lines.into_iter().filter(|line| line != "ok");
            bad.map(|line| Fault::new(format!("damaged: {}", line.trim()), RESTORE)).collect()
        }
        Err(error) => vec![error.into()],
    }
}
