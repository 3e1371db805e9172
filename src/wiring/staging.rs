//! Where a replay stages its rows: beside the live tables of the configured warehouse.

use std::sync::Arc;

use anyhow::bail;
use kappa_actors::port::Reprocessing;

use super::{blocking, made};
use crate::backend::embedded::warehouse::{EmbeddedStaging, STAGING_FILE};
use crate::settings::{Settings, WarehouseBackend};

/// The staging tables of a configuration; where there is no place for them, it is made.
///
/// # Errors
/// What is wrong with the file, naming it, or what the service refuses.
pub async fn open_staging(settings: &Settings) -> anyhow::Result<Arc<dyn Reprocessing>> {
    match settings.warehouse.backend {
        WarehouseBackend::Embedded => Ok(Arc::new(blocking(settings, embedded).await?)),
        WarehouseBackend::BigQuery => {
            bail!("warehouse.backend is \"bigquery\", which cannot stage yet")
        }
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
