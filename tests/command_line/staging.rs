//! `kappa diff` and `kappa merge`

use std::sync::Arc;

use kappa::backend::embedded::warehouse::EmbeddedStaging;
use kappa::settings::{Settings, Sources};
use kappa::wiring::Blueprint;
use kappa_actors::port::Reprocessing as _;
use kappa_actors::processor::Processor as _;
use kappa_actors::row::{Row, Value};

use super::util::Folder;

/// Two orders in the live table; staging has the first with another `item_count`, and not the
/// second, whose event was replayed.
fn with_staging() -> Folder {
    let folder = Folder::new();
    let event = |id: &str| {
        format!(
            r#"{{"event_id":"{id}","event_type":"order.placed","timestamp":"2026-02-17T14:30:00Z","data":{{"items":[1]}}}}"#
        )
    };
    folder.feed("publish -", format!("{}\n{}\n", event("a"), event("b")).as_bytes()).done();
    folder.drain("");
    let blueprint = Blueprint::of(&Settings::load(&Sources::default()).unwrap()).unwrap();
    let rule = blueprint.processors.iter().find(|it| it.plan.table().name == "orders").unwrap();
    let table = rule.plan.table();
    let live = rusqlite::Connection::open(folder.data().join("warehouse.db")).unwrap();
    let version: i64 = live
        .query_row("SELECT _version FROM orders WHERE event_id = 'a'", (), |row| row.get(0))
        .unwrap();
    let values = table.columns.iter().map(|column| match column.name.as_str() {
        "event_id" => Value::Text("a".into()),
        "event_type" => Value::Text("order.placed".into()),
        "item_count" => Value::Integer(7),
        "_version" => Value::Integer(version + 1),
        _ => Value::Null,
    });
    let row = Row(values.collect());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let staging = EmbeddedStaging::open(&folder.data()).unwrap();
        let tables = staging.stage(table, "r1").await.unwrap();
        let events = ["a", "b"].map(|id| Row([Value::Text(id.into())].into()));
        let to = staging.warehouse();
        to.write(&tables.rows, Arc::new(vec![row])).await.unwrap();
        to.write(&tables.events, Arc::new(events.into())).await.unwrap();
        staging.complete("orders", "r1").await.unwrap();
    });
    folder
}

#[test]
fn a_diff_shows_the_wrong_column_and_may_tell_by_its_exit_code() {
    let folder = with_staging();
    let diff = folder.run("diff orders").done().tells("of the replay r1, ended");
    assert!(diff.stdout.starts_with("added\t0\nmissing\t1\tb\nchanged\t1\n"), "{diff}");
    assert!(diff.stdout.contains("column item_count\t1\n  a\t1 -> 7\n"), "{diff}");
    assert!(!diff.stdout.contains("processed_at") && !diff.stdout.contains("_version"), "{diff}");
    let json = folder.run("diff orders --json --exit-code").ended_with(1).json();
    assert_eq!((&json[0]["changed"], &json[0]["missing"]), (&1.into(), &1.into()));
    folder.run("merge orders --keep-staging --remove-missing").done();
    let after = folder.run("diff orders --exit-code").done();
    assert!(after.stdout.contains("missing\t0\nchanged\t0\n"), "{after}");
}

#[test]
fn a_merge_does_what_its_dry_run_said_and_drops_the_staging_table() {
    let folder = with_staging();
    let said =
        "inserted\t0\nreplaced\t1\nunchanged\t0\nkept because live is newer\t0\nremoved\t1\n";
    folder.run("merge orders --remove-missing --dry-run").done().says(said);
    folder.run("merge orders --remove-missing").done().says(said);
    folder.run("merge orders").ended_with(1).says("").tells("hint: fill it with `kappa replay");
    let live = rusqlite::Connection::open(folder.data().join("warehouse.db")).unwrap();
    let rows: String = live
        .query_row("SELECT group_concat(event_id || item_count) FROM orders", (), |row| row.get(0))
        .unwrap();
    assert_eq!(rows, "a7");
}

#[test]
fn a_table_that_nothing_fills_or_stages_is_said_and_no_file_is_made() {
    let folder = Folder::new();
    folder.run("diff nothing").ended_with(1).tells("choose from").tells("orders");
    folder.run("merge orders").ended_with(1).tells("orders has no staging table");
    assert!(folder.is_empty());
}
