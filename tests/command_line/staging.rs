//! `kappa diff` and `kappa merge`

use std::sync::Arc;

use kappa::backend::embedded::warehouse::EmbeddedStaging;
use kappa::settings::{Settings, Sources};
use kappa::wiring::Blueprint;
use kappa_actors::port::Reprocessing as _;
use kappa_actors::processor::Processor as _;
use kappa_actors::row::{Row, Value};
use kappa_actors::time::Timestamp;
use kappa_actors::version::Version;

use super::replay::{publish, query, with_orders};
use super::util::Folder;

/// When all events were.
const TIME: &str = "2026-02-17T14:30:00.000000Z";

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
    let version = |id: &str| {
        let select = "SELECT _version FROM orders WHERE event_id = ?";
        let bytes: Vec<u8> = live.query_row(select, [id], |row| row.get(0)).unwrap();
        Version::from_bytes(&bytes).unwrap()
    };
    let mended = Version::new(None, version("a").position(), 1);
    let events = ["a", "b"].map(|id| version(id).position().to_bytes().to_vec());
    let events = events.map(|position| Row([Value::Bytes(Box::new(position.into()))].into()));
    let values = table.columns.iter().map(|column| match column.name.as_str() {
        "event_id" => Value::Text("a".into()),
        "event_type" => Value::Text("order.placed".into()),
        "item_count" => Value::Integer(7),
        "event_timestamp" => Value::Timestamp(Timestamp::parse_rfc3339(TIME).unwrap()),
        "_version" => Value::Version(Box::new(mended)),
        _ => Value::Null,
    });
    let row = Row(values.collect());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let staging = EmbeddedStaging::open(&folder.data()).unwrap();
        let tables = staging.stage(table, "r1", 0).await.unwrap();
        let to = staging.warehouse();
        to.write(&tables.rows, Arc::new(vec![row])).await.unwrap();
        to.write(&tables.events, Arc::new(events.into())).await.unwrap();
        staging.complete("orders", "r1").await.unwrap();
    });
    folder
}

#[test]
fn a_diff_shows_the_wrong_column_and_reports_by_its_exit_code_on_request() {
    let folder = with_staging();
    let diff = folder.run("diff orders").done().tells("of the replay r1, ended");
    assert!(
        diff.stdout.starts_with(&format!(
            "added\t0\nmissing\t1\tb/{TIME}\nmay hide an older row\t1\nchanged\t1\n"
        )),
        "{diff}"
    );
    assert!(diff.stdout.contains(&format!("column item_count\t1\n  a/{TIME}\t1 -> 7\n")), "{diff}");
    assert!(!diff.stdout.contains("processed_at") && !diff.stdout.contains("_version"), "{diff}");
    let json = folder.run("diff orders --json --exit-code").ended_with(1).json();
    assert_eq!((&json[0]["changed"], &json[0]["missing"]), (&1.into(), &1.into()));
    folder.run("merge orders --keep-staging --remove-missing").done();
    let after = folder.run("diff orders --exit-code").done();
    assert!(after.stdout.contains("missing\t0\nmay hide an older row\t0\nchanged\t0\n"), "{after}");
}

#[test]
fn a_merge_does_as_its_dry_run_announced_and_drops_the_staging_table() {
    let folder = with_staging();
    let said = "inserted\t0\nreplaced\t1\nunchanged\t0\nkept because live is newer\t0\n\
        removed\t1\nmay hide an older row\t1\n";
    folder.run("merge orders --remove-missing --dry-run").done().says(said);
    let merge = folder.run("merge orders --remove-missing").done().says(said);
    merge.tells("1 rows removed from orders may have replaced older rows");
    folder.run("merge orders").ended_with(1).says("").tells("hint: fill it with `kappa replay");
    let live = rusqlite::Connection::open(folder.data().join("warehouse.db")).unwrap();
    let rows: String = live
        .query_row("SELECT group_concat(event_id || item_count) FROM orders", (), |row| row.get(0))
        .unwrap();
    assert_eq!(rows, "a7");
}

#[test]
fn an_unknown_table_is_reported_and_no_file_is_created() {
    let folder = Folder::new();
    folder.run("diff nothing").ended_with(1).tells("choose from").tells("orders");
    folder.run("merge orders").ended_with(1).tells("orders has no staging table");
    assert!(folder.is_empty());
}

/// All that ever was, and will be.
const EVER: &str = "--from 2020-01-01 --to 2100-01-01";

/// One table a way in which several rows share an event or a key.
const RULES: [(&str, &str); 3] = [
    ("state", "key = ['id']"),
    ("latest", "key = ['thing']\norder_by = 'at'"),
    ("lines", "key = ['id', 'line']\nexplode = '/data/lines'"),
];

/// Events that are sent a second time, corrected, under the same ids.
fn with_corrections() -> Folder {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.data().join("../config/processors")).unwrap();
    for (table, rule) in RULES {
        // An element is not the event: `root` points into the event.
        let (from, line) = match table {
            "lines" => ("root", "line = { type = 'INTEGER', index = true }\n"),
            _ => ("from", ""),
        };
        let rule = format!(
            "match = ['thing.']\ntable = '{table}'\n{rule}\n[columns]\n\
             id = {{ type = 'STRING', {from} = '/event_id' }}\n\
             thing = {{ type = 'STRING', {from} = '/entity_id' }}\n\
             at = {{ type = 'TIMESTAMP', {from} = '/timestamp' }}\n\
             v = {{ type = 'INTEGER', {from} = '/data/v' }}\n{line}"
        );
        folder.file(&format!("config/processors/{table}.toml"), rule.as_bytes());
    }
    for v in 0..2 {
        let event = |id: usize| {
            // The correction is of an earlier time: `order_by` lets the first stay.
            format!(
                r#"{{"event_id":"e{id}","event_type":"thing.set","timestamp":"2026-02-17T14:3{}:00Z","entity_id":"t{}","data":{{"v":{v},"lines":[1,2]}}}}"#,
                1 - v,
                id % 7,
            )
        };
        let lines: String = (0..100).map(|id| event(id) + "\n").collect();
        folder.feed("publish -", lines.as_bytes()).done();
        folder.drain("");
    }
    folder
}

#[test]
fn a_replay_under_the_same_rules_differs_in_nothing_and_its_merge_changes_nothing() {
    let folder = with_corrections();
    let rows = |table: &str| {
        let live = rusqlite::Connection::open(folder.data().join("warehouse.db")).unwrap();
        let all = format!("SELECT * FROM {table} ORDER BY 1, 2");
        let mut select = live.prepare(&all).unwrap();
        let count = select.column_count();
        let rows = select.query_map((), |row| {
            (0..count).map(|at| row.get::<_, rusqlite::types::Value>(at)).collect()
        });
        rows.unwrap().collect::<Result<Vec<Vec<_>>, _>>().unwrap()
    };
    folder.run(&format!("replay {EVER} --processors state,latest,lines")).done();
    for (table, count) in [("state", 100), ("latest", 7), ("lines", 200)] {
        let before = rows(table);
        assert_eq!(before.len(), count, "{table}");
        let diff = folder.run(&format!("diff {table} --exit-code")).done();
        let same = format!("live newer\t0\nolder\t0\nsame\t{count}\n");
        assert!(diff.stdout.ends_with(&same), "{diff}");
        folder.run(&format!("merge {table} --remove-missing")).done();
        assert_eq!(rows(table), before, "{table}");
    }
}

/// A removal outlives the merge: a late row of the old rule does not bring it back.
#[test]
fn a_row_that_a_merge_removed_does_not_come_back_through_a_redelivery() {
    let folder = with_orders(3, "");
    let moved = " --set processors.orders.match=[\"sale.\"] --set processors.orders.revision=1";
    let daemon = folder.daemon("");
    folder.run(&format!("replay {EVER} --processors orders{moved}")).done();
    folder.run(&format!("merge orders --remove-missing{moved}")).done();
    let count = "SELECT count(*) FROM orders";
    assert_eq!(query::<i64>(&folder, "warehouse.db", count), 0);
    folder.run("seek --time 2020-01-01").done();
    publish(&folder, 3..4);
    while query::<i64>(&folder, "warehouse.db", count) == 0 {
        std::thread::yield_now();
    }
    drop(daemon);
    let ids = "SELECT group_concat(event_id) FROM orders";
    assert_eq!(query::<String>(&folder, "warehouse.db", ids), "e00003");
}

#[test]
fn a_merge_is_decided_by_the_revision_that_the_replay_ran_under() {
    const MOVED: &str = " --set processors.orders.match=[\"sale.\"]";
    let count =
        |folder: &Folder| query::<i64>(folder, "warehouse.db", "SELECT count(*) FROM orders");
    let replayed = || {
        let folder = with_orders(3, "");
        let revision = " --set processors.orders.revision=2";
        folder.run(&format!("replay {EVER} --processors orders{MOVED}{revision}")).done();
        folder
    };
    // A later rule has made all rows again: so none is missing, whichever rows the replay made.
    let folder = replayed();
    let third = " --set processors.orders.revision=3";
    folder.run("seek --time 2020-01-01").done();
    folder.drain(third);
    let merge = folder.run(&format!("merge orders --remove-missing{third}")).done();
    merge.tells("made under revision 2, which decides; the present rule has revision 3");
    assert_eq!(count(&folder), 3);
    // The configuration has gone back: rows of the replay's revision are missing all the same.
    let folder = replayed();
    folder.run("seek --time 2020-01-01").done();
    folder.drain(" --set processors.orders.revision=2");
    assert_eq!(count(&folder), 3);
    folder.run("merge orders --remove-missing --set processors.orders.revision=1").done();
    assert_eq!(count(&folder), 0);
}

#[test]
fn compacting_an_embedded_table_gives_free_pages_back_and_keeps_its_rows() {
    let folder = with_orders(500, "");
    folder.run("compact orders --from 2026-01-01").ended_with(1).tells("leave --from and --to out");
    folder.run("compact nothing").ended_with(1).tells("choose from").tells("orders");
    let file = folder.data().join("warehouse.db");
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.execute("DELETE FROM orders WHERE event_id > 'e00009'", ()).unwrap();
    drop(connection);
    let size = || std::fs::metadata(&file).unwrap().len();
    let before = size();
    let dry = folder.run("compact orders --dry-run").done();
    assert!(dry.stdout.starts_with("rows\t10\nbytes before\t"), "{dry}");
    assert_eq!(size(), before);
    let told = folder.run("compact orders").done();
    assert!(size() < before, "{told}");
    assert!(told.stdout.ends_with(&format!("bytes after\t{}\n", size())), "{told}");
    assert_eq!(query::<i64>(&folder, "warehouse.db", "SELECT count(*) FROM orders"), 10);
}
