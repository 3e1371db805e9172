#![doc = include_str!("bigquery/README.md")]

mod append;
mod audit;
mod bounds;
mod cell;
mod compact;
mod connection;
mod dead_letters;
mod encode;
mod fault;
mod isolate;
mod options;
mod pause;
mod query;
mod rest;
mod schema;
mod setup;
mod staging;
mod table_writer;
mod tables;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use kappa_actors::dead_letter_table;
use kappa_actors::port::{ArchiveStore, EnsureError, Ensured, Warehouse, WriteError, Written};
use kappa_actors::row::{Row, TableSpec};

pub use compact::{CompactPlan, Days, Partition};
pub use options::{BigQueryOptions, TableOptions, WriteMode};
pub use staging::BigQueryStaging;

use encode::Change;
use rest::Rest;
use table_writer::TableWriter;

/// One dataset.
pub struct BigQueryWarehouse {
    options: Arc<BigQueryOptions>,
    rest: Rest,
    /// Takes the payloads of dead letters that are too large for a row.
    payloads: Option<Arc<dyn ArchiveStore>>,
    /// The table of dead letters is known to have every column.
    letters_complete: AtomicBool,
    writers: Mutex<HashMap<String, Arc<TableWriter>>>,
}

impl fmt::Debug for BigQueryWarehouse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BigQueryWarehouse")
            .field("dataset", &self.rest.dataset_name())
            .finish_non_exhaustive()
    }
}

impl BigQueryWarehouse {
    /// A warehouse that has asked nothing of the service yet. Payloads of dead letters that are
    /// too large for a row go to `payloads`.
    ///
    /// # Errors
    /// [`EnsureError::Mismatch`] when no client can be made of these options.
    pub fn connect(
        options: BigQueryOptions,
        payloads: Option<Arc<dyn ArchiveStore>>,
    ) -> Result<Self, EnsureError> {
        Ok(Self {
            rest: Rest::new(&options)?,
            options: Arc::new(options),
            payloads,
            letters_complete: AtomicBool::default(),
            writers: Mutex::default(),
        })
    }

    /// How a table is written.
    fn mode(&self, table: &TableSpec) -> WriteMode {
        match (table.key.is_empty(), table.version) {
            (true, _) => WriteMode::Append,
            // Letters are marked as requeued, and read from the table itself.
            (false, _) if table.name == dead_letter_table::NAME => WriteMode::Upsert,
            (false, None) => WriteMode::Upsert,
            (false, Some(_)) => {
                let default =
                    if table.keeps_events { WriteMode::Append } else { WriteMode::Upsert };
                self.table_options(&table.name).mode.unwrap_or(default)
            }
        }
    }

    fn table_options(&self, name: &str) -> TableOptions {
        let mut options = self.options.each.get(name).unwrap_or(&self.options.tables).clone();
        if name == dead_letter_table::NAME && !self.options.each.contains_key(name) {
            // Who requeues letters must see which of them were requeued already.
            options.max_staleness = std::time::Duration::ZERO;
        }
        options
    }

    /// The writer of a table in this shape; one for another shape is closed.
    async fn writer(&self, table: &Arc<TableSpec>) -> Arc<TableWriter> {
        let (writer, replaced) = {
            let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
            let standing = writers.get(&table.name);
            if let Some(same) = standing.filter(|standing| standing.table == *table) {
                return Arc::clone(same);
            }
            let (options, rest) = (Arc::clone(&self.options), self.rest.clone());
            let writer = TableWriter::new(Arc::clone(table), self.mode(table), options, rest);
            let writer = Arc::new(writer);
            (Arc::clone(&writer), writers.insert(table.name.clone(), writer))
        };
        if let Some(replaced) = replaced {
            replaced.close().await;
        }
        writer
    }
}

impl BigQueryWarehouse {
    /// Removes from an upserted table the rows of these keys whose version is not higher than that of the given row; the
    /// answers are those of [`Warehouse::write`].
    async fn remove(&self, table: &Arc<TableSpec>, rows: Vec<Row>) -> Result<Written, WriteError> {
        self.writer(table).await.write(&Arc::new(rows), Change::Removal).await.map(Written::from)
    }

    /// Puts rows in the place of newer rows of their keys, which are removed: each has the version of
    /// the removal behind its columns. See [`Warehouse::write`] for the answer.
    async fn put_in_place(
        &self,
        table: &Arc<TableSpec>,
        rows: Vec<Row>,
    ) -> Result<Written, WriteError> {
        self.writer(table).await.write(&Arc::new(rows), Change::InPlace).await.map(Written::from)
    }
}

#[async_trait]
impl Warehouse for BigQueryWarehouse {
    async fn ensure_table(&self, table: &TableSpec) -> Result<Ensured, EnsureError> {
        let options = self.table_options(&table.name);
        tables::ensure(&self.rest, table, self.mode(table), &options).await
    }

    async fn is_empty(&self, table: &TableSpec) -> Result<bool, EnsureError> {
        Ok(tables::is_empty(&self.rest, table).await?)
    }

    async fn write(
        &self,
        table: &Arc<TableSpec>,
        rows: Arc<Vec<Row>>,
    ) -> Result<Written, WriteError> {
        if rows.is_empty() {
            return Ok(Written::default());
        }
        let rows = if table.name == dead_letter_table::NAME {
            self.put_away_payloads(rows).await?
        } else {
            rows
        };
        self.writer(table).await.write(&rows, Change::Arrival).await.map(Written::from)
    }

    async fn close(&self) {
        let writers: Vec<_> = {
            let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
            writers.drain().map(|(_, writer)| writer).collect()
        };
        futures::future::join_all(writers.iter().map(|writer| writer.close())).await;
    }
}
