//! `kappa replay` and `kappa seek`

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::Child;

use kappa_actors::time::Timestamp;
use rusqlite::Connection;

use super::util::{Folder, Ran};

/// All that ever was, and will be.
pub(crate) const EVER: &str = "--from 2020-01-01 --to 2100-01-01";

/// A rule with a fault in it, and the rule put right under the next revision.
const WRONG: &str = " --set processors.orders.columns.item_count.len=/data/no_items";
const RIGHT: &str = " --set processors.orders.revision=1";

fn order(id: usize) -> String {
    format!(
        r#"{{"event_id":"e{id:05}","event_type":"order.placed","timestamp":"2026-02-17T14:30:00Z","entity_id":"o{id}","data":{{"items":[1,2]}}}}"#
    )
}

/// A folder in which so many orders have been processed and archived.
pub(crate) fn with_orders(count: usize, settings: &str) -> Folder {
    let folder = Folder::new();
    publish(&folder, 0..count);
    folder.drain(settings);
    folder
}

pub(super) fn publish(folder: &Folder, ids: std::ops::Range<usize>) {
    let lines: String = ids.map(|id| order(id) + "\n").collect();
    folder.feed("publish -", lines.as_bytes()).done();
}

pub(super) fn query<T: rusqlite::types::FromSql>(folder: &Folder, file: &str, sql: &str) -> T {
    let connection = Connection::open(folder.data().join(file)).unwrap();
    connection.query_row(sql, (), |row| row.get(0)).unwrap()
}

/// Parses a command's output, by the names before the tabs.
fn said(ran: &Ran) -> BTreeMap<String, String> {
    let lines = ran.stdout.lines().filter_map(|line| line.split_once('\t'));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Counts the lines of the archive: all, and the distinct ones.
fn archived(folder: &Folder) -> (usize, usize) {
    let lines = folder.run("archive cat").done().stdout;
    let distinct: std::collections::BTreeSet<_> = lines.lines().collect();
    (lines.lines().count(), distinct.len())
}

#[test]
fn a_mended_rule_is_replayed_compared_and_merged_while_events_keep_arriving() {
    let folder = with_orders(300, WRONG);
    assert_eq!(query::<i64>(&folder, "warehouse.db", "SELECT sum(item_count) FROM orders"), 0);
    let daemon = folder.daemon(RIGHT);
    let replay = folder.run(&format!("replay {EVER}{RIGHT}")).done();
    publish(&folder, 300..310);
    assert_eq!((&*said(&replay)["events"], &*said(&replay)["rows orders"]), ("300", "300"));
    let diff = folder.run(&format!("diff orders{RIGHT}")).done();
    let columns: Vec<_> = diff.stdout.lines().filter(|line| line.starts_with("column ")).collect();
    assert_eq!(columns, ["column item_count\t300"], "{diff}");
    let merged = folder.run(&format!("merge orders{RIGHT}")).done();
    assert_eq!(said(&merged)["replaced"], "300");
    let wrong = "SELECT count(*) FROM orders WHERE item_count <> 2";
    assert_eq!(query::<i64>(&folder, "warehouse.db", wrong), 0);
    drop(daemon);
    folder.drain(RIGHT);
    assert_eq!(query::<i64>(&folder, "warehouse.db", "SELECT count(*) FROM orders"), 310);
    assert_eq!(archived(&folder), (310, 310), "history is not archived again");
    folder.run(&format!("audit {EVER}{RIGHT}")).done();
    let warehouse = Connection::open(folder.data().join("warehouse.db")).unwrap();
    warehouse.execute("DELETE FROM orders WHERE event_id = 'e00007'", ()).unwrap();
    let audit = folder.run(&format!("audit {EVER}{RIGHT}")).ended_with(1);
    assert!(audit.stdout.contains("e00007") && !audit.stdout.contains("e00008"), "{audit}");
}

#[test]
fn an_old_daemon_does_not_undo_a_mended_rule_and_loses_no_later_event() {
    let folder = with_orders(5, WRONG);
    let daemon = folder.daemon(WRONG);
    folder.run(&format!("replay {EVER} --into live{RIGHT}")).done();
    folder.run("seek --time 2020-01-01").done();
    publish(&folder, 5..8);
    let count = "SELECT count(*) FROM orders";
    while query::<i64>(&folder, "warehouse.db", count) < 8 {
        std::thread::yield_now();
    }
    drop(daemon);
    folder.drain(WRONG);
    let wrong = "SELECT group_concat(event_id) FROM orders WHERE item_count <> 2";
    assert_eq!(query::<String>(&folder, "warehouse.db", wrong), "e00005,e00006,e00007");
}

#[test]
fn a_changed_rule_without_a_higher_revision_is_refused() {
    let folder = with_orders(2, WRONG);
    let run = "run --until-idle --set status.listen=127.0.0.1:0";
    let way_out = "set processors.orders.revision = 1";
    folder.run(run).ended_with(1).tells(way_out);
    folder.run(&format!("replay {EVER}")).ended_with(1).tells(way_out);
    folder.run(&format!("{run}{RIGHT}")).done();
    // To go back needs a revision of its own.
    folder.run(&format!("{run}{WRONG}")).ended_with(1).tells("processors.orders.revision = 2");
    folder.run(&format!("{run}{WRONG} --set processors.orders.revision=2")).done();
}

#[test]
fn an_event_that_goes_another_way_now_is_missing_from_its_old_table() {
    let folder = with_orders(3, "");
    let moved = " --set processors.orders.match=[\"sale.\"] --set processors.orders.revision=1";
    folder.run(&format!("replay {EVER}{moved}")).done();
    let diff = folder.run(&format!("diff orders{moved}")).done();
    let keys = ["e00000", "e00001", "e00002"].map(|id| format!("{id}/2026-02-17T14:30:00.000000Z"));
    let three = format!("3\t{}", keys.join(", "));
    assert_eq!(said(&diff)["missing"], three, "{diff}");
    let rest = folder.run(&format!("diff other{moved}")).done();
    assert_eq!(said(&rest)["added"], three, "{rest}");
    // One after the other: the first merge takes nothing from the second.
    folder.run(&format!("merge other{moved}")).done();
    let merged = folder.run(&format!("merge orders --remove-missing{moved}")).done();
    assert_eq!(said(&merged)["removed"], "3", "{merged}");
    let tables = "SELECT (SELECT count(*) FROM orders) || ',' || (SELECT count(*) FROM other)";
    assert_eq!(query::<String>(&folder, "warehouse.db", tables), "0,3");
}

#[test]
fn only_the_named_processors_have_a_part_and_the_rest_stays_the_rest() {
    let folder = with_orders(4, "");
    let user = r#"{"event_id":"u","event_type":"user.created","timestamp":"2026-02-17T14:30:00Z"}"#;
    let odd = r#"{"event_id":"x","event_type":"odd.one","timestamp":"2026-02-17T14:30:00Z"}"#;
    folder.feed("publish -", format!("{user}\n{odd}\n").as_bytes()).done();
    folder.drain("");
    let replay = folder.run(&format!("replay {EVER} --processors users,other")).done();
    let rows: Vec<_> = said(&replay).into_iter().filter(|it| it.0.starts_with("rows")).collect();
    let one = |name: &str| (name.to_owned(), "1".to_owned());
    assert_eq!(rows, [one("rows other"), one("rows users")], "what orders takes is not other's");
    folder.run("diff orders").ended_with(1).tells("orders has no staging table");
    folder
        .run(&format!("replay {EVER} --processors ordres"))
        .ended_with(2)
        .tells("--processors: there is no processor \"ordres\"")
        .tells("choose from orders, users, products, other");
}

/// Reads the note that a replay begins with; the rest of stderr is read aside.
pub(crate) fn id_of(replay: &mut Child) -> String {
    let mut lines = BufReader::new(replay.stderr.take().unwrap()).lines();
    let id = lines.find_map(|line| {
        let line = line.unwrap();
        Some(line.split_once("replay ")?.1.split_once(' ')?.0.to_owned())
    });
    std::thread::spawn(move || lines.for_each(drop));
    id.unwrap()
}

/// Kills a slow replay once it has written something, and goes on with it.
fn killed_and_resumed(source: &str, folder: &Folder) -> Ran {
    let line = format!("replay {EVER} --source {source} --rate 2000");
    let mut replay = folder.spawn(&line);
    let id = id_of(&mut replay);
    let staged = || {
        let connection = Connection::open(folder.data().join("staging.db")).unwrap();
        let count = "SELECT count(*) FROM orders_reprocessed";
        connection.query_row(count, (), |row| row.get::<_, i64>(0)).unwrap_or(0)
    };
    while staged() == 0 {
        assert!(replay.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    replay.kill().unwrap();
    replay.wait().unwrap();
    assert!(staged() < 3_000, "it was killed too late to show anything");
    folder.run("merge orders").ended_with(1).tells("has not ended").tells("--resume");
    let resumed = folder.run(&format!("replay --resume {id}")).done();
    assert_eq!(staged(), 3_000);
    folder.run(&format!("replay --resume {id}")).ended_with(1).tells("is finished");
    let diff = folder.run("diff orders --exit-code").done();
    assert_eq!(said(&diff)["same"], "3000", "{diff}");
    resumed
}

#[test]
fn a_killed_replay_of_the_archive_is_resumed_without_losing_or_doubling_a_row() {
    let folder = with_orders(3_000, "");
    killed_and_resumed("archive", &folder);
}

#[test]
fn a_killed_replay_of_the_log_goes_on_where_it_was_and_leaves_no_subscription() {
    let folder = with_orders(3_000, "");
    let resumed = killed_and_resumed("log", &folder);
    resumed.tells("ended when nothing more came");
    let names = "SELECT group_concat(name) FROM subscriptions";
    assert_eq!(query::<String>(&folder, "subscriptions.db", names), "kappa");
    let waiting = folder.run("run --until-idle --set status.listen=127.0.0.1:0").done();
    waiting.tells("acknowledged=0");
}

#[test]
fn a_replay_of_the_log_takes_its_range_and_ends_at_the_first_later_event() {
    let folder = with_orders(3, "");
    let between = Timestamp::now();
    publish(&folder, 3..5);
    folder.drain("");
    let replay =
        folder.run(&format!("replay --from 2020-01-01 --to {between} --source log")).done();
    assert_eq!(said(&replay)["rows orders"], "3");
    replay.tells("ended when the log had all of the range acknowledged");
}

#[test]
fn a_range_with_nothing_in_it_is_no_error_and_leaves_nothing_in_the_way() {
    let folder = with_orders(2, "");
    let empty = "replay --from 2020-01-01 --to 2020-01-02";
    for source in ["archive", "log"] {
        let replay = folder.run(&format!("{empty} --source {source}")).done();
        assert_eq!(said(&replay)["events"], "0", "{source}");
    }
    folder.run("diff orders").ended_with(1).tells("orders has no staging table");
    folder.run("replay --from 2020-01-02 --to 2020-01-01").ended_with(2).tells("the range begins");
}

#[test]
fn rows_staged_by_an_earlier_replay_are_overwritten_only_on_request() {
    let folder = with_orders(2, "");
    let first = said(&folder.run(&format!("replay {EVER}")).done())["replay"].clone();
    let second = folder.run(&format!("replay {EVER} --processors orders")).ended_with(1);
    second.tells(&format!("orders_reprocessed belongs to the replay {first}")).tells("--replace");
    folder.run(&format!("replay {EVER} --processors orders --replace")).done();
    folder.run("diff users").done().tells(&first);
}

#[test]
fn a_rule_that_changed_since_a_replay_began_is_not_mixed_into_it() {
    let folder = with_orders(3_000, "");
    let mut replay = folder.spawn(&format!("replay {EVER} --rate 100"));
    let id = id_of(&mut replay);
    replay.kill().unwrap();
    replay.wait().unwrap();
    folder
        .run(&format!("replay --resume {id}{RIGHT}"))
        .ended_with(1)
        .tells("the rule of orders has changed since this replay began");
}

#[test]
fn a_damaged_archive_file_is_named_and_the_rest_replayed() {
    let folder = with_orders(2_000, " --set archive.compression=zstd");
    publish(&folder, 2_000..2_010);
    folder.drain(" --set archive.compression=zstd");
    let mut files: Vec<_> = folder
        .run("archive list")
        .done()
        .stdout
        .lines()
        .map(|line| {
            let mut fields = line.split('\t').skip(2);
            let size: usize = fields.next().unwrap().parse().unwrap();
            (size, folder.data().join("archive").join(fields.next().unwrap()))
        })
        .collect();
    files.sort();
    let (_, large) = files.pop().unwrap();
    let whole = std::fs::read(&large).unwrap();
    std::fs::write(&large, &whole[..whole.len() / 2]).unwrap();
    let replay = folder.run(&format!("replay {EVER}")).ended_with(1);
    let id = said(&replay)["replay"].clone();
    let events: usize = said(&replay)["events"].parse().unwrap();
    assert!((10..2_010).contains(&events), "{events}");
    let name = large.file_name().unwrap().to_str().unwrap();
    let replay = replay.tells(&format!("{name}:{}: ", events - 10 + 1));
    replay.tells("--resume").tells("--skip-damaged");
    folder.run("merge orders").ended_with(1).tells("has not ended");
    // Put right, it is taken up where it stopped.
    std::fs::write(&large, whole).unwrap();
    folder.run(&format!("replay --resume {id}")).done();
    assert_eq!(said(&folder.run("diff orders").done())["same"], "2010");
}

#[test]
fn what_stays_damaged_can_be_left_out_and_no_row_of_it_counts_as_missing() {
    let folder = with_orders(2_000, " --set archive.compression=gzip");
    let list = folder.run("archive list").done().stdout;
    let file = folder.data().join("archive").join(list.trim().split('\t').nth(3).unwrap());
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    folder.run(&format!("replay {EVER} --skip-damaged")).ended_with(1).tells("cannot be read");
    let diff = folder.run("diff orders").done();
    assert_eq!((&*said(&diff)["missing"], &*said(&diff)["changed"]), ("0", "0"), "{diff}");
}

#[test]
fn an_invalid_line_becomes_a_dead_letter_of_the_replay() {
    let folder = with_orders(2, "");
    // Archived under another envelope.
    let line = r#"{"no":"event","_kappa":{"id":"7","at":"2026-02-17T14:30:00.000001Z"}}"#;
    let parts = folder.data().join("archive/parts/20260217T143000Z");
    std::fs::create_dir_all(&parts).unwrap();
    let name = "k3f09x1m2z7q-000000-1.annotated.jsonl";
    std::fs::write(parts.join(name), format!("{line}\n")).unwrap();
    let replay = folder.run(&format!("replay {EVER}")).done();
    assert_eq!((&*said(&replay)["events"], &*said(&replay)["dead letters"]), ("3", "1"));
    let of = "SELECT replay_id FROM dead_letters";
    assert_eq!(query::<String>(&folder, "warehouse.db", of), said(&replay)["replay"]);
}

#[test]
fn a_table_without_a_key_is_not_replayed_into() {
    let folder = with_orders(1, "");
    let log = "match = ['order.']\ntable = 'clicks'\n[columns]\nid = { type = 'STRING', from = '/event_id' }\n";
    std::fs::create_dir_all(folder.data().join("../config/processors")).unwrap();
    folder.file("config/processors/clicks.toml", log.as_bytes());
    for into in ["live", "staging"] {
        let replay = folder.run(&format!("replay {EVER} --into {into}")).ended_with(1);
        replay.tells("table clicks has no key").tells("--processors");
    }
    folder.run(&format!("replay {EVER} --into live --processors orders")).done();
}

#[test]
fn a_live_seek_processes_all_again_and_archives_nothing_again() {
    let folder = with_orders(200, "");
    // Without an archive line the first time: they get none the second time either.
    folder.feed("publish -", b"{\"no\":\"event\"}\n").done();
    folder.drain("");
    let versions = "SELECT group_concat(hex(_version) ORDER BY event_id) FROM orders \
                    WHERE event_id < 'e00200'";
    let before: String = query(&folder, "warehouse.db", versions);
    // The row of the first event comes back only if it is processed again.
    let warehouse = Connection::open(folder.data().join("warehouse.db")).unwrap();
    warehouse.execute("DELETE FROM orders WHERE event_id = 'e00000'", ()).unwrap();
    let daemon = folder.daemon("");
    let sought = folder.run("seek --time 2020-01-01").done();
    assert_eq!(said(&sought)["to be processed"], "201 events", "{sought}");
    publish(&folder, 200..210);
    let count = "SELECT count(*) FROM orders";
    while query::<i64>(&folder, "warehouse.db", count) < 210 {
        std::thread::yield_now();
    }
    drop(daemon);
    folder.drain("");
    assert_eq!(query::<String>(&folder, "warehouse.db", versions), before);
    assert_eq!(archived(&folder), (210, 210));
    let letters = "SELECT count(*) FROM dead_letters";
    assert_eq!(query::<i64>(&folder, "warehouse.db", letters), 1);
}

#[test]
fn events_passed_over_by_a_seek_are_archived_when_another_seek_brings_them() {
    let folder = with_orders(5, "");
    publish(&folder, 5..10);
    folder.run("seek --time 2099-01-01").done().tells("in the future");
    folder.drain("");
    assert_eq!(archived(&folder), (5, 5));
    folder.run("seek --time 2020-01-01").done();
    folder.drain("");
    assert_eq!(archived(&folder), (10, 10));
}

#[test]
fn a_seek_past_retention_names_the_oldest_event() {
    let folder = with_orders(1_000, "");
    // Retention makes room for the next events.
    let small = " --set event_log.retention.max_bytes=100000";
    let more: String = (1_000..1_400).map(|id| order(id) + "\n").collect();
    folder.feed(&format!("publish -{small}"), more.as_bytes()).done();
    let seek = folder.run(&format!("seek --time 2020-01-01{small}")).ended_with(1);
    seek.tells("are removed from the log").tells("the oldest still there is of").tells("archive");
    let replay = folder.run(&format!("replay {EVER} --source log{small}")).ended_with(1);
    replay.tells("the oldest still there is of");
    folder.run("diff orders").ended_with(1).tells("orders has no staging table");
    let names = "SELECT group_concat(name) FROM subscriptions";
    assert_eq!(query::<String>(&folder, "subscriptions.db", names), "kappa");
    let folder = Folder::new();
    folder.run("seek --time 2020-01-01").ended_with(1).tells("there is no log in");
    assert!(folder.is_empty());
}

#[test]
fn ctrl_c_ends_a_replay_in_good_order_and_prints_how_to_resume() {
    let folder = with_orders(3_000, "");
    let mut replay = folder.spawn(&format!("replay {EVER} --rate 500"));
    let mut lines = BufReader::new(replay.stderr.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("status at http://127.0.0.1:"));
    let pid = rustix::process::Pid::from_child(&replay);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    assert_eq!(replay.wait().unwrap().code(), Some(1), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("kappa replay --resume")), "{rest:?}");
}
