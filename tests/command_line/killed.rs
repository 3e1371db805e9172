//! Deaths of the whole process: an event that causes them becomes a dead letter, and kills from
//! outside accuse no event.

use std::os::unix::process::ExitStatusExt as _;
use std::thread;
use std::time::Duration;

use super::util::{Folder, Ran};

const RUN: &str = "run --until-idle --set status.listen=127.0.0.1:0";
const SIGABRT: i32 = 6;

/// Starts that an event may kill before it is found: one with everything in flight, one for each
/// size of a batch, and `max_attempts` alone.
const MOST_DEATHS: usize = 1 + 2 + 3;

fn orders(ids: impl IntoIterator<Item = String>) -> Vec<u8> {
    let line = |id: String| {
        format!(
            "{{\"event_id\":\"{id}\",\"event_type\":\"order.placed\",\"entity_id\":\"o\",\
             \"timestamp\":\"2026-02-17T14:30:00Z\"}}\n"
        )
    };
    ids.into_iter().map(line).collect::<String>().into_bytes()
}

fn numbered(prefix: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("{prefix}-{number}"))
}

/// Runs daemons until one ends by itself; how many were killed, and the output of the last.
fn run_until_done(folder: &Folder, settings: &str) -> (usize, Ran) {
    let line = format!("{RUN}{settings}");
    for deaths in 0.. {
        let output = folder.spawn(&line).wait_with_output().unwrap();
        if output.status.signal() != Some(SIGABRT) {
            return (deaths, Ran::new(&line, output).done());
        }
        assert!(deaths < 2 * MOST_DEATHS + 2, "no end: {}", Ran::new(&line, output));
    }
    unreachable!("the loop has no end")
}

fn ask(folder: &Folder, file: &str, sql: &str) -> i64 {
    let rows = rusqlite::Connection::open(folder.data().join(file)).unwrap();
    rows.query_row(sql, (), |row| row.get(0)).unwrap()
}

#[test]
fn an_event_that_kills_the_process_becomes_a_dead_letter_and_its_neighbours_rows() {
    let folder = Folder::new();
    let ids =
        numbered("before", 1_500).chain(["poison".to_owned()]).chain(numbered("after", 1_500));
    folder.feed("publish -", &orders(ids)).done();
    let faults = " --set faults.enabled=true --set faults.abort_on=[\"poison\"]";
    let (deaths, _) = run_until_done(&folder, faults);
    assert_eq!(deaths, MOST_DEATHS);
    assert_eq!(folder.rows_of_orders().len(), 3_000);
    let letter = "SELECT count(*) FROM dead_letters WHERE stage = 'poison' \
                  AND CAST(payload AS TEXT) LIKE '%:\"poison\"%' \
                  AND attempts = 3 AND actor = 'kappa' AND reason = \
                  'the process was killed 3 times while it worked on this event alone'";
    assert_eq!(ask(&folder, "warehouse.db", letter), 1);
    assert_eq!(ask(&folder, "warehouse.db", "SELECT count(*) FROM dead_letters"), 1);
    // The way is free: no event is tried in small batches any more.
    let tried = "SELECT count(*) FROM runs WHERE running = 1 OR until_0 > 0";
    assert_eq!(ask(&folder, "subscriptions.db", tried), 0);
    folder.feed("publish -", &orders(numbered("later", 100))).done();
    assert_eq!(run_until_done(&folder, faults).0, 0);
    assert_eq!(folder.rows_of_orders().len(), 3_100);
}

/// Stores the letter of its event whole, and is killed by that.
const ABORT_ON_LETTER: &str = " --set faults.enabled=true --set faults.abort_on=[\"poison\"] --set faults.abort_on_letter=[\"poison\"]";

#[test]
fn an_event_whose_letter_kills_the_process_too_becomes_a_letter_with_its_payload_aside() {
    let folder = Folder::new();
    let ids = numbered("before", 40).chain(["poison".to_owned()]).chain(numbered("after", 40));
    folder.feed("publish -", &orders(ids)).done();
    let (deaths, last) = run_until_done(&folder, ABORT_ON_LETTER);
    assert_eq!(deaths, MOST_DEATHS + 1, "one more death, over the letter");
    assert!(last.stderr.contains("in its bare form"), "{last}");
    assert_eq!(folder.rows_of_orders().len(), 80);
    let letter = "SELECT count(*) FROM dead_letters WHERE stage = 'poison' AND payload IS NULL \
                  AND class = 'event: kills the process' AND attempts = 4 \
                  AND payload_object = 'dead-letters/' || id";
    assert_eq!(ask(&folder, "warehouse.db", letter), 1);
    assert_eq!(ask(&folder, "warehouse.db", "SELECT count(*) FROM dead_letters"), 1);
    // The payload is whole, and the letter can be shown, requeued and left out of the archive.
    let list = folder.run("dead-letters list").done().stdout;
    let id = list.split('\t').next().unwrap();
    let shown = folder.run(&format!("dead-letters show {id}")).done();
    let event = orders(["poison".to_owned()]);
    assert!(shown.stdout.ends_with(std::str::from_utf8(&event).unwrap()), "{shown}");
    folder.run("archive verify").done();
    folder.run("audit").done();
    folder.run("dead-letters requeue").done();
    assert_eq!(folder.rows_of_orders().len(), 81);
    folder.run("audit").done();
}

#[test]
fn two_events_that_kill_the_process_become_dead_letters_one_after_the_other() {
    let folder = Folder::new();
    let ids = ["poison-1".to_owned()].into_iter().chain(numbered("between", 40));
    folder.feed("publish -", &orders(ids.chain(["poison-2".to_owned()]))).done();
    let faults = " --set faults.enabled=true --set faults.abort_on=[\"poison-1\",\"poison-2\"]";
    let (deaths, _) = run_until_done(&folder, faults);
    assert!(deaths <= 2 * MOST_DEATHS, "{deaths}");
    assert_eq!(folder.rows_of_orders().len(), 40);
    assert_eq!(ask(&folder, "warehouse.db", "SELECT count(*) FROM dead_letters"), 2);
}

#[test]
fn twenty_kills_in_a_row_under_load_make_no_dead_letter() {
    let folder = Folder::new();
    for kill in 0..20_u32 {
        folder.feed("publish -", &orders(numbered(&format!("round-{kill}"), 200))).done();
        let daemon = folder.daemon("");
        // Not to wait for anything: the moment is the fault.
        thread::sleep(Duration::from_millis(u64::from(kill * 37 % 400)));
        drop(daemon);
    }
    let (deaths, _) = run_until_done(&folder, "");
    assert_eq!(deaths, 0);
    assert_eq!(ask(&folder, "warehouse.db", "SELECT count(*) FROM dead_letters"), 0);
    assert_eq!(folder.rows_of_orders().len(), 20 * 200);
    let tried = "SELECT count(*) FROM runs WHERE running = 1 OR until_0 > 0";
    assert_eq!(ask(&folder, "subscriptions.db", tried), 0, "normal again");
}
