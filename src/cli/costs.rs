//! Configurations that cost more than they need to.

use std::time::Duration;

use humantime::format_duration;
use kappa_actors::processor::Processor as _;
use kappa_actors::row::TableSpec;

use crate::settings::{EventLogBackend, Settings, TableSettings, WarehouseBackend};
use crate::wiring::Blueprint;

/// US dollars for each TiB that a query reads on demand, in November 2026:
/// <https://cloud.google.com/bigquery/pricing#on_demand_pricing>
const DOLLARS_PER_TIB: f64 = 6.25;
const DAY: Duration = Duration::from_secs(86_400);
const MONTH: Duration = DAY.saturating_mul(30);
/// Below it applying upserts becomes the largest part of the bill.
const MIN_STALENESS: Duration = Duration::from_secs(4 * 3600);

/// All of them, as sentences.
pub(super) fn warnings(settings: &Settings, blueprint: &Blueprint) -> Vec<String> {
    let mut warnings = Vec::new();
    let kept = settings.event_log.pubsub.topic_retention;
    if settings.event_log.backend == EventLogBackend::PubSub && kept > DAY {
        warnings.push(format!(
            "event_log.pubsub.topic_retention is {}: Pub/Sub bills all messages of that time as \
             storage; a day is enough for a seek after a mistake, and the archive has the rest",
            format_duration(kept)
        ));
    }
    if settings.warehouse.backend == WarehouseBackend::BigQuery {
        for rule in &blueprint.processors {
            let table = rule.plan.table();
            let options = settings.warehouse.bigquery.of(&table.name);
            let warning = match options.appends(table) {
                _ if table.key.is_empty() => None,
                true => unpruned(rule.plan.name(), table),
                false => upserts(table, &options),
            };
            warnings.extend(warning);
        }
    }
    warnings
}

/// A view of the newest row of a key can leave out partitions only if the key decides on them.
fn unpruned(processor: &str, table: &TableSpec) -> Option<String> {
    let partition = table.partition_by.filter(|at| !table.key.contains(at))?;
    Some(format!(
        "processors.{processor}.partition_by is {:?}, which is not in the key: every query of the \
         view {}_deduplicated reads the whole table; add it to the key if all rows of a key have the \
         same value",
        table.columns[partition].name, table.name
    ))
}

/// Upserts are applied by reading the whole table, whatever its partitions:
/// <https://cloud.google.com/bigquery/docs/change-data-capture#manage_table_staleness>
fn upserts(table: &TableSpec, options: &TableSettings) -> Option<String> {
    let (name, staleness) = (&table.name, options.max_staleness);
    if staleness >= MIN_STALENESS && !table.keeps_events {
        return None;
    }
    let often = match staleness.is_zero() {
        true => "in every query".to_owned(),
        false => {
            let dollars = DOLLARS_PER_TIB * MONTH.div_duration_f64(staleness);
            let staleness = format_duration(staleness);
            format!("every {staleness}, for up to ${dollars:.0} a month and TiB on demand")
        }
    };
    let hint = match table.keeps_events {
        true => "set its mode to \"append\"",
        false => "raise max_staleness to 4h or more",
    };
    Some(format!(
        "table {name} takes upserts: BigQuery reads the whole table to apply them, {often}; {hint}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Sources;

    const CLOUD: [&str; 2] = ["gcp.project=p", "archive.gcs.bucket=b"];
    const LATEST: [&str; 2] =
        ["processors.users.key=[\"entity_id\"]", "processors.users.order_by=event_timestamp"];

    fn told(sets: &[&str]) -> Vec<String> {
        let files = vec![concat!(env!("CARGO_MANIFEST_DIR"), "/config/gcp.toml").into()];
        let set = CLOUD.iter().chain(sets).map(ToString::to_string).collect();
        let settings = Settings::load(&Sources { files, set, ..Sources::default() }).unwrap();
        warnings(&settings, &Blueprint::of(&settings).unwrap())
    }

    #[test]
    fn the_shipped_cloud_configuration_and_a_table_of_latest_states_warn_of_nothing() {
        assert_eq!(told(&[]), [""; 0]);
        assert_eq!(told(&[LATEST[0], LATEST[1], "processors.users.cluster_by=[]"]), [""; 0]);
    }

    #[test]
    fn each_costly_setting_is_reported_with_its_price_and_a_way_out() {
        let state = |set| [LATEST[0], LATEST[1], set];
        for (sets, parts) in [
            (&["event_log.pubsub.topic_retention=7d"][..], ["topic_retention is 7days", "archive"]),
            (&["processors.users.key=[\"event_id\"]"], ["view users_deduplicated", "to the key"]),
            (
                &["warehouse.bigquery.each.users.mode=upsert"],
                ["every 4h, for up to $1125 a month", "set its mode to \"append\""],
            ),
            (
                &state("warehouse.bigquery.max_staleness=15m"),
                ["every 15m, for up to $18000 a month", "raise max_staleness to 4h"],
            ),
            (&state("warehouse.bigquery.max_staleness=0s"), ["in every query", "raise"]),
            (
                &state("warehouse.bigquery.each.users.mode=append"),
                ["processors.users.partition_by is \"event_timestamp\"", "reads the whole table"],
            ),
        ] {
            let [warning] = &told(sets)[..] else { panic!("{sets:?}: {:?}", told(sets)) };
            assert!(parts.iter().all(|part| warning.contains(part)), "{sets:?}: {warning}");
        }
    }

    #[test]
    fn embedded_backends_cost_nothing() {
        let set = ["processors.users.key=[\"event_id\"]", "warehouse.bigquery.max_staleness=0s"];
        let set = set.map(str::to_owned).to_vec();
        let settings = Settings::load(&Sources { set, ..Sources::default() }).unwrap();
        assert_eq!(warnings(&settings, &Blueprint::of(&settings).unwrap()), [""; 0]);
    }
}
