//! Where a replay stages its rows: beside the live tables of the configured warehouse.

use std::sync::Arc;

#[cfg(not(feature = "gcp"))]
use anyhow::bail;
use kappa_actors::port::Reprocessing;

#[cfg(feature = "gcp")]
use super::cloud::bigquery_options;
#[cfg(not(feature = "gcp"))]
use super::no_connection;
use super::{blocking, made};
#[cfg(feature = "gcp")]
use crate::backend::bigquery::{BigQueryStaging, BigQueryWarehouse};
use crate::backend::embedded::warehouse::{EmbeddedStaging, STAGING_FILE};
use crate::settings::{Settings, WarehouseBackend};

/// The staging tables of a configuration; a missing file is created.
///
/// # Errors
/// Names the file and its fault, or the service's refusal.
pub async fn open_staging(settings: &Settings) -> anyhow::Result<Arc<dyn Reprocessing>> {
    match settings.warehouse.backend {
        WarehouseBackend::Embedded => Ok(Arc::new(blocking(settings, embedded).await?)),
        #[cfg(feature = "gcp")]
        WarehouseBackend::BigQuery => {
            // Only dead letters have payloads that go to the archive, and none are staged.
            let warehouse = BigQueryWarehouse::connect(bigquery_options(settings)?, None)?;
            Ok(Arc::new(BigQueryStaging::beside(warehouse)))
        }
        #[cfg(not(feature = "gcp"))]
        WarehouseBackend::BigQuery => bail!(no_connection("warehouse.backend", "bigquery")),
    }
}

/// The staging tables of a configuration; `None` where nothing was ever staged, and nothing is made.
///
/// # Errors
/// As [`open_staging`].
pub async fn find_staging(settings: &Settings) -> anyhow::Result<Option<Arc<dyn Reprocessing>>> {
    let nowhere = settings.warehouse.backend == WarehouseBackend::Embedded
        && !settings.data_dir.join(STAGING_FILE).exists();
    if nowhere { Ok(None) } else { Ok(Some(open_staging(settings).await?)) }
}

fn embedded(settings: &Settings) -> anyhow::Result<EmbeddedStaging> {
    Ok(EmbeddedStaging::open(made(&settings.data_dir)?)?)
}
