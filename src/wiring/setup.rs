//! Finds and creates the resources of the backends on Google Cloud.

use kappa_actors::dead_letter_table;
use kappa_actors::processor::Processor as _;
use kappa_actors::row::TableSpec;

use super::{Blueprint, cloud};
use crate::backend::bigquery::BigQueryWarehouse;
use crate::backend::gcs::{GcsArchive, WantedBucket};
use crate::backend::pubsub::setup::{PubSubSetup, Wanted};
use crate::backend::setup::{Lacking, SetupError, Thing};
use crate::settings::{ArchiveBackend, EventLogBackend, Settings, WarehouseBackend};

/// Looks at the resources of the configured backends, each by itself: one failure hides no other. Missing resources are
/// created unless this is a `dry_run`.
pub async fn set_up(
    settings: &Settings,
    blueprint: &Blueprint,
    dry_run: bool,
) -> Vec<Result<Thing, SetupError>> {
    let mut things = Vec::new();
    if settings.event_log.backend == EventLogBackend::PubSub {
        things.extend(spread(log(settings, dry_run).await));
    }
    if settings.warehouse.backend == WarehouseBackend::BigQuery {
        things.extend(spread(warehouse(settings, blueprint, dry_run).await));
    }
    if settings.archive.backend == ArchiveBackend::Gcs {
        things.push(archive(settings, dry_run).await);
    }
    things
}

/// The permissions that the configured backends need and the caller lacks.
pub async fn lacking(
    settings: &Settings,
    blueprint: &Blueprint,
) -> Vec<Result<Vec<Lacking>, SetupError>> {
    let mut all = Vec::new();
    if settings.event_log.backend == EventLogBackend::PubSub {
        all.push(async { pubsub(settings).await?.lacking().await.map_err(failed) }.await);
    }
    if settings.warehouse.backend == WarehouseBackend::BigQuery {
        let specs = specs(blueprint);
        all.push(async { bigquery(settings)?.lacking(&specs).await }.await);
    }
    if settings.archive.backend == ArchiveBackend::Gcs {
        all.push(async { gcs(settings).await?.lacking().await }.await);
    }
    all
}

fn spread(things: Result<Vec<Thing>, SetupError>) -> Vec<Result<Thing, SetupError>> {
    match things {
        Ok(things) => things.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    }
}

fn failed(error: impl std::fmt::Display) -> SetupError {
    SetupError(error.to_string())
}

async fn log(settings: &Settings, dry_run: bool) -> Result<Vec<Thing>, SetupError> {
    pubsub(settings).await?.set_up(dry_run).await.map_err(failed)
}

async fn warehouse(
    settings: &Settings,
    blueprint: &Blueprint,
    dry_run: bool,
) -> Result<Vec<Thing>, SetupError> {
    bigquery(settings)?.set_up(&specs(blueprint), dry_run).await
}

async fn archive(settings: &Settings, dry_run: bool) -> Result<Thing, SetupError> {
    let wanted = WantedBucket {
        project: settings.gcp.project.clone(),
        location: settings.archive.gcs.location.clone(),
        storage_class: settings.archive.gcs.storage_class.clone(),
    };
    gcs(settings).await?.set_up(&wanted, dry_run).await
}

async fn pubsub(settings: &Settings) -> Result<PubSubSetup, SetupError> {
    let log = &settings.event_log.pubsub;
    let wanted = Wanted {
        exactly_once: log.exactly_once,
        ordering: log.ordering,
        filter: log.filter.clone().unwrap_or_default(),
        topic_retention: log.topic_retention,
    };
    let options = cloud::pubsub_options(settings).map_err(failed)?;
    PubSubSetup::connect(options, wanted).await.map_err(failed)
}

fn bigquery(settings: &Settings) -> Result<BigQueryWarehouse, SetupError> {
    let options = cloud::bigquery_options(settings).map_err(failed)?;
    BigQueryWarehouse::connect(options, None).map_err(failed)
}

async fn gcs(settings: &Settings) -> Result<GcsArchive, SetupError> {
    let options = cloud::gcs_options(settings).map_err(failed)?;
    GcsArchive::connect(options).await.map_err(failed)
}

/// All tables, each once.
fn specs(blueprint: &Blueprint) -> Vec<TableSpec> {
    let mut specs = vec![dead_letter_table::spec()];
    for rule in &blueprint.processors {
        let spec = rule.plan.table();
        if !specs.iter().any(|known| known.name == spec.name) {
            specs.push(TableSpec::clone(spec));
        }
    }
    specs
}
