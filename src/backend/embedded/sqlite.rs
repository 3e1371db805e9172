//! How every SQLite file of ours is opened: durable, shared with other processes, versioned.

pub mod identity;
pub mod thread;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kappa_actors::port::RefusalKind;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

/// How long a call waits for a file that another process is writing, before it counts as
/// unavailable and is tried again by the caller.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// SQLite's own choice of page size.
const SQLITE_PAGE_BYTES: u32 = 4_096;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// SQLite's own answer.
    #[error("{}: {reason}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// SQLite's error.
        reason: rusqlite::Error,
    },
    /// The file was written by another version of kappa.
    #[error("{}: {}: {VERSION_HINT}", path.display(), version_problem(*found, *known))]
    Version {
        /// The file.
        path: PathBuf,
        /// The file's version.
        found: i64,
        /// Ours.
        known: i64,
    },
}

/// What to do about a file of another version.
pub(crate) const VERSION_HINT: &str = "finish its events with the kappa that wrote it and move the \
                                       data folder away, or choose another with --data-dir";

/// The error text for a file of another version.
pub(crate) fn version_problem(found: i64, known: i64) -> String {
    format!("schema version {found}, and this kappa knows {known}")
}

/// Opens `path`, creating it with `schema` if it is new.
///
/// Commits are durable across a power cut (`synchronous = FULL`), readers never wait for the
/// writer (WAL).
///
/// # Errors
/// [`OpenError`], naming the file.
pub fn open(path: &Path, version: i64, schema: &str) -> Result<Connection, OpenError> {
    open_with_pages(path, SQLITE_PAGE_BYTES, version, schema)
}

/// As [`open`]; a new file is made with pages of `page_bytes`.
///
/// # Errors
/// [`OpenError`], naming the file.
pub fn open_with_pages(
    path: &Path,
    page_bytes: u32,
    version: i64,
    schema: &str,
) -> Result<Connection, OpenError> {
    let at = |reason| OpenError::Sqlite { path: path.to_path_buf(), reason };
    let mut connection = Connection::open(path).map_err(at)?;
    prepare(&mut connection, page_bytes, version, schema).map_err(at)?;
    check_version(connection, path, version)
}

/// Opens `path`, which exists, to be read and not to be written.
///
/// # Errors
/// [`OpenError`], naming the file.
pub fn open_to_read(path: &Path, version: i64) -> Result<Connection, OpenError> {
    let at = |reason| OpenError::Sqlite { path: path.to_path_buf(), reason };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(at)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(at)?;
    check_version(connection, path, version)
}

/// The connection, if the file is of this version.
fn check_version(
    connection: Connection,
    path: &Path,
    version: i64,
) -> Result<Connection, OpenError> {
    let at = |reason| OpenError::Sqlite { path: path.to_path_buf(), reason };
    let found: i64 =
        connection.query_row("PRAGMA user_version", (), |row| row.get(0)).map_err(at)?;
    if found == version {
        Ok(connection)
    } else {
        Err(OpenError::Version { path: path.to_path_buf(), found, known: version })
    }
}

fn prepare(
    connection: &mut Connection,
    page_bytes: u32,
    version: i64,
    schema: &str,
) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "page_size", page_bytes)?;
    switch_to_wal(connection)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Immediate: of two processes that create the file, one waits and then finds it made.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    if found == 0 {
        transaction.execute_batch(schema)?;
        transaction.pragma_update(None, "user_version", version)?;
    }
    transaction.commit()
}

/// SQLite does not wait for another process that makes the same switch, whatever the timeout is:
/// <https://sqlite.org/c3ref/busy_handler.html>, on deadlocks.
fn switch_to_wal(connection: &Connection) -> rusqlite::Result<()> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        let switched = connection.pragma_update(None, "journal_mode", "WAL");
        match switched.as_ref().err().and_then(rusqlite::Error::sqlite_error_code) {
            Some(ErrorCode::DatabaseBusy) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            _ => return switched,
        }
    }
}

/// The kind of the refusal, if the row itself is at fault: writing it again can never succeed.
#[must_use]
pub fn refusal_of_the_row(error: &rusqlite::Error) -> Option<RefusalKind> {
    match error.sqlite_error_code()? {
        ErrorCode::ConstraintViolation => Some(RefusalKind::Constraint),
        ErrorCode::TooBig => Some(RefusalKind::TooLarge),
        ErrorCode::TypeMismatch => Some(RefusalKind::Value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn several_threads_can_open_a_new_file_at_once() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..50 {
            let path = folder.path().join(round.to_string());
            let together = Barrier::new(6);
            std::thread::scope(|scope| {
                for _ in 0..6 {
                    scope.spawn(|| {
                        together.wait();
                        open(&path, 1, "CREATE TABLE once (id)").unwrap()
                    });
                }
            });
        }
    }
}
