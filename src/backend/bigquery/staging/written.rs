//! The warehouse that staging tables are written in.

use std::sync::Arc;

use async_trait::async_trait;
use kappa_actors::port::{EnsureError, Ensured, Warehouse, WriteError, Written};
use kappa_actors::row::{Row, TableSpec};

use crate::backend::bigquery::rest::RestError;
use crate::backend::bigquery::{BigQueryWarehouse, WriteMode, schema};

/// Returns the table without a key: every row is added to it, and there is no view.
pub(super) fn keyless(table: &TableSpec) -> TableSpec {
    TableSpec { key: Vec::new(), ..table.clone() }
}

/// Rows are added; queries choose among them.
pub(super) struct StagedWarehouse(Arc<BigQueryWarehouse>);

impl StagedWarehouse {
    pub(super) fn new(within: Arc<BigQueryWarehouse>) -> Self {
        Self(within)
    }
}

#[async_trait]
impl Warehouse for StagedWarehouse {
    /// Makes no table: one without the note of a replay would take rows that are never merged.
    async fn ensure_table(&self, table: &TableSpec) -> Result<Ensured, EnsureError> {
        match self.0.rest.table(&table.name).await {
            Ok(found) => {
                let gap = schema::compare(&keyless(table), WriteMode::Append, &found);
                let gap = gap.map_err(EnsureError::Mismatch)?;
                if gap.missing.is_empty() {
                    return Ok(Ensured { idle: gap.idle, ..Ensured::default() });
                }
                let says = format!(
                    "{} is not as configured: drop it and replay again",
                    self.0.rest.full_name(&table.name)
                );
                Err(EnsureError::Mismatch(says))
            }
            Err(RestError::NotFound(_)) => Err(EnsureError::Mismatch(format!(
                "{} is gone: replay again",
                self.0.rest.full_name(&table.name)
            ))),
            Err(error) => Err(error.into()),
        }
    }

    async fn is_empty(&self, table: &TableSpec) -> Result<bool, EnsureError> {
        self.0.is_empty(table).await
    }

    async fn write(
        &self,
        table: &Arc<TableSpec>,
        rows: Arc<Vec<Row>>,
    ) -> Result<Written, WriteError> {
        self.0.write(&Arc::new(keyless(table)), rows).await
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
