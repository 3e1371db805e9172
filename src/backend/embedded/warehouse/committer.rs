//! The thread of the warehouse: it commits the waiting rows, then answers.
//!
//! It owns the only writing connection of this process. Between commits it copies the write-ahead log into the file:
//! soon in quiet moments, late under load, because pages that are written repeatedly are then copied once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use kappa_actors::port::{WriteError, Written};
use kappa_actors::row::{Row, TableSpec};
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::{insert, table};
use crate::backend::embedded::sqlite::identity::OpenFiles;

/// Pages in the write-ahead log (375 MiB) that are copied into the file even under load. At
/// 5 M random keys one commit dirties 100 MiB of index: copied each time, half the work is copying.
/// More would make each copy a longer pause.
const CROWDED_PAGES: u32 = 24_000;

/// Pages in the write-ahead log (4 MiB) that are copied as soon as no job waits: a pause of about ten milliseconds.
const SETTLED_PAGES: u32 = 250;

/// How long nothing may come before it counts as a lull: longer than a busy writer needs to send
/// its next rows after an answer.
const LULL: Duration = Duration::from_millis(2);

/// The size in bytes to which a larger write-ahead log is cut back; one commit may exceed it.
const LOG_BYTES: i64 = 384 * 1024 * 1024;

/// A request to the thread.
pub(super) enum Job {
    /// Write rows, durably.
    Write(Write),
    /// Run this between two commits; it answers by itself.
    Call(Box<dyn FnOnce(&mut Connection) + Send>),
}

/// The answer to one call.
type Answer = Result<Written, WriteError>;

/// Rows to be written, and the waiting caller.
pub(super) struct Write {
    pub(super) table: Arc<TableSpec>,
    pub(super) rows: Arc<Vec<Row>>,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// The thread's own.
pub(super) struct Committer {
    connection: Connection,
    files: OpenFiles,
    jobs: Receiver<Job>,
    /// Pages in the write-ahead log after the last commit.
    log_pages: Arc<AtomicU32>,
}

impl Committer {
    pub(super) fn new(
        mut connection: Connection,
        files: OpenFiles,
        jobs: Receiver<Job>,
    ) -> rusqlite::Result<Self> {
        let log_pages = Arc::new(AtomicU32::new(0));
        let pages = Arc::clone(&log_pages);
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
        // In the place of SQLite's own checkpoint, which runs before a commit is answered.
        connection.wal_hook(Some(move |_: &mut _, count| {
            pages.store(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self { connection, files, jobs, log_pages })
    }

    /// Serves until the last sender is gone and all that waited is answered.
    pub(super) fn run(mut self) {
        while let Some(first) = self.next() {
            let mut writes = Vec::new();
            for job in std::iter::once(first).chain(self.jobs.try_iter()) {
                match job {
                    Job::Write(write) => writes.push(write),
                    Job::Call(call) => call(&mut self.connection),
                }
            }
            if !writes.is_empty() {
                self.commit(writes);
            }
            self.checkpoint_beyond(CROWDED_PAGES);
        }
    }

    /// Waits for the next job, and makes use of a lull.
    fn next(&mut self) -> Option<Job> {
        match self.jobs.recv_timeout(LULL) {
            Err(RecvTimeoutError::Timeout) => {
                self.checkpoint_beyond(SETTLED_PAGES);
                self.jobs.recv().ok()
            }
            job => job.ok(),
        }
    }

    /// Writes all in one transaction and answers each.
    fn commit(&mut self, writes: Vec<Write>) {
        match self.write(&writes) {
            Ok(outcomes) => {
                for (write, outcome) in writes.into_iter().zip(outcomes) {
                    // A caller that no longer waits needs no answer.
                    let _ = write.answer.send(outcome);
                }
            }
            Err(error) => {
                for write in writes {
                    let _ = write.answer.send(Err(WriteError::Unavailable(error.to_string())));
                }
            }
        }
    }

    /// One outcome for each write; `Err` when nothing at all was written.
    fn write(&mut self, writes: &[Write]) -> rusqlite::Result<Vec<Answer>> {
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior)?;
        let outcomes = writes
            .iter()
            .map(|write| match insert::insert(&transaction, &write.table, &write.rows) {
                Ok(written) => Ok(Ok(written)),
                // Found out before the first of its rows: the others are none the worse.
                Err(error) if table::rejects_the_statement(&error) => {
                    Ok(Err(WriteError::Gone(table::words(&error))))
                }
                Err(error) => Err(error),
            })
            .collect::<rusqlite::Result<_>>()?;
        transaction.commit()?;
        // After the commit: into a removed file it succeeds, and is lost.
        self.files.check()?;
        Ok(outcomes)
    }

    /// Copies the write-ahead log into the file if it holds at least `pages`.
    fn checkpoint_beyond(&self, pages: u32) {
        if self.log_pages.load(Ordering::Relaxed) < pages {
            return;
        }
        // Passive: it waits for no reader. Pages that cannot be copied, because of a reader or a full disk, are
        // safe in the log, and copied after the next commit.
        let copied = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()));
        if let Err(error) = copied {
            tracing::debug!(%error, "the warehouse's write-ahead log stays as it is");
        }
        self.log_pages.store(0, Ordering::Relaxed);
    }
}
