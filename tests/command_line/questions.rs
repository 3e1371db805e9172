//! The commands that only ask: `kappa try`, `kappa check`, `kappa status`.

use std::io::{BufRead as _, BufReader};

use super::util::{Folder, Ran};

const ORDER: &str = r#"{"event_id":"e1","event_type":"order.placed","timestamp":"2026-02-17T14:30:00Z","data":{"total":"12.50","items":[{},{}]}}"#;

#[test]
fn try_shows_rows_and_dead_letters_and_leaves_nothing_behind() {
    let folder = Folder::new();
    let events = format!("{ORDER}\n\n{{\"event_id\":\"e2\"}}\n{}", ORDER.replace("12.50", "dear"));
    let tried = folder.feed("try -", events.as_bytes()).done();
    let lines: Vec<_> = tried.stdout.lines().collect();
    assert!(lines[0].starts_with("1\trow\torders\t{\"event_id\":\"e1\","), "{tried}");
    assert!(lines[0].contains(r#""total_amount":12.5,"item_count":2,"currency":"USD""#), "{tried}");
    assert_eq!(lines[1], "3\tdead letter\tparse\t-\t/event_type: missing", "{tried}");
    let dear = "4\tdead letter\tprocess\torders\tcolumn total_amount: \"dear\" is no FLOAT";
    assert_eq!(lines[2..], [dear, "3 events: 1 row, 2 dead letters"], "{tried}");
    assert!(folder.is_empty());
}

#[test]
fn try_prints_the_same_results_for_scripts() {
    let folder = Folder::new();
    let off = "--set processors.other.enabled=false --set max_event_bytes=200";
    let events = format!("{ORDER}\n{}\n{}", ORDER.replace("order.", "x."), "y".repeat(201));
    let tried = folder.feed(&format!("try - --json {off}"), events.as_bytes()).done().json();
    assert_eq!(tried[0]["rows"][0]["row"]["total_amount"], 12.5);
    assert_eq!(tried[0]["dead_letters"], serde_json::json!([]));
    assert_eq!(
        (&tried[1]["event_type"], &tried[1]["rows"]),
        (&"x.placed".into(), &[(); 0][..].into())
    );
    assert_eq!(tried[2]["dead_letters"][0]["reason"], "larger than max_event_bytes (200)");
}

#[test]
fn try_ends_quietly_when_its_reader_goes_away() {
    let folder = Folder::new();
    folder.file("events.jsonl", format!("{ORDER}\n").repeat(20_000).as_bytes());
    let mut child = folder.spawn("try events.jsonl");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ran = Ran::new("try events.jsonl", child.wait_with_output().unwrap()).done();
    assert_eq!(ran.stderr, "", "{ran}");
}

#[test]
fn check_shows_what_would_run_and_creates_nothing() {
    let folder = Folder::new();
    let checked = folder.run("check --set processors.users.key=[] --data-dir there").done();
    for line in [
        "warehouse: embedded, there/warehouse.db",
        "archive: embedded, there/archive, annotated lines, compression none",
        "envelope: id /event_id, type /event_type, time /timestamp",
        "processor orders: match order., table orders, key event_id event_timestamp, revision 0, 11 columns",
        "warning: processors.users has no key: redelivery may add a row to users twice",
    ] {
        assert!(checked.stdout.lines().any(|it| it == line), "no {line:?} in {checked}");
    }
    assert!(folder.is_empty());
}

#[test]
fn check_prints_limits_and_their_overrides_for_scripts() {
    let one = "--set actors.writer.each.orders.max_batch_rows=7";
    let report = &Folder::new().run(&format!("check --json {one}")).done().json()[0];
    assert_eq!(report["actors"]["writer.each.orders"]["max_batch_rows"], 7);
    assert_eq!(report["actors"]["writer"]["max_batch_rows"], 5000);
    assert_eq!(report["processors"].as_array().unwrap().len(), 4);
    assert_eq!(report["warnings"], serde_json::json!([]));
}

#[test]
fn check_reports_all_mistakes_of_the_rules_together() {
    let mistakes = "--set processors.users.table=orders --set processors.other.table=products";
    let folder = Folder::new();
    folder
        .run(&format!("check {mistakes}"))
        .ended_with(2)
        .says("")
        .tells("error: --set: processors.users.table is \"orders\", the table of orders already\n")
        .tells("error: --set: processors.other.table is \"products\"");
    assert!(folder.is_empty());
}

#[test]
fn status_without_a_daemon_fails_with_a_way_out() {
    let folder = Folder::new();
    folder
        .run("status --set status.listen=127.0.0.1:0")
        .ended_with(1)
        .says("")
        .tells("error: no daemon answers at http://127.0.0.1:0: ")
        .tells("\nhint: start one with `kappa run`");
    assert!(folder.is_empty());
}

#[test]
fn a_running_daemon_is_found_by_its_folder_and_shares_it_with_the_other_commands() {
    let folder = Folder::new();
    let daemon = folder.daemon("");
    let status = folder.run("status --json").done();
    assert_eq!(status.json()[0]["state"], "running", "{status}");
    let plain = folder.run("status").done();
    assert!(plain.stdout.starts_with("freshness orders: "), "{plain}");
    assert!(plain.stdout.contains("\nstate running\n"), "{plain}");
    folder.feed("publish -", b"{}\n").done().says("published 1 event\n");
    folder.run("dead-letters list").done();
    drop(daemon);
}

/// `config/gcp.toml` has every key of the cloud backends, and is valid with a project and a bucket.
#[test]
fn the_configuration_for_google_cloud_is_complete() {
    let file = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
        std::fs::read_to_string(path).unwrap()
    };
    let keys = |text: &str, section: &str| -> Vec<String> {
        let parsed: toml::Table = text.parse().unwrap();
        let mut table = &parsed;
        for name in section.split('.') {
            table = table[name].as_table().unwrap();
        }
        table.keys().cloned().collect()
    };
    let (default, cloud) = (file("default.toml"), file("gcp.toml"));
    for section in ["gcp", "event_log.pubsub", "warehouse.bigquery", "archive.gcs"] {
        assert_eq!(keys(&cloud, section), keys(&default, section), "{section}");
    }

    let folder = Folder::new();
    folder.file("gcp.toml", cloud.as_bytes());
    let check = "check --config gcp.toml --set gcp.project=p";
    folder.run(&format!("{check} --set archive.gcs.bucket=b")).done();
    let lacking = folder.run(check).to_string();
    assert!(lacking.contains("archive.gcs.bucket"), "{lacking}");
    assert!(folder.run("check --config gcp.toml").to_string().contains("gcp.project"));
}
