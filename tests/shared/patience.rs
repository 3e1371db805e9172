//! A warehouse that waits as a writer does: for unavailable services, and until appends know of an existing table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kappa::backend::bigquery::BigQueryStaging;
use kappa_actors::port::{
    Comparison, Diff, EnsureError, Ensured, Manner, MergeOptions, Merged, ReprocessError,
    Reprocessing, Staged, StagingTables, Warehouse, WriteError, Written,
};
use kappa_actors::row::{Row, TableSpec};
use kappa_actors::testing::warehouse::ReadBack;
use tokio::sync::Mutex;

use crate::dataset::Dataset;

/// How long the service may take to know of a change by itself: a new table or column.
const SPREADING: Duration = Duration::from_secs(10 * 60);
/// The pause between two tries.
const PAUSE: Duration = Duration::from_secs(2);

/// Writes to a warehouse with patience.
pub(crate) struct Patient {
    to: Arc<dyn Warehouse>,
    /// Existing tables.
    stand: Mutex<Vec<TableSpec>>,
}

impl Patient {
    pub(crate) fn with(to: Arc<dyn Warehouse>) -> Self {
        Self { to, stand: Mutex::default() }
    }
}

#[async_trait]
impl Warehouse for Patient {
    async fn ensure_table(&self, table: &TableSpec) -> Result<Ensured, EnsureError> {
        let began = Instant::now();
        loop {
            match self.to.ensure_table(table).await {
                Err(EnsureError::Unavailable(_)) if began.elapsed() < SPREADING => {}
                other => {
                    if other.is_ok() {
                        self.stand.lock().await.push(table.clone());
                    }
                    return other;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn is_empty(&self, table: &TableSpec) -> Result<bool, EnsureError> {
        self.to.is_empty(table).await
    }

    async fn write(
        &self,
        table: &Arc<TableSpec>,
        rows: Arc<Vec<Row>>,
    ) -> Result<Written, WriteError> {
        let began = Instant::now();
        loop {
            let error = match self.to.write(table, Arc::clone(&rows)).await {
                Err(error) if began.elapsed() < SPREADING => error,
                other => return other,
            };
            let stands = self.stand.lock().await.contains(table);
            if matches!(error, WriteError::Gone(_)) && !stands {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// A dataset that is written with patience.
pub(crate) struct PatientDataset {
    pub(crate) dataset: Arc<Dataset>,
    writes: Patient,
}

impl PatientDataset {
    pub(crate) fn new(dataset: Dataset) -> Self {
        let dataset = Arc::new(dataset);
        Self { writes: Patient::with(Arc::clone(&dataset) as Arc<dyn Warehouse>), dataset }
    }
}

#[async_trait]
impl Warehouse for PatientDataset {
    async fn ensure_table(&self, table: &TableSpec) -> Result<Ensured, EnsureError> {
        self.writes.ensure_table(table).await
    }

    async fn is_empty(&self, table: &TableSpec) -> Result<bool, EnsureError> {
        self.writes.is_empty(table).await
    }

    async fn write(
        &self,
        table: &Arc<TableSpec>,
        rows: Arc<Vec<Row>>,
    ) -> Result<Written, WriteError> {
        self.writes.write(table, rows).await
    }
}

#[async_trait]
impl ReadBack for PatientDataset {
    async fn read_back(&self, table: &TableSpec) -> Vec<Row> {
        self.dataset.read_back(table).await
    }
}

/// Staging tables that are written with patience.
pub(crate) struct PatientStaging {
    staging: BigQueryStaging,
    writes: Arc<Patient>,
}

impl PatientStaging {
    pub(crate) fn new(staging: BigQueryStaging) -> Self {
        Self { writes: Arc::new(Patient::with(staging.warehouse())), staging }
    }
}

#[async_trait]
impl Reprocessing for PatientStaging {
    fn warehouse(&self) -> Arc<dyn Warehouse> {
        Arc::clone(&self.writes) as Arc<dyn Warehouse>
    }

    async fn stage(
        &self,
        table: &TableSpec,
        replay: &str,
        revision: u16,
    ) -> Result<StagingTables, ReprocessError> {
        let tables = self.staging.stage(table, replay, revision).await?;
        let made = [&tables.rows, &tables.events].map(|spec| TableSpec::clone(spec));
        self.writes.stand.lock().await.extend(made);
        Ok(tables)
    }

    async fn complete(&self, table: &str, replay: &str) -> Result<(), ReprocessError> {
        self.staging.complete(table, replay).await
    }

    async fn staged(&self, table: &str) -> Result<Option<Staged>, ReprocessError> {
        self.staging.staged(table).await
    }

    async fn manner(&self, table: &TableSpec) -> Result<Manner, ReprocessError> {
        self.staging.manner(table).await
    }

    async fn diff(&self, table: &TableSpec, how: &Comparison) -> Result<Diff, ReprocessError> {
        self.staging.diff(table, how).await
    }

    async fn merge(
        &self,
        table: &TableSpec,
        how: &Comparison,
        options: MergeOptions,
    ) -> Result<Merged, ReprocessError> {
        self.staging.merge(table, how, options).await
    }

    async fn drop_staging(&self, table: &str) -> Result<bool, ReprocessError> {
        self.staging.drop_staging(table).await
    }
}
