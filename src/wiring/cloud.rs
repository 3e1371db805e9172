//! Options of the backends on Google Cloud, from the settings.

use std::sync::Arc;
use std::time::Duration;

use kappa_actors::port::{ArchiveStore, EventLog};

use crate::backend::bigquery::{BigQueryOptions, BigQueryWarehouse, TableOptions, WriteMode};
use crate::backend::gcp::credentials;
use crate::backend::gcs::GcsOptions;
use crate::backend::pubsub::{PubSubOptions, TriedLog};
use crate::settings::{EventLogBackend, Settings, TableMode, TableSettings};

/// How long Pub/Sub is silent before it is asked whether it is there: as often as the crate keeps a
/// stream alive.
const SILENCE: Duration = Duration::from_secs(30);

/// Options of the log. The reader's memory budget bounds the messages on loan.
///
/// # Errors
/// When there are no credentials.
pub fn pubsub_options(settings: &Settings) -> anyhow::Result<PubSubOptions> {
    let (log, reader) = (&settings.event_log.pubsub, &settings.actors.reader);
    let endpoints = [log.endpoint.as_deref(), log.admin_endpoint.as_deref()];
    Ok(PubSubOptions {
        project: settings.gcp.project.clone(),
        topic: log.topic.clone(),
        subscription: settings.event_log.subscription.clone(),
        endpoint: log.endpoint.clone(),
        admin_endpoint: log.admin_endpoint.clone(),
        credentials: credentials(&settings.gcp.credentials, &endpoints)?,
        streams: log.streams,
        max_outstanding_messages: u64::try_from(reader.max_outstanding_messages)?,
        max_outstanding_bytes: reader.max_outstanding_bytes,
        max_lease: log.max_lease,
        ordering: log.ordering,
        max_event_bytes: usize::try_from(settings.max_event_bytes)?,
        silence: SILENCE,
    })
}

/// The daemon's log: after a kill, messages of Pub/Sub are tried in small batches. An embedded log does so
/// itself.
pub(super) fn tried(
    settings: &Settings,
    log: Arc<dyn EventLog>,
    archive: &Arc<dyn ArchiveStore>,
) -> Arc<dyn EventLog> {
    if settings.event_log.backend != EventLogBackend::PubSub {
        return log;
    }
    Arc::new(TriedLog::new(log, Arc::clone(archive), &settings.event_log.subscription))
}

/// Where the warehouse is, and how it is written.
///
/// # Errors
/// When there are no credentials.
pub fn bigquery_options(settings: &Settings) -> anyhow::Result<BigQueryOptions> {
    let warehouse = &settings.warehouse.bigquery;
    let endpoints = [warehouse.endpoint.as_deref(), warehouse.write_endpoint.as_deref()];
    let each = warehouse.each();
    Ok(BigQueryOptions {
        project: settings.gcp.project.clone(),
        dataset: warehouse.dataset.clone(),
        location: warehouse.location.clone(),
        endpoint: warehouse.endpoint.clone(),
        write_endpoint: warehouse.write_endpoint.clone(),
        credentials: credentials(&settings.gcp.credentials, &endpoints)?,
        max_requests_in_flight: warehouse.max_requests_in_flight,
        request_timeout: warehouse.request_timeout,
        quota_backoff: warehouse.quota_backoff,
        max_quota_backoff: warehouse.max_quota_backoff,
        schema_spread: warehouse.schema_spread,
        tables: table(warehouse.tables()),
        each: each.into_iter().map(|(name, settings)| (name, table(settings))).collect(),
    })
}

/// Opens the tables of a configuration, for commands that write no rows.
///
/// # Errors
/// When there are no credentials.
pub fn bigquery_tables(settings: &Settings) -> anyhow::Result<BigQueryWarehouse> {
    Ok(BigQueryWarehouse::connect(bigquery_options(settings)?, None)?)
}

fn table(settings: TableSettings) -> TableOptions {
    let mode = match settings.mode {
        TableMode::Auto => None,
        TableMode::Upsert => Some(WriteMode::Upsert),
        TableMode::Append => Some(WriteMode::Append),
    };
    TableOptions { mode, max_staleness: settings.max_staleness, labels: settings.labels }
}

/// Where the archive is.
///
/// # Errors
/// When there are no credentials.
pub fn gcs_options(settings: &Settings) -> anyhow::Result<GcsOptions> {
    let archive = &settings.archive.gcs;
    let endpoints = [archive.endpoint.as_deref(), archive.control_endpoint.as_deref()];
    Ok(GcsOptions {
        bucket: archive.bucket.clone(),
        prefix: archive.prefix.clone(),
        endpoint: archive.endpoint.clone(),
        control_endpoint: archive.control_endpoint.clone(),
        credentials: credentials(&settings.gcp.credentials, &endpoints)?,
        attempt_timeout: archive.attempt_timeout,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::Sources;

    #[test]
    fn every_setting_reaches_the_backend_it_is_for() {
        let set = [
            "gcp.project=p",
            "event_log.subscription=s",
            "event_log.pubsub.topic=t",
            "event_log.pubsub.endpoint=http://a:1",
            "event_log.pubsub.streams=3",
            "actors.reader.max_outstanding_messages=7",
            "actors.reader.max_outstanding_bytes=8",
            "warehouse.bigquery.dataset=d",
            "warehouse.bigquery.write_endpoint=http://b:2",
            "warehouse.bigquery.labels.team=data",
            "warehouse.bigquery.max_staleness=5m",
            "warehouse.bigquery.each.orders.mode=append",
            "warehouse.bigquery.each.orders.labels.tier=gold",
            "archive.gcs.bucket=b",
            "archive.gcs.prefix=x/",
            "archive.gcs.control_endpoint=http://c:3",
        ];
        let set = set.map(str::to_owned).to_vec();
        let settings = Settings::load(&Sources { set, ..Sources::default() }).unwrap();
        let log = pubsub_options(&settings).unwrap();
        assert_eq!([&*log.project, &log.subscription, &log.topic], ["p", "s", "t"]);
        assert_eq!((log.endpoint.as_deref(), log.admin_endpoint), (Some("http://a:1"), None));
        assert_eq!((log.max_outstanding_messages, log.max_outstanding_bytes), (7, 8));
        assert_eq!((log.streams, log.max_lease), (3, Duration::from_secs(3600)));
        let warehouse = bigquery_options(&settings).unwrap();
        assert_eq!((&*warehouse.project, &*warehouse.dataset), ("p", "d"));
        assert_eq!(warehouse.write_endpoint.as_deref(), Some("http://b:2"));
        assert_eq!(warehouse.tables.mode, None);
        let orders = &warehouse.each["orders"];
        assert_eq!(
            (orders.mode, orders.max_staleness),
            (Some(WriteMode::Append), Duration::from_secs(300))
        );
        assert!(orders.labels.keys().eq(["team", "tier"]), "{:?}", orders.labels);
        assert!(warehouse.tables.labels.keys().eq(["team"]), "{:?}", warehouse.tables.labels);
        let archive = gcs_options(&settings).unwrap();
        assert_eq!((&*archive.bucket, &*archive.prefix), ("b", "x/"));
        assert_eq!(archive.endpoint, None);
        assert_eq!(archive.control_endpoint.as_deref(), Some("http://c:3"));
    }
}
