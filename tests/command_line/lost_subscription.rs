//! A replay of the log whose own subscription expired or was removed.

use std::io::{BufRead as _, BufReader};

use rusqlite::Connection;

use super::replay::{EVER, id_of, with_orders};
use super::util::Folder;

/// Removes the replay's own subscription, as its expiry would.
fn forget(folder: &Folder, id: &str) {
    let file = Connection::open(folder.data().join("subscriptions.db")).unwrap();
    file.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
    let own = format!("kappa-replay-{id}");
    let removed = file.execute("DELETE FROM subscriptions WHERE name = ?", [&own]).unwrap();
    assert_eq!(removed, 1, "no subscription {own}");
    file.execute("DELETE FROM acknowledged WHERE subscription = ?", [&own]).unwrap();
}

#[test]
fn a_resumed_replay_without_its_subscription_is_an_error_and_never_begins_again() {
    let folder = with_orders(3_000, "");
    let mut replay = folder.spawn(&format!("replay {EVER} --source log --rate 100"));
    let id = id_of(&mut replay);
    replay.kill().unwrap();
    replay.wait().unwrap();
    forget(&folder, &id);
    for _ in 0..2 {
        let resumed = folder.run(&format!("replay --resume {id}")).ended_with(1);
        resumed
            .tells("the subscription of the replay")
            .tells("is gone")
            .tells("begin a new replay");
    }
    folder.run("merge orders").ended_with(1).tells("has not ended");
}

#[test]
fn a_running_replay_that_loses_its_subscription_ends_with_an_error() {
    let folder = with_orders(3_000, "");
    let line = format!("replay {EVER} --source log --rate 100 --set drain_timeout=1s");
    let mut replay = folder.spawn(&line);
    let mut lines = BufReader::new(replay.stderr.take().unwrap()).lines().map(Result::unwrap);
    let first = lines.next().unwrap();
    let id = first.split_once("replay ").unwrap().1.split_once(' ').unwrap().0.to_owned();
    forget(&folder, &id);
    let rest: Vec<_> = lines.collect();
    assert_eq!(replay.wait().unwrap().code(), Some(1), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("is gone")), "{rest:?}");
    folder.run("merge orders").ended_with(1).tells("has not ended");
}
