//! `kappa audit`

use std::fs;
use std::path::PathBuf;

use rusqlite::Connection;

use super::util::{Folder, Ran};

fn order(id: &str) -> String {
    format!(
        r#"{{"event_id":"{id}","event_type":"order.placed","timestamp":"2026-02-17T14:30:00Z","data":{{"total":1}}}}"#
    )
}

/// A folder whose daemon has worked off these orders, and one that is refused and one that is
/// poison if they are among them.
fn with_orders(ids: &[&str], settings: &str) -> Folder {
    let folder = Folder::new();
    publish(&folder, ids);
    folder.drain(settings);
    folder
}

fn publish(folder: &Folder, ids: &[&str]) {
    let lines: String = ids.iter().map(|id| order(id) + "\n").collect();
    folder.feed("publish -", lines.as_bytes()).done();
}

fn warehouse(folder: &Folder) -> Connection {
    Connection::open(folder.data().join("warehouse.db")).unwrap()
}

/// The archive's only final file.
fn file(folder: &Folder) -> PathBuf {
    let day = fs::read_dir(folder.data().join("archive/events")).unwrap().next().unwrap();
    fs::read_dir(day.unwrap().path()).unwrap().next().unwrap().unwrap().path()
}

/// The lines of this kind, each without its window.
fn lines(ran: &Ran, kind: &str) -> Vec<Vec<String>> {
    let fields = ran.stdout.lines().map(|line| line.split('\t').map(str::to_owned));
    let fields = fields.map(Iterator::collect::<Vec<_>>).filter(|fields| fields[0] == kind);
    fields.map(|fields| fields[2..].to_vec()).collect()
}

#[test]
fn an_audit_after_a_run_is_clean_in_every_line_format() {
    for (format, compression) in [("payload", "none"), ("envelope", "zstd")] {
        let form =
            format!(" --set archive.format={format} --set archive.compression={compression}");
        let folder = Folder::new();
        let events = folder.run("generate --events 800 --seed 3").done().stdout;
        folder.feed("publish -", events.as_bytes()).done();
        folder.drain(&form);
        let before = fs::read_dir(folder.data()).unwrap().count();
        let audit = folder.run(&format!("audit{form}")).done();
        assert_eq!(audit.stderr, "", "{audit}");
        let sum = audit.stdout.lines().last().unwrap();
        assert!(
            sum.ends_with(
                " 0 missing, 0 twice, 0 stale, 0 differs, 0 older rule, 0 unaccounted, 0 damaged"
            ),
            "{audit}"
        );
        let count = |what| {
            let count = sum.split(", ").find_map(|count| count.strip_suffix(what));
            count.unwrap().parse::<i64>().unwrap()
        };
        let letters: i64 = warehouse(&folder)
            .query_row("SELECT count(*) FROM dead_letters", (), |row| row.get(0))
            .unwrap();
        assert_eq!(count(" events") + letters, 800, "{audit}");
        assert_eq!(count(" rows"), count(" events"), "{audit}");
        assert_eq!(fs::read_dir(folder.data()).unwrap().count(), before, "it has written");
    }
}

#[test]
fn a_row_deleted_by_hand_is_named_with_its_table_key_and_place() {
    let folder = with_orders(&["a", "b", "c"], "");
    folder.run("audit").done();
    warehouse(&folder).execute("DELETE FROM orders WHERE event_id = 'b'", ()).unwrap();
    let audit = folder.run("audit").ended_with(1).tells("error: 1 row is missing\n");
    let missing = lines(&audit, "missing");
    assert_eq!(
        (missing.len(), &missing[0][..3]),
        (
            1,
            &["orders", "event_id=b, event_timestamp=2026-02-17T14:30:00.000000Z", "b"]
                .map(str::to_owned)[..]
        )
    );
    let place = missing[0].last().unwrap();
    let (file, line) = place.rsplit_once(':').unwrap();
    let text = fs::read_to_string(folder.data().join("archive").join(file)).unwrap();
    let line: usize = line.parse().unwrap();
    assert!(text.lines().nth(line - 1).unwrap().contains("\"b\""), "{audit}");
}

#[test]
fn a_doubled_row_of_a_table_without_a_key_is_named() {
    let settings = " --set processors.orders.key=[]";
    let folder = with_orders(&["a", "b"], settings);
    folder.run(&format!("audit{settings}")).done();
    let twice = "INSERT INTO orders SELECT * FROM orders WHERE event_id = 'a'";
    warehouse(&folder).execute(twice, ()).unwrap();
    let audit = folder.run(&format!("audit{settings}")).ended_with(1).tells("1 row too many");
    let twice = lines(&audit, "twice");
    assert_eq!(
        (twice.len(), &twice[0][1], &twice[0][4]),
        (1, &"event_id=a".to_owned(), &"2 rows instead of 1".to_owned())
    );
}

#[test]
fn unacknowledged_and_uncomposed_windows_are_reported_as_left_out() {
    let folder = with_orders(&["a", "b"], "");
    warehouse(&folder).execute("DELETE FROM orders", ()).unwrap();
    // One more event, of the same five minutes: until it is acknowledged nothing is known of them.
    publish(&folder, &["c"]);
    let audit = folder.run("audit").done();
    let left = lines(&audit, "left out");
    assert_eq!((left.len(), &left[0][1]), (1, &"-".to_owned()), "{audit}");
    assert!(left[0][2].starts_with("not acknowledged"), "{audit}");
    assert!(audit.stdout.ends_with("0 windows, 0 events, 0 rows, 0 dead letters, 0 purged, 0 repeated, 0 missing, 0 twice, 0 stale, 0 differs, 0 older rule, 0 unaccounted, 0 damaged\n"), "{audit}");
    // The user can overrule this.
    folder.run("audit --acknowledged-before 2999-01-01").ended_with(1).tells("2 rows are missing");
    folder.drain("");
    folder.run("audit").ended_with(1).tells("2 rows are missing");
    // A part beside the final: its window is not sealed.
    let path = file(&folder);
    let window = path.file_name().unwrap().to_str().unwrap().split('-').nth(1).unwrap().to_owned();
    let parts = folder.data().join("archive/parts").join(&window);
    fs::create_dir_all(&parts).unwrap();
    fs::write(parts.join("k3f09x1m2z7q-000000.jsonl"), order("d") + "\n").unwrap();
    let audit = folder.run("audit").done();
    assert!(lines(&audit, "left out")[0][2].starts_with("not sealed"), "{audit}");
}

#[test]
fn a_dead_letter_accounts_for_a_row_that_was_refused_and_for_an_event_that_is_poison() {
    for format in ["payload", "envelope"] {
        let settings = format!(
            " --set archive.format={format} --set faults.enabled=true --set faults.panic_on=[\"poison\"]"
        );
        let folder = with_orders(&["a"], &settings);
        let refuses = "CREATE TRIGGER no BEFORE INSERT ON orders WHEN NEW.event_id = 'refused' \
                       BEGIN SELECT RAISE(ABORT, 'no'); END";
        warehouse(&folder).execute_batch(refuses).unwrap();
        publish(&folder, &["refused", "b", "poison"]);
        folder.drain(&settings);
        let stages =
            "SELECT group_concat(stage) FROM (SELECT stage FROM dead_letters ORDER BY stage)";
        let stages: String = warehouse(&folder).query_row(stages, (), |row| row.get(0)).unwrap();
        assert_eq!(stages, "poison,write");
        let audit = folder.run(&format!("audit{settings}")).done();
        assert!(audit.stdout.contains(" 4 events, 4 rows, 2 dead letters, "), "{audit}");
        warehouse(&folder).execute("DELETE FROM dead_letters", ()).unwrap();
        let audit = folder.run(&format!("audit{settings}")).ended_with(1);
        assert_eq!(lines(&audit, "missing").len(), 2, "{audit}");
    }
}

#[test]
fn an_event_that_the_present_rules_refuse_is_named_if_it_has_neither_row_nor_dead_letter() {
    let folder = with_orders(&["a", "b"], "");
    folder.file(
        "strict.toml",
        b"[processors.orders.columns.n]\ntype = \"INTEGER\"\nfrom = \"/n\"\nrequired = true\n",
    );
    let strict = "audit --config strict.toml";
    // Rows of the earlier rule exist.
    folder.run(strict).done();
    warehouse(&folder).execute("DELETE FROM orders WHERE event_id = 'b'", ()).unwrap();
    let audit = folder.run(strict).ended_with(1).tells("1 event without row or dead letter");
    let found = lines(&audit, "unaccounted");
    assert_eq!((&*found[0][0], &*found[0][2], found.len()), ("orders", "b", 1), "{audit}");
    assert_eq!(found[0][4], "column n: missing", "{audit}");
}

#[test]
fn a_line_that_was_added_to_a_file_is_damage_and_its_event_counts_once() {
    let folder = with_orders(&["a", "b", "c"], "");
    let path = file(&folder);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}{}\n", text.lines().nth(1).unwrap())).unwrap();
    let audit = folder.run("audit").ended_with(1).tells("the archive is damaged in 1 place");
    assert!(
        audit.stdout.contains("3 events, 3 rows, 0 dead letters, 0 purged, 1 repeated, 0 missing"),
        "{audit}"
    );
    assert!(lines(&audit, "damaged")[0][4].contains("has 4 of the 3 lines"), "{audit}");
    fs::remove_file(&path).unwrap();
    let audit = folder.run("audit").ended_with(1).tells("the archive is damaged in 1 place");
    assert!(lines(&audit, "damaged")[0][4].contains("the file is lost, with 3 lines"), "{audit}");
}

#[test]
fn a_stale_row_fails_and_a_row_of_an_older_rule_is_reported() {
    let folder = with_orders(&["a", "b"], "");
    let audit = folder.run("audit --set processors.orders.revision=7").done();
    let audit = audit.tells("a lower revision of the processor orders made 2 rows");
    assert_eq!(lines(&audit, "older rule").len(), 2, "{audit}");
    let lower = "UPDATE orders SET _version = zeroblob(length(_version)) WHERE event_id = 'b'";
    warehouse(&folder).execute(lower, ()).unwrap();
    let audit = folder.run("audit").ended_with(1).tells("error: 1 row is stale\n");
    let stale = lines(&audit, "stale");
    assert_eq!((stale.len(), &*stale[0][2]), (1, "b"), "{audit}");
    assert!(stale[0][4].starts_with("version 0000"), "{audit}");
    let [json] = &folder.run("audit --json").ended_with(1).json()[..] else { panic!("{audit}") };
    assert_eq!(
        (&json["findings"][0]["kind"], &json["total"]["stale"]),
        (&"stale".into(), &1.into())
    );
}

#[test]
fn values_are_compared_on_request() {
    let folder = with_orders(&["a", "b"], "");
    folder.run("audit --values").done();
    let edit = "UPDATE orders SET event_type = 'edited' WHERE event_id = 'b'";
    warehouse(&folder).execute(edit, ()).unwrap();
    folder.run("audit").done();
    let audit = folder.run("audit --values").ended_with(1).tells("error: 1 row with other values");
    let differs = lines(&audit, "differs");
    assert_eq!(
        (&*differs[0][2], &*differs[0][4]),
        ("b", "event_type: edited instead of order.placed")
    );
}

#[test]
fn an_event_time_selects_events_and_one_without_events_is_an_error() {
    let folder = with_orders(&["a", "b"], "");
    let audit = folder.run("audit --event-time 2026-02-17..2026-02-18").done();
    assert!(audit.stdout.contains("2 events"), "{audit}");
    let audit = folder.run("audit --event-time 2026-02-18..").ended_with(1);
    audit.tells("no events of this event time").tells("2026-02-17T14:30:00.000000Z");
    folder.run("audit --event-time 2026-02-18").ended_with(2).tells("use FROM..TO");
}

#[test]
fn only_an_open_letter_of_the_same_message_accounts_for_a_row() {
    let folder = with_orders(&["a"], "");
    let refuses = "CREATE TRIGGER no BEFORE INSERT ON orders WHEN NEW.event_id = 'refused' \
                   BEGIN SELECT RAISE(ABORT, 'no'); END";
    warehouse(&folder).execute_batch(refuses).unwrap();
    publish(&folder, &["refused"]);
    folder.drain("");
    folder.run("audit").done();
    for other in ["message_id = 'other'", "requeued_at = failed_at", "replay_id = 'r1'"] {
        let change = format!(
            "CREATE TABLE kept AS SELECT * FROM dead_letters; UPDATE dead_letters SET {other}"
        );
        warehouse(&folder).execute_batch(&change).unwrap();
        folder.run("audit").ended_with(1).tells("1 row is missing");
        let back = "DELETE FROM dead_letters; INSERT INTO dead_letters SELECT * FROM kept; \
                    DROP TABLE kept";
        warehouse(&folder).execute_batch(back).unwrap();
    }
    folder.run("audit").done();
}

#[test]
fn damage_is_named_by_file_and_line_and_the_rest_is_audited() {
    let folder = with_orders(&["a", "b", "c"], "");
    warehouse(&folder).execute("DELETE FROM orders WHERE event_id = 'c'", ()).unwrap();
    let path = file(&folder);
    let mut bytes = fs::read(&path).unwrap();
    let second = bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    bytes[second] = b'#';
    fs::write(&path, &bytes).unwrap();
    let audit = folder.run("audit").ended_with(1).tells("the archive is damaged in 1 place");
    let damaged = lines(&audit, "damaged");
    assert!(damaged[0][3].ends_with(".jsonl:2"), "{audit}");
    assert_eq!(lines(&audit, "missing").len(), 1, "{audit}");
}

#[test]
fn a_processor_newer_than_its_events_is_reported_as_such() {
    let folder = with_orders(&["a", "b"], "");
    folder.file(
        "later.toml",
        b"[processors.later]\nmatch = [\"order.\"]\ntable = \"later\"\nkey = [\"id\"]\n\
          [processors.later.columns]\nid = { type = \"STRING\", from = \"/event_id\" }\n",
    );
    let audit = folder.run("audit --config later.toml").ended_with(1);
    let audit = audit.tells("table later: none of the rows that these events make is there (2)");
    assert_eq!(lines(&audit, "missing").len(), 2, "{audit}");
}

#[test]
fn json_is_one_object_that_holds_everything() {
    let folder = with_orders(&["a", "b"], "");
    warehouse(&folder).execute("DELETE FROM orders WHERE event_id = 'a'", ()).unwrap();
    let audit = folder.run("audit --from 2001-01-01 --json").ended_with(1);
    let [json] = &audit.json()[..] else { panic!("{audit}") };
    assert_eq!(json["from"], "2001-01-01T00:00:00.000000Z", "{audit}");
    assert_eq!((json["to"].is_null(), &json["clean"]), (true, &false.into()), "{audit}");
    let found = &json["findings"][0];
    assert_eq!((&found["kind"], &found["table"]), (&"missing".into(), &"orders".into()), "{audit}");
    let key =
        serde_json::json!({ "event_id": "a", "event_timestamp": "2026-02-17T14:30:00.000000Z" });
    assert_eq!(found["key"], key, "{audit}");
    assert!(found["file"].as_str().unwrap().ends_with(".jsonl"), "{audit}");
    assert_eq!((&json["windows"][0]["events"], &json["total"]["missing"]), (&2.into(), &1.into()));
    let table = json["tables"].as_array().unwrap().iter().find(|it| it["table"] == "orders");
    assert_eq!((&table.unwrap()["rows"], &table.unwrap()["missing"]), (&2.into(), &1.into()));
    publish(&folder, &["c"]);
    let left = folder.run("audit --json").done().json().remove(0);
    assert_eq!(left["left_out"][0]["reason"], "unacknowledged");
    assert_eq!((&left["findings"], &left["clean"]), (&serde_json::json!([]), &true.into()));
}

#[test]
fn a_range_without_events_is_an_error_that_names_the_archive_s_range() {
    let folder = with_orders(&["a"], "");
    let line = "audit --from 2001-01-01 --to 2002-01-01";
    let audit = folder.run(line).ended_with(1).tells("no events in this time range: 0 events");
    assert!(audit.stdout.starts_with("0 windows, 0 events, "), "{audit}");
    audit.tells("choose a range between 20");
    let json = folder.run(&format!("{line} --json")).ended_with(1).json().remove(0);
    assert_eq!((&json["total"]["events"], &json["clean"]), (&0.into(), &true.into()));
    folder.run("audit --from yesterday").ended_with(2).tells("use 2026-02-17");
    // An archive that never held an event is right.
    Folder::new().run("audit").done().tells("the archive holds no events");
}

#[test]
fn an_archive_alone_is_audited_against_nothing() {
    let folder = with_orders(&["a"], "");
    for file in ["log.db", "warehouse.db", "subscriptions.db"] {
        fs::remove_file(folder.data().join(file)).unwrap();
    }
    let audit = folder.run("audit").ended_with(1).tells("there is no event log");
    assert_eq!(lines(&audit, "missing").len(), 1, "{audit}");
    assert!(!folder.data().join("log.db").exists() && !folder.data().join("warehouse.db").exists());
}

#[test]
fn a_daemon_that_runs_is_not_disturbed() {
    let folder = with_orders(&["a"], "");
    let daemon = folder.daemon("");
    folder.run("audit").done();
    publish(&folder, &["b"]);
    let rows = || -> i64 {
        let count = "SELECT count(*) FROM orders";
        warehouse(&folder).query_row(count, (), |row| row.get(0)).unwrap()
    };
    while rows() < 2 {
        folder.run("audit").done();
    }
    drop(daemon);
}
