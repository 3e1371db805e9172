//! The warehouse of a replay into staging: rows of the live tables go to the staging tables.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use kappa_actors::dead_letter_table;
use kappa_actors::port::{
    EnsureError, Ensured, ReprocessError, Reprocessing, StagingTables, Warehouse, WriteError,
    Written,
};
use kappa_actors::row::{Row, TableSpec};

/// Writes the rows for a live table into its staging table. Dead letters go to the live warehouse, where operators look
/// for them.
pub(super) struct StagedWarehouse {
    live: Arc<dyn Warehouse>,
    staging: Arc<dyn Warehouse>,
    /// By the names of the live tables.
    tables: HashMap<String, Arc<TableSpec>>,
}

impl StagedWarehouse {
    /// Stages `tables`, each under the revision of its rule, for the replay `id`: new ones, or those that it has begun to fill.
    pub(super) async fn stage(
        live: Arc<dyn Warehouse>,
        store: &dyn Reprocessing,
        (tables, revision): (&[Arc<TableSpec>], impl Fn(&str) -> u16),
        id: &str,
    ) -> Result<Self, ReprocessError> {
        let mut staged = HashMap::new();
        for table in tables {
            // Killed between the completion of one table and the next.
            let own = store.staged(&table.name).await?;
            let is_complete = own.is_some_and(|it| it.replay == id && it.completed.is_some());
            let tables = if is_complete {
                StagingTables::of(table, id)
            } else {
                store.stage(table, id, revision(&table.name)).await?
            };
            staged.insert(table.name.clone(), tables.rows);
        }
        Ok(Self { live, staging: store.warehouse(), tables: staged })
    }

    /// Where the rows of this table go, and under which name.
    fn place<'a>(&'a self, table: &'a TableSpec) -> (&'a Arc<dyn Warehouse>, &'a TableSpec) {
        if table.name == dead_letter_table::NAME {
            return (&self.live, table);
        }
        (&self.staging, self.tables.get(&table.name).map_or(table, |staged| staged))
    }
}

#[async_trait]
impl Warehouse for StagedWarehouse {
    async fn ensure_table(&self, table: &TableSpec) -> Result<Ensured, EnsureError> {
        let (warehouse, table) = self.place(table);
        warehouse.ensure_table(table).await
    }

    async fn is_empty(&self, table: &TableSpec) -> Result<bool, EnsureError> {
        let (warehouse, table) = self.place(table);
        warehouse.is_empty(table).await
    }

    async fn write(
        &self,
        table: &Arc<TableSpec>,
        rows: Arc<Vec<Row>>,
    ) -> Result<Written, WriteError> {
        let (warehouse, _) = self.place(table);
        warehouse.write(self.tables.get(&table.name).unwrap_or(table), rows).await
    }

    fn ended(&self) -> Option<String> {
        self.live.ended().or_else(|| self.staging.ended())
    }

    async fn close(&self) {
        futures::join!(self.live.close(), self.staging.close());
    }
}
