//! The warehouse: the SQLite file `warehouse.db`, written by one thread.
//!
//! SQLite has one writer per file, and a commit costs a sync for any number of rows. So the thread takes the waiting
//! rows of all callers, commits them in one transaction, and then answers. No caller's task runs SQLite
//! itself. Other processes may use the file: a busy one is waited for.
//!
//! Every table is a SQLite table of its name and columns; `table.rs` describes the declarations, which scripts rely
//! on.

mod audit;
mod committer;
mod compact;
mod dead_letters;
mod insert;
mod removals;
mod staging;
mod table;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use async_trait::async_trait;
use kappa_actors::port::{ArchiveStore, EnsureError, Ensured, Warehouse, WriteError, Written};
use kappa_actors::row::{Row, TableSpec};
use rusqlite::{Connection, ffi};
use tokio::sync::oneshot;

use self::committer::{Committer, Job, Write};
use crate::backend::embedded::check::Fault;
use crate::backend::embedded::sqlite::identity::OpenFiles;
use crate::backend::embedded::sqlite::{self, OpenError};

pub use audit::EmbeddedAudit;
pub use compact::{Compacted, compact};
pub use staging::{EmbeddedStaging, STAGING_FILE};

/// The file's name in the data folder.
pub const FILE: &str = "warehouse.db";

/// The schema version of an empty warehouse; its tables come from the configuration.
const VERSION: i64 = 1;

/// Size of a page in bytes, fixed when the file is made. A commit of random keys dirties nearly
/// every page of the key's index, so fewer and larger pages mean fewer reads and writes: 1.4 times
/// the speed of SQLite's 4,096 over five million rows in commits of 50,000. Ordered keys do not
/// care.
const PAGE_BYTES: i64 = 16_384;

/// Pages that the thread's connection keeps in memory, in KiB.
const CACHE_KIB: i64 = 40_000;

/// Prepared statements kept: two for each table, for far more tables than anyone configures.
const CACHED_STATEMENTS: usize = 256;

/// The error of every call once the thread has panicked.
const ENDED: &str = "its thread has ended";

/// Verifies the schema version of a file of tables.
pub(super) fn check_version(path: &Path) -> Result<(String, Vec<Fault>), Fault> {
    sqlite::open_to_read(path, VERSION).map(|_| (String::new(), Vec::new())).map_err(Fault::from)
}

/// Tables in one SQLite file. Dropping it ends its thread, after all waiting calls are answered.
pub struct EmbeddedWarehouse {
    path: PathBuf,
    /// Holds the payloads of dead letters that are objects.
    payloads: Option<Arc<dyn ArchiveStore>>,
    /// `None` only while it is dropped.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedWarehouse {
    /// Opens `warehouse.db` in the folder `dir`, which exists, or makes it.
    ///
    /// # Errors
    /// [`OpenError`], naming the file.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_file(dir.join(FILE))
    }

    /// Reads payloads of dead letters that are objects from `archive`.
    #[must_use]
    pub fn with_payloads(self, archive: Arc<dyn ArchiveStore>) -> Self {
        let mut this = self;
        this.payloads = Some(archive);
        this
    }

    /// As [`EmbeddedWarehouse::open`], under another name.
    fn open_file(path: PathBuf) -> Result<Self, OpenError> {
        let at = |reason| OpenError::Sqlite { path: path.clone(), reason };
        size_pages(&path).map_err(at)?;
        let connection = sqlite::open(&path, VERSION, "")?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(at)?;
        connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        let (jobs, waiting) = mpsc::channel();
        let committer = Committer::new(connection, OpenFiles::of(&path), waiting).map_err(at)?;
        let thread = std::thread::Builder::new()
            .name("warehouse".to_owned())
            .spawn(move || committer.run())
            .map_err(|error| {
                let no_room = ffi::Error::new(ffi::SQLITE_NOMEM);
                at(rusqlite::Error::SqliteFailure(no_room, Some(error.to_string())))
            })?;
        Ok(Self { path, payloads: None, jobs: Some(jobs), thread: Some(thread) })
    }

    /// Hands the thread a job and awaits its answer; `Err` has the reason why there is none.
    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, String> {
        let (answer, answered) = oneshot::channel();
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job(answer)).is_ok());
        let ended = || self.named(ENDED);
        if sent { answered.await.map_err(|_| ended()) } else { Err(ended()) }
    }

    /// Runs `work` on the thread, between two commits; `Err` is worded for the reader.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> Result<T, String> {
        self.ask(|answer| {
            Job::Call(Box::new(move |connection| {
                // A caller that no longer waits needs no answer.
                let _ = answer.send(work(connection));
            }))
        })
        .await
    }

    /// `error`, with the name of the file.
    fn named(&self, error: impl std::fmt::Display) -> String {
        format!("{}: {error}", self.path.display())
    }
}

impl std::fmt::Debug for EmbeddedWarehouse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedWarehouse").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Gives a file that does not exist yet its page size; an existing one keeps its own.
fn size_pages(path: &Path) -> rusqlite::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "journal_mode", "WAL")
}

impl Drop for EmbeddedWarehouse {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has answered everyone already, by dropping their jobs.
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Warehouse for EmbeddedWarehouse {
    async fn ensure_table(&self, table: &TableSpec) -> Result<Ensured, EnsureError> {
        let spec = table.clone();
        let ensured = self.call(move |connection| table::ensure(connection, &spec)).await;
        match ensured.map_err(EnsureError::Unavailable)? {
            Ok(ensured) => Ok(ensured),
            Err(table::Error::Mismatch(says)) => Err(EnsureError::Mismatch(self.named(says))),
            Err(table::Error::Sqlite(error)) if table::rejects_the_statement(&error) => {
                let says = format!("table {}: {}", table.name, table::words(&error));
                Err(EnsureError::Mismatch(self.named(says)))
            }
            Err(table::Error::Sqlite(error)) => {
                Err(EnsureError::Unavailable(self.named(table::words(&error))))
            }
        }
    }

    async fn is_empty(&self, table: &TableSpec) -> Result<bool, EnsureError> {
        let name = table.name.clone();
        let empty = self.call(move |connection| table::is_empty(connection, &name)).await;
        let empty = empty.map_err(EnsureError::Unavailable)?;
        empty.map_err(|error| EnsureError::Unavailable(self.named(table::words(&error))))
    }

    async fn write(
        &self,
        table: &Arc<TableSpec>,
        rows: Arc<Vec<Row>>,
    ) -> Result<Written, WriteError> {
        let table = Arc::clone(table);
        let written = self.ask(|answer| Job::Write(Write { table, rows, answer })).await;
        written.map_err(WriteError::Unavailable)?.map_err(|error| match error {
            WriteError::Unavailable(says) => WriteError::Unavailable(self.named(says)),
            WriteError::Gone(says) => WriteError::Gone(self.named(says)),
        })
    }

    fn ended(&self) -> Option<String> {
        let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        ended.then(|| self.named(ENDED))
    }
}
