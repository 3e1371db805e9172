//! `kappa replay --source files` and `--source dead-letters`, and selection by event time.

use super::replay::{EVER, with_orders};
use super::util::{Folder, Ran};

fn order(id: &str, day: u8, items: &str) -> String {
    format!(
        r#"{{"event_id":"{id}","event_type":"order.placed","timestamp":"2026-01-{day:02}T14:30:00Z","entity_id":"{id}","data":{{"items":{items}}}}}"#
    )
}

fn query(folder: &Folder, sql: &str) -> String {
    let rows = rusqlite::Connection::open(folder.data().join("warehouse.db")).unwrap();
    rows.query_row(sql, (), |row| row.get::<_, Option<String>>(0)).unwrap().unwrap_or_default()
}

fn value(ran: &Ran, name: &str) -> String {
    let line = ran.stdout.lines().find_map(|line| line.strip_prefix(&format!("{name}\t")));
    line.unwrap_or_else(|| panic!("no {name} in {ran}")).to_owned()
}

const ALL: &str = "SELECT group_concat(event_id ORDER BY event_id) FROM orders";

#[test]
fn foreign_files_are_imported_in_any_form_and_twice_is_once() {
    let folder = Folder::new();
    folder.file("events-2026-01-01.jsonl", format!("{}\n", order("a", 1, "[1]")).as_bytes());
    let windows = format!("\u{feff}{}\r\n{}\r\n", order("b", 2, "[1]"), order("c", 3, "[1]"));
    folder.file("events-2026-01-02.jsonl", windows.as_bytes());
    let gzip = kappa_actors::archive::Compression::Gzip.encode(order("d", 4, "[1]").into_bytes());
    folder.file("events-2026-01-04.jsonl.gz", &gzip.unwrap());
    let import = "replay --source files events-2026-01-*.jsonl* --into live";
    for _ in 0..2 {
        let done = folder.run(import).done();
        assert_eq!((&*value(&done, "events"), &*value(&done, "rows orders")), ("4", "4"), "{done}");
        assert_eq!(query(&folder, ALL), "a,b,c,d");
    }
    let some = format!("{import} --from 2026-01-02 --to 2026-01-04");
    assert_eq!(value(&folder.run(&some).done(), "events"), "2");
}

#[test]
fn a_pattern_that_matches_nothing_or_kappas_own_archive_is_an_error() {
    let folder = with_orders(2, "");
    folder.run("replay --source files no-such-*.jsonl").ended_with(1).tells("no file matches");
    folder.run("replay --source files").ended_with(2).tells("go together");
    folder.run("replay --source archive").ended_with(2).tells("needs --from and --to");
    let own = "replay --source files data/archive/events/*/*.jsonl --into live";
    folder.run(own).ended_with(1).tells("kappa's own archive").tells("--source archive");
    folder.run("diff orders").ended_with(1).tells("orders has no staging table");
}

#[test]
fn an_event_time_selects_backfilled_events_and_an_empty_selection_is_reported() {
    let folder = Folder::new();
    let lines: String = (1..=9).map(|day| order(&format!("e{day}"), day, "[1]") + "\n").collect();
    folder.feed("publish -", lines.as_bytes()).done();
    folder.drain("");
    let empty = folder.run("replay --from 2026-01-01 --to 2026-02-01").done();
    assert_eq!(value(&empty, "events"), "0");
    empty.tells("nothing was replayed").tells("published from 20");
    for source in ["archive", "log"] {
        let line =
            format!("replay --source {source} --event-time 2026-01-03..2026-01-05 --replace");
        let done = folder.run(&line).done();
        assert_eq!((&*value(&done, "events"), &*value(&done, "rows orders")), ("2", "2"), "{done}");
    }
    let both = format!("replay {EVER} --event-time ..2025-12-31 --replace");
    folder.run(&both).done().tells("nothing was replayed");
}

#[test]
fn dead_letters_are_replayed_into_staging_and_stay_open() {
    let folder = Folder::new();
    folder.feed("publish -", (order("a", 1, "[1]") + "\n").as_bytes()).done();
    folder.drain(" --set processors.orders.columns.event_timestamp.from=/event_id");
    let open = "SELECT '' || count(*) FROM dead_letters WHERE requeued_at IS NULL";
    assert_eq!(query(&folder, open), "1");
    let live = "replay --source dead-letters --into live";
    folder.run(live).ended_with(2).tells("kappa dead-letters requeue");
    let done = folder.run("replay --source dead-letters").done();
    assert_eq!(value(&done, "rows orders"), "1", "{done}");
    assert_eq!((query(&folder, open), query(&folder, ALL)), ("1".to_owned(), String::new()));
}
