//! Staging tables: the SQLite file `staging.db`, next to the live file.
//!
//! A replay writes here, so only a merge locks the live file, in one transaction. A merge changes the live file
//! alone: a kill before its commit has no effect; after a kill behind the commit the staging table still exists, and a
//! second merge changes nothing.

mod compare;
mod join;
mod notes;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use kappa_actors::port::{
    Comparison, Diff, MergeOptions, Merged, ReprocessError, Reprocessing, Staged, StagingTables,
    Warehouse,
};
use kappa_actors::row::TableSpec;
use rusqlite::{Connection, TransactionBehavior};

use self::compare::Compare;
use super::{CACHE_KIB, EmbeddedWarehouse, table};
use crate::backend::embedded::sqlite::{self, OpenError};

/// The file's name in the data folder.
pub const STAGING_FILE: &str = "staging.db";

/// The staging tables of a data folder, to be compared with its warehouse.
#[derive(Debug)]
pub struct EmbeddedStaging {
    live: PathBuf,
    warehouse: Arc<EmbeddedWarehouse>,
}

impl EmbeddedStaging {
    /// Opens `staging.db` in the folder `dir`, which exists, or makes it.
    ///
    /// # Errors
    /// [`OpenError`], naming the file.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let warehouse = Arc::new(EmbeddedWarehouse::open_file(dir.join(STAGING_FILE))?);
        Ok(Self { live: dir.join(super::FILE), warehouse })
    }

    /// Runs `work` on the thread of `staging.db`.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, ReprocessError> {
        let done = self.warehouse.call(work).await;
        done.map_err(ReprocessError::Unavailable)?.map_err(|error| self.named(error))
    }

    /// Runs `work` on a connection of its own that sees both files, beside all who write.
    async fn beside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, ReprocessError> {
        let (staging, live) = (self.warehouse.path.clone(), self.live.clone());
        let both = tokio::task::spawn_blocking(move || {
            let mut connection = sqlite::open(&staging, super::VERSION, "")
                .map_err(|error| Error::Says(ReprocessError::Unavailable(error.to_string())))?;
            attach(&connection, &live)?;
            work(&mut connection)
        });
        let ended = |error: tokio::task::JoinError| ReprocessError::Unavailable(error.to_string());
        both.await.map_err(ended)?.map_err(|error| self.named(error))
    }

    fn named(&self, error: Error) -> ReprocessError {
        match error {
            Error::Says(error) => error,
            Error::Sqlite(error) => {
                ReprocessError::Unavailable(self.warehouse.named(table::words(&error)))
            }
        }
    }
}

/// Why staging is not as asked.
enum Error {
    /// In words for the reader.
    Says(ReprocessError),
    /// SQLite's own answer.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<table::Error> for Error {
    fn from(error: table::Error) -> Self {
        match error {
            table::Error::Mismatch(says) => Self::Says(ReprocessError::Mismatch(says)),
            table::Error::Sqlite(error) => Self::Sqlite(error),
        }
    }
}

/// Makes the live file visible as `live`; one that is not there is empty, and not made.
fn attach(connection: &Connection, live: &Path) -> Result<(), Error> {
    let path = if live.exists() { live.to_str() } else { Some(":memory:") };
    let path = path.ok_or_else(|| {
        let says = format!("{}: the folder's name is not UTF-8", live.display());
        Error::Says(ReprocessError::Mismatch(says))
    })?;
    connection.execute("ATTACH ? AS live", [path])?;
    for schema in ["main", "live"] {
        connection.pragma_update(Some(schema), "cache_size", -CACHE_KIB)?;
    }
    Ok(connection.pragma_update(Some("live"), "synchronous", "FULL")?)
}

#[async_trait]
impl Reprocessing for EmbeddedStaging {
    fn warehouse(&self) -> Arc<dyn Warehouse> {
        Arc::clone(&self.warehouse) as Arc<dyn Warehouse>
    }

    async fn stage(
        &self,
        table: &TableSpec,
        replay: &str,
        revision: u16,
    ) -> Result<StagingTables, ReprocessError> {
        let (live, replay) = (table.clone(), replay.to_owned());
        self.call(move |connection| {
            join::check_keyed(&live)?;
            let tables = StagingTables::of(&live, &replay);
            notes::begin(connection, &live.name, &replay, revision)?;
            if table::fit(connection, "main", &tables.rows)?.is_some() {
                join::check_staging(connection, &tables.rows)?;
            }
            table::ensure(connection, &tables.rows)?;
            table::ensure(connection, &tables.events)?;
            Ok(tables)
        })
        .await
    }

    async fn complete(&self, table: &str, replay: &str) -> Result<(), ReprocessError> {
        let (table, replay) = (table.to_owned(), replay.to_owned());
        self.call(move |connection| notes::complete(connection, &table, &replay)).await
    }

    async fn staged(&self, table: &str) -> Result<Option<Staged>, ReprocessError> {
        let table = table.to_owned();
        self.call(move |connection| notes::find(connection, &table)).await
    }

    async fn diff(&self, table: &TableSpec, how: &Comparison) -> Result<Diff, ReprocessError> {
        let (table, how) = (table.clone(), how.clone());
        self.beside(move |connection| {
            let transaction = connection.transaction()?;
            let staged = notes::standing(&transaction, &table.name)?;
            let how = match staged.completed {
                Some(_) => how,
                None => Comparison { scope: None, ..how },
            };
            Compare::new(&transaction, &table, &staged.replay, &how, false)?.diff()
        })
        .await
    }

    async fn merge(
        &self,
        table: &TableSpec,
        how: &Comparison,
        options: MergeOptions,
    ) -> Result<Merged, ReprocessError> {
        if !options.dry_run {
            self.ready(table).await?;
        }
        let (table, how) = (table.clone(), Comparison { examples: 0, ..how.clone() });
        self.beside(move |connection| merge(connection, &table, &how, options)).await
    }

    async fn drop_staging(&self, table: &str) -> Result<bool, ReprocessError> {
        let table = table.to_owned();
        self.call(move |connection| notes::remove(connection, &table)).await
    }
}

impl EmbeddedStaging {
    /// Makes the live table, and the columns that it lacks, as a daemon does when it starts.
    async fn ready(&self, table: &TableSpec) -> Result<(), ReprocessError> {
        let (live, table) = (self.live.clone(), table.clone());
        self.beside(move |connection| {
            // A refused merge leaves the live table as it is.
            let staged = notes::standing(connection, &table.name)?;
            join::check_complete(&staged, &table.name)?;
            join::check_staging(connection, &StagingTables::of(&table, &staged.replay).rows)?;
            let mut live = sqlite::open(&live, super::VERSION, "")
                .map_err(|error| Error::Says(ReprocessError::Unavailable(error.to_string())))?;
            table::ensure(&mut live, &table)?;
            Ok(())
        })
        .await
    }
}

fn merge(
    connection: &mut Connection,
    table: &TableSpec,
    how: &Comparison,
    options: MergeOptions,
) -> Result<Merged, Error> {
    // Immediate: the counted rows cannot change before the merge.
    let behavior = if options.dry_run {
        TransactionBehavior::Deferred
    } else {
        TransactionBehavior::Immediate
    };
    let transaction = connection.transaction_with_behavior(behavior)?;
    let staged = notes::standing(&transaction, &table.name)?;
    join::check_complete(&staged, &table.name)?;
    let compare = Compare::new(&transaction, table, &staged.replay, how, options.remove_missing)?;
    let diff = compare.diff()?;
    let mut merged = Merged {
        inserted: diff.added,
        replaced: diff.changed - diff.live_newer,
        unchanged: diff.same,
        kept: diff.live_newer + diff.older,
        ..Merged::default()
    };
    if options.remove_missing {
        (merged.removed, merged.may_hide) = (diff.missing.unwrap_or(0), diff.may_hide);
    }
    if !options.dry_run {
        if options.remove_missing {
            compare.remove_missing()?;
        }
        compare.put()?;
        drop(compare);
        transaction.commit()?;
    }
    Ok(merged)
}
