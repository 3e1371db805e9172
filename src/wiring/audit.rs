//! Opens the backends of an audit.

use std::collections::HashSet;
use std::sync::Arc;

#[cfg(not(feature = "gcp"))]
use anyhow::bail;
use kappa_actors::audit::Audit;
use kappa_actors::port::{Acknowledged, Auditable, LogError};
use kappa_actors::processor::Processor;

use super::{Blueprint, Rule, blocking, open_archive, open_log};
use crate::backend::embedded::log;
use crate::backend::embedded::warehouse::EmbeddedAudit;
use crate::settings::{EventLogBackend, Settings, WarehouseBackend};

/// The archive, the warehouse and the rules of a configuration, to be compared.
///
/// # Errors
/// Names the file and its fault, or the service's refusal.
pub async fn open_audit(
    settings: &Settings,
    blueprint: &Blueprint,
    values: bool,
) -> anyhow::Result<Audit> {
    let archive = open_archive(settings).await?;
    let warehouse: Arc<dyn Auditable> = match settings.warehouse.backend {
        WarehouseBackend::Embedded => {
            let open = |settings: &Settings| Ok(EmbeddedAudit::open(&settings.data_dir)?);
            Arc::new(blocking(settings, open).await?)
        }
        #[cfg(feature = "gcp")]
        WarehouseBackend::BigQuery => Arc::new(super::bigquery(settings, Arc::clone(&archive))?),
        #[cfg(not(feature = "gcp"))]
        WarehouseBackend::BigQuery => bail!(super::no_connection("warehouse.backend", "bigquery")),
    };
    let processors = blueprint.processors.iter();
    Ok(Audit {
        archive,
        warehouse,
        envelope: Arc::clone(&blueprint.envelope),
        values: values.then(|| now_columns(blueprint)),
        processors: processors.map(|it| Arc::clone(&it.plan) as Arc<dyn Processor>).collect(),
    })
}

/// The columns that hold the time of processing, each with its processor's name.
fn now_columns(blueprint: &Blueprint) -> HashSet<(String, String)> {
    let columns = |rule: &Rule| {
        let name = rule.plan.name().to_owned();
        let now = rule.config.columns.iter().filter(|(_, column)| column.now);
        now.map(|(column, _)| (name.clone(), column.clone())).collect::<Vec<_>>()
    };
    blueprint.processors.iter().flat_map(columns).collect()
}

/// Returns up to which time the log of a configuration is acknowledged; `None` if there is no log, which is not
/// created for this.
///
/// # Errors
/// The log's error, or the fault of its files.
pub async fn acknowledged(settings: &Settings) -> Result<Option<Acknowledged>, LogError> {
    let is_embedded = settings.event_log.backend == EventLogBackend::Embedded;
    if is_embedded && !settings.data_dir.join(log::FILE).exists() {
        return Ok(None);
    }
    let opened = open_log(settings).await;
    let log = opened.map_err(|error| LogError::Unavailable(format!("{error:#}")))?;
    let acknowledged = log.acknowledged().await;
    log.close().await;
    acknowledged.map(Some)
}
