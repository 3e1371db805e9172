//! `kappa check --data` and `kappa subscriptions`

use std::fs;

use kappa_actors::time::Timestamp;
use rusqlite::Connection;

use super::util::Folder;

const EVENT: &str = r#"{"event_id":"1","event_type":"user.x","timestamp":"2026-02-17T14:30:00Z"}"#;

fn with_events(count: usize) -> Folder {
    let folder = Folder::new();
    let lines = vec![EVENT; count].join("\n");
    folder.feed("publish -", lines.as_bytes()).done();
    folder.drain("");
    folder
}

/// The verdict and the file of each line.
fn verdicts(stdout: &str) -> Vec<(String, String)> {
    let line = |line: &str| {
        let mut fields = line.split('\t');
        let (verdict, path) = (fields.next().unwrap(), fields.next().unwrap());
        (verdict.to_owned(), path.rsplit_once('/').unwrap().1.to_owned())
    };
    stdout.lines().map(line).collect()
}

fn pair(verdict: &str, file: &str) -> (String, String) {
    (verdict.to_owned(), file.to_owned())
}

#[test]
fn sound_files_pass_beside_a_running_daemon() {
    let folder = with_events(10);
    let _daemon = folder.daemon("");
    let ran = folder.run("check --data").done();
    let sound = ["log.db", "subscriptions.db", "warehouse.db"].map(|file| pair("ok", file));
    assert_eq!(verdicts(&ran.stdout), sound, "{ran}");
    assert!(ran.stdout.contains("generation 1, offsets up to 10"), "{ran}");
}

#[test]
fn a_folder_without_files_is_an_error() {
    let folder = Folder::new();
    fs::create_dir(folder.data()).unwrap();
    folder.run("check --data").ended_with(1).tells("there are no files to verify in ./data");
    assert!(fs::read_dir(folder.data()).unwrap().next().is_none(), "a check makes no file");
}

#[test]
fn a_hole_in_the_log_is_named_with_its_offsets() {
    let folder = with_events(1_000);
    let log = Connection::open(folder.data().join("log.db")).unwrap();
    log.execute("DELETE FROM events WHERE offset BETWEEN 400 AND 499 OR offset > 997", ()).unwrap();
    let ran = folder.run("check --data").ended_with(1);
    for offsets in ["offsets 400 to 499 are missing", "offsets 998 to 1000 are missing"] {
        assert!(ran.stdout.contains(offsets), "{ran}");
    }
}

#[test]
fn no_run_and_no_replay_over_a_log_with_missing_events_reports_success() {
    let folder = Folder::new();
    folder.feed("publish -", vec![EVENT; 100].join("\n").as_bytes()).done();
    let log = Connection::open(folder.data().join("log.db")).unwrap();
    log.execute("CREATE TABLE lost AS SELECT * FROM events WHERE offset BETWEEN 40 AND 49", ())
        .unwrap();
    log.execute("DELETE FROM events WHERE offset BETWEEN 40 AND 49", ()).unwrap();
    let run = "run --until-idle --set status.listen=127.0.0.1:0";
    for _ in 0..2 {
        folder.run(run).ended_with(1).tells("missing from log.db, offsets 40 to 49");
    }
    let replay = "replay --source log --from 2020-01-01 --to 2100-01-01";
    let partial = folder.run(replay).ended_with(1).tells("damaged: log: ").tells("40 to 49");
    let id = partial.stdout.lines().find_map(|line| line.strip_prefix("replay\t")).unwrap();
    folder.run("merge other").ended_with(1).tells("is not complete");
    log.execute("INSERT INTO events SELECT * FROM lost", ()).unwrap();
    let rest = folder.run(&format!("replay --resume {id}")).done();
    assert!(rest.stdout.contains("events\t10\n"), "{rest}");
    folder.run(run).done();
    let again = "replay --source log --from 2020-01-01 --to 2100-01-01 --replace --skip-damaged";
    log.execute("DELETE FROM events WHERE offset BETWEEN 40 AND 49", ()).unwrap();
    folder.run(again).ended_with(1).tells("40 to 49");
    folder.run("merge other").done();
}

#[test]
fn events_missing_behind_the_range_of_a_replay_do_not_fail_it() {
    let folder = Folder::new();
    folder.feed("publish -", vec![EVENT; 100].join("\n").as_bytes()).done();
    let log = Connection::open(folder.data().join("log.db")).unwrap();
    let minutes = "UPDATE events SET publish_time = (29000000 + offset / 10) * 60000000";
    log.execute(minutes, ()).unwrap();
    log.execute("DELETE FROM events WHERE offset BETWEEN 45 AND 49", ()).unwrap();
    let time = |minute: i64| {
        chrono::DateTime::from_timestamp((29_000_000 + minute) * 60, 0).unwrap().to_rfc3339()
    };
    let replay = |to: i64| {
        let (from, to) = (time(0), time(to));
        folder.run(&format!("replay --source log --from {from} --to {to} --replace"))
    };
    // Events 40 to 44 were published at minute 4, and those that are missing no earlier.
    assert!(replay(4).done().stdout.contains("events\t39\n"));
    replay(5).ended_with(1).tells("45 to 49");
}

#[test]
fn damage_is_named_with_its_file() {
    let folder = with_events(3_000);
    let path = folder.data().join("log.db");
    let mut bytes = fs::read(&path).unwrap();
    // A page in the middle, written over.
    let page = bytes.len() / 2 / 16_384 * 16_384;
    bytes[page..page + 16_384].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    let ran = folder.run("check --data").ended_with(1);
    assert!(verdicts(&ran.stdout).contains(&pair("fault", "log.db")), "{ran}");
    assert!(ran.stdout.contains("restore the file from a backup"), "{ran}");
}

#[test]
fn a_file_of_another_version_is_named() {
    let folder = with_events(1);
    for file in ["log.db", "subscriptions.db", "warehouse.db"] {
        let path = folder.data().join(file);
        let connection = Connection::open(&path).unwrap();
        let version: i64 =
            connection.query_row("PRAGMA user_version", (), |row| row.get(0)).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let ran = folder.run("check --data").ended_with(1);
        assert!(verdicts(&ran.stdout).contains(&pair("fault", file)), "{ran}");
        assert!(ran.stdout.contains("schema version 99"), "{ran}");
        connection.pragma_update(None, "user_version", version).unwrap();
    }
    folder.run("check --data").done();
}

#[test]
fn a_restored_log_that_is_older_than_its_subscriptions_is_reported_until_it_is_healed() {
    let folder = with_events(5);
    let backup = folder.data().join("backup");
    let log = Connection::open(folder.data().join("log.db")).unwrap();
    log.execute("VACUUM INTO ?", [backup.to_str().unwrap()]).unwrap();
    drop(log);
    folder.feed("publish -", EVENT.as_bytes()).done();
    folder.drain("");
    for file in ["log.db-wal", "log.db-shm"] {
        let _ = fs::remove_file(folder.data().join(file));
    }
    fs::rename(&backup, folder.data().join("log.db")).unwrap();
    for _ in 0..2 {
        let ran = folder.run("check --data").ended_with(1);
        assert!(verdicts(&ran.stdout).contains(&pair("fault", "subscriptions.db")), "{ran}");
        assert!(ran.stdout.contains("log.db is older than subscriptions.db"), "{ran}");
    }
    folder.feed("publish -", EVENT.as_bytes()).done();
    let ran = folder.run("check --data").done();
    assert!(ran.stdout.contains("generation 2"), "{ran}");
    // Status reports it, and the daemon is not degraded.
    let _daemon = folder.daemon("");
    let status = folder.run("status").done();
    let warning = "generation 2 of the log began ";
    assert!(status.stdout.contains(warning), "{status}");
    assert!(status.stdout.contains("log.db is older than subscriptions.db"), "{status}");
    assert!(status.stdout.contains("state running"), "{status}");
}

#[test]
fn a_subscription_that_is_no_longer_used_is_listed_and_can_be_removed() {
    let folder = with_events(3);
    folder.drain(" --set event_log.subscription=other");
    folder.feed("publish -", EVENT.as_bytes()).done();
    folder.drain("");
    let listed = |folder: &Folder| {
        let ran = folder.run("subscriptions list").done();
        let lines = ran.stdout.lines().map(|line| line.rsplit_once('\t').unwrap());
        let names = lines.map(|(held, used)| {
            assert!(Timestamp::parse_rfc3339(used).is_ok(), "{ran}");
            held.to_owned()
        });
        names.collect::<Vec<_>>()
    };
    assert_eq!(listed(&folder), ["other\t1", "kappa\t0"]);
    folder.run("subscriptions remove kappa").ended_with(1).tells("--force");
    folder.run("subscriptions remove other").done().says("removed\tother\n");
    folder.run("subscriptions remove other").ended_with(1).tells("no subscription other");
    assert_eq!(listed(&folder), ["kappa\t0"]);
}
