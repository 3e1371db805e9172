//! `kappa dead-letters`

mod editor;
mod purge;
mod summary;

use super::util::Folder;

/// Four letters of two kinds, and one event that is fine.
fn with_letters() -> Folder {
    let folder = Folder::new();
    let event = |id: &str, kind: &str| {
        format!(
            r#"{{"event_id":"{id}","{kind}":"cart.filled","timestamp":"2026-02-17T14:30:00Z"}}"#
        )
    };
    let lines = [event("a", "kind"), event("b", "event_type"), event("c", "kind")].join("\n");
    let input = [lines.as_bytes(), b"\n\xff\xfe\n\x1b[2J"].concat();
    folder.feed("publish -", &input).done();
    folder.drain("");
    folder
}

fn ids(folder: &Folder, filter: &str) -> Vec<String> {
    let list = folder.run(&format!("dead-letters list{filter}")).done();
    list.stdout.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

#[test]
fn a_list_has_a_line_for_each_letter_and_may_be_filtered() {
    let folder = with_letters();
    let list = folder.run("dead-letters list").done();
    assert_eq!(list.stdout.lines().count(), 4, "{list}");
    let fields: Vec<_> = list.stdout.lines().map(|line| line.split('\t').count()).collect();
    assert_eq!(fields, [8; 4], "{list}");
    assert_eq!(ids(&folder, " --reason /event_type").len(), 2);
    folder.run("dead-letters list --reason nothing").done().says("").tells("\"nothing\"");
    let first = folder.run("dead-letters list --limit 1").done().tells("there are more");
    assert_eq!(first.stdout.lines().count(), 1, "{first}");
    let json = folder.run("dead-letters list --reason UTF --json").done().json();
    assert_eq!((&json[0]["stage"], &json[0]["payload_bytes"]), (&"parse".into(), &2.into()));
    assert!(json[0].get("payload").is_none());
}

#[test]
fn a_letter_is_shown_whole_whatever_its_payload_holds() {
    let folder = with_letters();
    let show = |filter: &str, json: &str| {
        let id = &ids(&folder, filter)[0];
        folder.run(&format!("dead-letters show {}{json}", &id[..16])).done()
    };
    let text = show(" --reason /event_type", "");
    assert!(text.stdout.contains("\nreason       /event_type: missing\n"), "{text}");
    assert!(text.stdout.contains("\"kind\":\"cart.filled\""), "{text}");
    let bytes = show(" --reason UTF", "");
    assert!(
        bytes.stdout.ends_with("2 bytes, not all printable text; in base64:\n//4=\n"),
        "{bytes}"
    );
    assert_eq!(show(" --reason UTF", " --json").json()[0]["payload"], "//4=");
    assert!(!show(" --reason JSON", "").stdout.contains('\x1b'));
}

fn query(folder: &Folder, sql: &str) -> String {
    let rows = rusqlite::Connection::open(folder.data().join("warehouse.db")).unwrap();
    rows.query_row(sql, (), |row| row.get::<_, Option<String>>(0)).unwrap().unwrap_or_default()
}

/// Rules under which the letters of `/event_type` are valid.
const MENDED: &str = " --set envelope.type=/kind --set processors.other.revision=1";

/// The events `a` and `c` are valid by [`MENDED`], and `b` no longer; it is a row already.
const OTHERS: &str = "SELECT group_concat(event_id ORDER BY event_id) FROM other";

#[test]
fn a_requeued_event_that_never_was_valid_becomes_its_row_and_its_archive_line_once() {
    let folder = with_letters();
    let archived = || folder.run("archive cat").done().stdout.lines().count();
    assert_eq!(archived(), 1);
    let requeue = format!("dead-letters requeue --reason /event_type{MENDED}");
    let first = folder.run(&requeue).done();
    assert!(first.stdout.starts_with("requeued 2 events\nrows other\t2\n"), "{first}");
    assert_eq!((query(&folder, OTHERS), archived()), ("a,b,c".to_owned(), 3));
    for _ in 0..2 {
        folder.run(&requeue).done().says("requeued 0 events\n");
    }
    assert_eq!(archived(), 3);
    assert_eq!(folder.published(5).len(), 5, "nothing is published again");
    let listed = folder.run("dead-letters list --reason /event_type --json").done().json();
    assert!(listed.iter().all(|letter| letter["requeued_at"].is_string()), "{listed:?}");
    // The daemon has nothing to do with it.
    folder.drain(MENDED);
    assert_eq!((query(&folder, OTHERS), archived()), ("a,b,c".to_owned(), 3));
}

/// An order, and a click: a processor with a key and one without.
const RULES: [(&str, &str); 2] = [
    (
        "config/processors/totals.toml",
        "match = ['t.']\ntable = 'totals'\nkey = ['id']\n[columns]\nid = { type = 'STRING', from = '/event_id' }\ntotal = { type = 'INTEGER', from = '/total', required = true }\n",
    ),
    (
        "config/processors/clicks.toml",
        "match = ['t.']\ntable = 'clicks'\n[columns]\nid = { type = 'STRING', from = '/id' }\n",
    ),
];

/// An event without the total that one of the two processors needs, `sum` instead.
fn with_a_failed_processor() -> Folder {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.data().join("../config/processors")).unwrap();
    for (name, rule) in RULES {
        folder.file(name, rule.as_bytes());
    }
    let event = r#"{"event_id":"e1","event_type":"t.made","timestamp":"2026-02-17T14:30:00Z","id":"x","sum":7}"#;
    folder.feed("publish -", event.as_bytes()).done();
    folder.drain("");
    folder
}

#[test]
fn only_the_duty_that_failed_is_repeated() {
    let folder = with_a_failed_processor();
    let [id] = &ids(&folder, "")[..] else { panic!("one letter") };
    let shown = folder.run(&format!("dead-letters show {id}")).done();
    assert!(shown.stdout.contains("duty         totals\n"), "{shown}");
    let mended =
        " --set processors.totals.columns.total.from=/sum --set processors.totals.revision=1";
    let done = folder.run(&format!("dead-letters requeue{mended}")).done();
    done.says("requeued 1 event\nrows totals\t1\n");
    assert_eq!(query(&folder, "SELECT id || total FROM totals"), "e17");
    assert_eq!(query(&folder, "SELECT '' || count(*) FROM clicks"), "1", "no key, and no double");
    assert_eq!(folder.run("archive cat").done().stdout.lines().count(), 1);
    for _ in 0..2 {
        // By its id a letter that is requeued goes again, to its duty alone.
        folder.run(&format!("dead-letters requeue --id {id}{mended}")).done();
    }
    assert_eq!(query(&folder, "SELECT '' || count(*) FROM clicks"), "1");
    assert_eq!(folder.run("archive cat").done().stdout.lines().count(), 1);
}

#[test]
fn a_requeue_under_a_changed_rule_is_refused_and_the_rules_of_one_are_noted() {
    let folder = with_a_failed_processor();
    let row = r#"{"event_id":"e2","event_type":"t.made","timestamp":"2026-02-17T14:30:00Z","id":"y","total":1}"#;
    folder.feed("publish -", row.as_bytes()).done();
    folder.drain("");
    let changed = " --set processors.totals.columns.total.from=/sum";
    let refused = folder.run(&format!("dead-letters requeue{changed}")).ended_with(1);
    refused.tells("set processors.totals.revision = 1");
    assert_eq!(query(&folder, "SELECT group_concat(id) FROM totals"), "e2");
    let raised = format!("{changed} --set processors.totals.revision=1");
    folder.run(&format!("dead-letters requeue{raised}")).done();
    assert_eq!(query(&folder, "SELECT group_concat(id ORDER BY id) FROM totals"), "e1,e2");
    let back = "dead-letters requeue --set processors.totals.columns.total.required=false \
                --set processors.totals.revision=1";
    let id = &ids(&folder, "")[0];
    folder.run(&format!("{back} --id {id}")).ended_with(1).tells("processors.totals.revision = 2");
}

#[test]
fn a_requeue_that_is_killed_between_the_row_and_the_mark_is_repeated_without_a_second_row() {
    let folder = with_a_failed_processor();
    let warehouse = rusqlite::Connection::open(folder.data().join("warehouse.db")).unwrap();
    let no_mark =
        "CREATE TRIGGER no_mark BEFORE UPDATE ON dead_letters BEGIN SELECT RAISE(ABORT, 'no'); END";
    warehouse.execute_batch(no_mark).unwrap();
    let requeue = "dead-letters requeue --set processors.totals.columns.total.from=/sum \
                   --set processors.totals.revision=1";
    let mut killed = folder.spawn(requeue);
    let rows = || query(&folder, "SELECT '' || count(*) FROM totals");
    while rows() == "0" {
        assert!(killed.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    warehouse.execute_batch("DROP TRIGGER no_mark").unwrap();
    assert_eq!(ids(&folder, "").len(), 1);
    let open = "SELECT '' || count(*) FROM dead_letters WHERE requeued_at IS NULL";
    assert_eq!(query(&folder, open), "1", "killed before the mark");
    folder.run(requeue).done();
    assert_eq!((rows(), query(&folder, open)), ("1".to_owned(), "0".to_owned()));
    assert_eq!(folder.run("archive cat").done().stdout.lines().count(), 1);
}

#[test]
fn a_requeue_that_is_killed_twice_between_the_archive_line_and_the_mark_stores_the_line_once() {
    let folder = with_letters();
    let warehouse = rusqlite::Connection::open(folder.data().join("warehouse.db")).unwrap();
    let requeue = format!("dead-letters requeue --reason /event_type{MENDED}");
    let lines = || folder.run("archive cat").done().stdout.lines().count();
    let seen = |sql: &str| query(&folder, sql);
    for _ in 0..2 {
        // The rows are written after the archive's lines.
        let no_mark = "DELETE FROM other WHERE event_id <> 'b'; CREATE TRIGGER no_mark BEFORE UPDATE \
                       ON dead_letters BEGIN SELECT RAISE(ABORT, 'no'); END";
        warehouse.execute_batch(no_mark).unwrap();
        let mut killed = folder.spawn(&requeue);
        while lines() < 3 || seen(OTHERS) != "a,b,c" {
            assert!(killed.try_wait().unwrap().is_none(), "it ended by itself");
        }
        killed.kill().unwrap();
        killed.wait().unwrap();
        warehouse.execute_batch("DROP TRIGGER no_mark").unwrap();
    }
    let last = folder.run(&requeue).done();
    assert!(last.stdout.starts_with("requeued 2 events\n"), "{last}");
    assert_eq!((lines(), seen(OTHERS)), (3, "a,b,c".to_owned()));
    folder.run(&requeue).done().says("requeued 0 events\n");
    folder.drain(MENDED);
    assert_eq!(lines(), 3, "composed once");
}

/// A table without a key, one of the latest state, and one whose rule fails.
const THREE: &str = "match = ['t.']\ntable = ";

#[test]
fn three_requeues_archive_nothing_double_nothing_and_overwrite_nothing_newer() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.data().join("../config/processors")).unwrap();
    let rules = [
        ("good", "'good'\n[columns]\nid = { type = 'STRING', from = '/event_id' }\n"),
        (
            "latest",
            "'latest'\nkey = ['thing']\norder_by = 'at'\n[columns]\nthing = { type = 'STRING', from = '/entity_id' }\nat = { type = 'TIMESTAMP', from = '/timestamp' }\n",
        ),
        (
            "bad",
            "'bad'\nkey = ['id']\n[columns]\nid = { type = 'STRING', from = '/event_id' }\nn = { type = 'INTEGER', from = '/data/n' }\n",
        ),
    ];
    for (name, rule) in rules {
        folder.file(&format!("config/processors/{name}.toml"), format!("{THREE}{rule}").as_bytes());
    }
    let event = |id: &str, minute: u8, n: &str| {
        format!(
            r#"{{"event_id":"{id}","event_type":"t.x","entity_id":"T","timestamp":"2026-02-17T14:{minute}:00Z","data":{{"n":{n}}}}}"#
        )
    };
    folder.feed("publish -", event("q1", 30, "\"seven\"").as_bytes()).done();
    folder.drain("");
    folder.feed("publish -", event("q2", 40, "7").as_bytes()).done();
    folder.drain("");
    let state = || {
        let sql = "SELECT (SELECT count(*) FROM good) || ' ' || (SELECT hex(_version) FROM latest) \
                   || ' ' || (SELECT group_concat(id ORDER BY id) FROM bad)";
        (query(&folder, sql), folder.run("archive cat").done().stdout.lines().count())
    };
    let before = state();
    assert!(before.0.starts_with("2 ") && before.0.ends_with(" q2") && before.1 == 2, "{before:?}");
    for _ in 0..3 {
        folder.run("dead-letters requeue").ended_with(1).tells("failed again");
        assert_eq!(state(), before);
    }
    assert_eq!(ids(&folder, "").len(), 1, "one letter, open again each time");
}

#[test]
fn an_event_that_fails_again_has_an_open_letter_again_and_is_an_error() {
    let folder = with_a_failed_processor();
    let open = "SELECT '' || count(*) FROM dead_letters WHERE requeued_at IS NULL";
    let all = "SELECT '' || count(*) FROM dead_letters";
    for _ in 0..3 {
        let failed = folder.run("dead-letters requeue").ended_with(1);
        failed.says("requeued 1 event\n").tells("failed again");
        assert_eq!((query(&folder, open), query(&folder, all)), ("1".to_owned(), "1".to_owned()));
    }
    let moved =
        " --set processors.totals.columns.total.from=/sum --set processors.totals.revision=1";
    folder.run(&format!("dead-letters requeue{moved}")).done();
    assert_eq!(query(&folder, open), "0");
    // A later failure of the same message, in the daemon: it is open again.
    folder.run("seek --time 2020-01-01").done();
    folder.drain(" --set processors.totals.revision=2");
    assert_eq!((query(&folder, open), query(&folder, all)), ("1".to_owned(), "1".to_owned()));
}

#[test]
fn a_requeue_works_beside_a_running_daemon() {
    let folder = with_letters();
    let _daemon = folder.daemon("");
    folder.run(&format!("dead-letters requeue --reason /event_type{MENDED}")).done();
    assert_eq!(query(&folder, OTHERS), "a,b,c");
}

#[test]
fn a_trial_counts_by_reason_and_writes_nothing() {
    let folder = with_letters();
    let before = query(&folder, "SELECT group_concat(requeued_at) FROM dead_letters");
    let tried = folder.run(&format!("dead-letters requeue --try{MENDED}")).done();
    assert!(tried.stdout.starts_with("would succeed\t2\nwould fail\t2\n"), "{tried}");
    assert!(tried.stdout.contains("\nsucceeds\t2\t/event_type: missing\n"), "{tried}");
    assert!(tried.stdout.contains("\nfails\t1\tnot UTF-8\tnot UTF-8\n"), "{tried}");
    assert_eq!(query(&folder, OTHERS), "b");
    assert_eq!(query(&folder, "SELECT group_concat(requeued_at) FROM dead_letters"), before);
}

#[test]
fn a_corrected_event_is_published_as_a_new_one_and_closes_the_letter() {
    let folder = with_letters();
    let id = &ids(&folder, " --reason UTF")[0];
    let edit = format!("dead-letters edit {id} --file corrected.json");
    folder.file("corrected.json", b"{}");
    folder.run(&edit).ended_with(1).says("").tells("not valid").tells("nothing was published");
    folder.file("corrected.json", b"\xff\xfe\n");
    folder.run(&edit).ended_with(1).tells("unchanged");
    let event =
        r#"{"event_id":"new","event_type":"cart.filled","timestamp":"2026-02-17T14:30:00Z"}"#;
    folder.file("corrected.json", format!("{event}\n").as_bytes());
    let done = folder.run(&edit).done();
    assert!(done.stdout.starts_with("published "), "{done}");
    let published = &folder.published(6)[5];
    assert_eq!(published.payload, event.as_bytes());
    assert_eq!(published.attributes.as_ref().unwrap()["kappa-corrects"], *id);
    folder.drain("");
    assert_eq!(query(&folder, OTHERS), "b,new");
    assert_eq!(ids(&folder, " --reason UTF").len(), 1);
    folder.run("dead-letters requeue --reason UTF").done().says("requeued 0 events\n");
}

#[test]
fn requeue_does_nothing_when_one_of_the_ids_is_unknown() {
    let folder = with_letters();
    folder.run("dead-letters requeue --reason x --id 1").ended_with(2);
    let known = &ids(&folder, "")[0];
    let line = format!("dead-letters requeue --id {known} --id xyz");
    folder.run(&line).ended_with(1).says("").tells("begins with \"xyz\"\nhint: ");
    assert_eq!(query(&folder, "SELECT '' || count(requeued_at) FROM dead_letters"), "0");
}

#[test]
fn a_beginning_that_several_ids_have_is_answered_with_them() {
    let folder = Folder::new();
    folder.feed("publish -", "{}\n".repeat(17).as_bytes()).done();
    folder.drain("");
    // Of 17 hexadecimal digits two are the same.
    let mut firsts: Vec<_> = ids(&folder, "").iter().map(|id| id[..1].to_owned()).collect();
    firsts.sort();
    let twice = firsts.windows(2).find(|pair| pair[0] == pair[1]).unwrap()[0].clone();
    let shown = folder.run(&format!("dead-letters show {twice}")).ended_with(1).says("");
    let candidates = shown.stderr.split("choose from ").nth(1).unwrap();
    assert!(candidates.split(", ").count() >= 2, "{shown}");
}

#[test]
fn without_a_warehouse_there_are_no_letters_and_none_is_made() {
    let folder = Folder::new();
    folder.run("dead-letters list").done().says("").tells("no dead letters: there is no warehouse");
    folder.run("dead-letters show 7f").ended_with(1);
    folder.run("dead-letters requeue").done().says("requeued 0 events\n");
    assert!(folder.is_empty());
}
