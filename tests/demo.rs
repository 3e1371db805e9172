//! `kappa demo` as a process, compared with the files that it writes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rusqlite::Connection;

/// A demo on `dir`, independent of the settings in the environment of the tests.
fn demo(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kappa"));
    command.arg("demo").arg("--data-dir").arg(dir).args(["--set", "status.listen=127.0.0.1:0"]);
    command.args(args).current_dir(dir);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KAPPA__") {
            command.env_remove(name);
        }
    }
    command
}

/// The facts on standard output; those of one name are added up.
fn facts(output: &Output) -> BTreeMap<String, u64> {
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let mut facts = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let (name, value) = (words.next().unwrap(), words.next().unwrap());
        *facts.entry(name.to_owned()).or_default() += value.parse::<u64>().unwrap_or_default();
    }
    assert!(text.contains("\nadds_up true\n"), "{text}");
    facts
}

fn count(dir: &Path, table: &str) -> u64 {
    let warehouse = Connection::open(dir.join("warehouse.db")).unwrap();
    let sql = format!("SELECT count(*) FROM {table}");
    warehouse.query_row(&sql, (), |row| row.get::<_, i64>(0)).unwrap().try_into().unwrap()
}

/// The paths of all files under `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// How many finals the archive holds, and how many lines; there must be nothing else but indexes.
fn archived(dir: &Path) -> (u64, u64) {
    let mut finals = files(&dir.join("archive"));
    finals.retain(|name| !name.starts_with(dir.join("archive/index")));
    let all_final = finals.iter().all(|name| name.starts_with(dir.join("archive/events")));
    assert!(all_final, "{finals:?}");
    let lines = |path| std::fs::read_to_string(path).unwrap().lines().count() as u64;
    (finals.len() as u64, finals.iter().map(lines).sum())
}

#[test]
fn the_demo_reports_the_contents_of_its_files() {
    let dir = tempfile::tempdir().unwrap();
    for run in 1..=2 {
        let output = demo(dir.path(), &["--events", "2000", "--exit"]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).contains("holds events already");
        assert_eq!(told, run == 2, "{output:?}");
        let facts = facts(&output);
        let tables = ["orders", "users", "products", "other"];
        let rows: u64 = tables.iter().map(|table| count(dir.path(), table)).sum();
        let dead_letters = count(dir.path(), "dead_letters");
        assert_eq!(rows + dead_letters, run * 2000);
        assert_eq!(facts["events"], 2000);
        if run == 1 {
            for table in tables {
                assert_eq!(facts[&format!("rows.{table}")], count(dir.path(), table));
            }
            assert_eq!(facts["dead_letters"], dead_letters);
            assert_eq!(facts["dead_letters.reason"], dead_letters);
            assert_eq!(archived(dir.path()), (facts["archived.files"], rows));
            assert_eq!(facts["archived.lines"], rows);
        }
    }
}

#[test]
fn counts_that_do_not_add_up_end_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--events", "500", "--exit"];
    assert_eq!(facts(&demo(dir.path(), &args).output().unwrap())["events"], 500);
    let warehouse = Connection::open(dir.path().join("warehouse.db")).unwrap();
    let thief = "CREATE TRIGGER thief AFTER INSERT ON orders BEGIN \
                 DELETE FROM orders WHERE event_id = new.event_id; END";
    warehouse.execute_batch(thief).unwrap();
    let output = demo(dir.path(), &args).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("error: the counts do not add up: "), "{told}");
}

#[test]
fn an_interrupted_demo_ends_gracefully_and_leaves_a_folder_that_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    // A log of this size is full at once: the demo goes no faster than its events are settled.
    let full = "event_log.retention.max_bytes=2000000";
    let mut endless = demo(dir.path(), &["--events", "1000000000", "--set", full]);
    let mut child = endless.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut told = String::new();
    // It reports published events: it is in the middle of its work.
    while !told.contains(" published") {
        assert_ne!(stderr.read_line(&mut told).unwrap(), 0, "{told}");
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    stderr.read_to_string(&mut told).unwrap();
    assert!(child.wait().unwrap().success(), "{told}");
    let output = demo(dir.path(), &["--events", "100", "--exit"]).output().unwrap();
    assert_eq!(facts(&output)["events"], 100);
}

#[test]
fn a_demo_without_exit_goes_on_until_it_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = demo(dir.path(), &["--events", "300"]);
    let mut child = demo.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut told = String::new();
    while !told.contains("Ctrl-C ends") {
        assert_ne!(stderr.read_line(&mut told).unwrap(), 0, "{told}");
    }
    assert!(dir.path().join("status.addr").exists());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(facts(&output)["events"], 300);
    assert_eq!(archived(dir.path()).1, facts(&output)["archived.lines"]);
}
