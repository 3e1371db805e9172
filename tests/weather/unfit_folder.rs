//! A folder or an address that cannot be used is an error at start, in clear words, and harms
//! nothing.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use kappa_actors::vitals::DaemonState;
use rusqlite::Connection;

use crate::support::{Oracle, Publisher, Scene, generated};

/// A start that fails with exit code 1, saying all of `words`.
fn fails_saying(scene: &Scene, arguments: &[&str], words: &[&str]) {
    let (code, said) = scene.run(&[&["run", "--until-idle"], arguments].concat());
    assert_eq!(code, Some(1), "{said}");
    let error = said.lines().find(|line| line.starts_with("error: ")).unwrap_or(&said);
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    assert!(!error.contains("panicked"), "{said}");
}

#[test]
fn a_second_daemon_on_the_folder_is_refused_and_the_first_goes_on() {
    let scene = Scene::new("");
    let daemon = scene.start();
    fails_saying(&scene, &[], &["another daemon runs on this data folder", "hint: "]);
    let publisher = Publisher::open(&scene.data_dir());
    let mut oracle = Oracle::default();
    oracle.publish(&publisher, generated(50).take(500), 500);
    assert_eq!(daemon.get("/readyz").0, 200);
    daemon.stop();
    scene.run_until_idle();
    oracle.check(&scene);
}

#[test]
fn an_address_in_use_is_named_and_nothing_is_taken_from_the_log() {
    let scene = Scene::new("");
    let publisher = Publisher::open(&scene.data_dir());
    let mut oracle = Oracle::default();
    oracle.publish(&publisher, generated(51).take(100), 100);
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    fails_saying(&scene, &["--set", &format!("status.listen={address}")], &[&address, "in use"]);
    assert_eq!(publisher.backlog(), 100);
    scene.run_until_idle();
    oracle.check(&scene);
}

#[test]
fn a_corrupt_file_is_named_and_left_as_it_is() {
    let scene = Scene::new("");
    let mut oracle = Oracle::default();
    oracle.publish(&Publisher::open(&scene.data_dir()), generated(52).take(300), 300);
    scene.run_until_idle();
    oracle.publish(&Publisher::open(&scene.data_dir()), generated(53).take(300), 300);
    for name in ["log.db", "subscriptions.db", "warehouse.db"] {
        let path = scene.data_dir().join(name);
        let sound = fs::read(&path).unwrap();
        let garbage = b"this is no database\n".repeat(1_000);
        fs::write(&path, &garbage).unwrap();
        fails_saying(&scene, &[], &[name]);
        assert!(fs::read(&path).unwrap() == garbage, "{name} was changed");
        fs::write(&path, &sound).unwrap();
    }
    scene.run_until_idle();
    oracle.check(&scene);
}

#[test]
fn a_file_of_a_later_version_is_refused_and_left_as_it_is() {
    let scene = Scene::new("");
    scene.run_until_idle();
    for name in ["log.db", "subscriptions.db", "warehouse.db"] {
        let path = scene.data_dir().join(name);
        let set =
            |version| Connection::open(&path).unwrap().pragma_update(None, "user_version", version);
        let version: i64 = Connection::open(&path)
            .unwrap()
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        set(99).unwrap();
        fails_saying(&scene, &[], &[name, "schema version 99"]);
        set(version).unwrap();
    }
    scene.run_until_idle();
}

#[test]
fn a_folder_that_cannot_be_made_or_written_is_named() {
    let scene = Scene::new("");
    fails_saying(&scene, &["--data-dir", "kappa.toml/below"], &["kappa.toml/below"]);
    fails_saying(&scene, &["--data-dir", "kappa.toml"], &["kappa.toml"]);
    scene.run_until_idle();
    fs::remove_dir_all(scene.data_dir().join("archive")).unwrap();
    fs::write(scene.data_dir().join("archive"), "a file").unwrap();
    fails_saying(&scene, &[], &["archive"]);
}

#[test]
fn only_the_owner_can_read_the_files_of_a_daemon() {
    fn check(path: &Path) {
        let metadata = fs::metadata(path).unwrap();
        let mode = metadata.permissions().mode() & 0o777;
        assert_eq!(mode, if metadata.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        if metadata.is_dir() {
            fs::read_dir(path).unwrap().for_each(|entry| check(&entry.unwrap().path()));
        }
    }
    let scene = Scene::new("");
    let mut oracle = Oracle::default();
    let daemon = scene.start();
    oracle.publish(&Publisher::open(&scene.data_dir()), generated(54).take(300), 300);
    daemon.await_acknowledged(300);
    daemon.stop();
    check(&scene.data_dir());
}

/// Moves the database and the files beside it away.
fn move_away(scene: &Scene, name: &str) {
    let aside = scene.root().join("aside");
    fs::create_dir_all(&aside).unwrap();
    for file in ["", "-wal", "-shm"].map(|end| format!("{name}{end}")) {
        // Without a checkpoint all three are there; one that is not is not missed.
        let _ = fs::rename(scene.data_dir().join(&file), aside.join(&file));
    }
}

#[test]
fn no_row_is_acknowledged_into_a_warehouse_that_was_moved_away() {
    let scene = Scene::new("");
    let daemon = scene.start();
    move_away(&scene, "warehouse.db");
    let mut oracle = Oracle::default();
    oracle.publish(&Publisher::open(&scene.data_dir()), generated(55).take(300), 300);
    daemon.await_status("the moved file to be named", |status| {
        let named = |reason: &str| reason.contains("warehouse.db was removed or replaced");
        let degraded = status.state == DaemonState::Degraded;
        (degraded && status.reasons.iter().any(|it| named(&it.reason))).then_some(())
    });
    drop(daemon);
    scene.run_until_idle();
    oracle.check(&scene);
}

#[test]
fn a_log_that_was_moved_away_degrades_the_daemon() {
    let scene = Scene::new("");
    let daemon = scene.start();
    move_away(&scene, "log.db");
    daemon.await_status("the moved file to be named", |status| {
        let named = |reason: &str| reason.contains("log.db was removed or replaced");
        let degraded = status.state == DaemonState::Degraded;
        (degraded && status.reasons.iter().any(|it| named(&it.reason))).then_some(())
    });
}
