//! Logs and notes that were restored, replaced or written by a wrong clock.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use kappa_actors::message::Message;
use kappa_actors::port::{Acknowledged, EventLog, Pulled, Room};
use kappa_actors::position::Position;
use kappa_actors::replay::{EndedBy, Ending, LogRange, ReplayRange};
use kappa_actors::time::Timestamp;

use super::{
    PATIENCE, leases, offsets, open, open_with, options, publish, pull, retain, retention,
};
use crate::backend::embedded::log::begin_generation_at;

/// Copies `log.db` as `sqlite3 .backup` does.
fn back_up(dir: &Path, to: &Path) {
    let log = rusqlite::Connection::open(dir.join("log.db")).unwrap();
    log.execute("VACUUM INTO ?", [to.to_str().unwrap()]).unwrap();
}

fn remove_log(dir: &Path) {
    for file in ["log.db", "log.db-wal", "log.db-shm"] {
        let _ = fs::remove_file(dir.join(file));
    }
}

#[tokio::test]
async fn no_new_event_of_a_restored_log_counts_as_acknowledged() {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let backup = copies.path().join("backup.db");
    let log = open(dir.path());
    let mut before = publish(&log, (0..5).map(|n| n.to_string())).await;
    back_up(dir.path(), &backup);
    before.extend(publish(&log, (5..10).map(|n| n.to_string())).await);
    log.acknowledge(&leases(&pull(&log).await)).await.unwrap();
    drop(log);
    // Twice the same backup: the ids of the first recovery do not come again either.
    for generation in [2, 3] {
        remove_log(dir.path());
        fs::copy(&backup, dir.path().join("log.db")).unwrap();
        let log = open(dir.path());
        let after = publish(&log, (0..8).map(|n| format!("new {n}"))).await;
        assert!(after.iter().all(|id| !before.contains(id)), "{after:?}");
        assert!(after[0].contains(&format!(".{generation}-")), "{after:?}");
        let messages = pull(&log).await;
        let new = messages.iter().filter(|message| message.payload.starts_with(b"new"));
        assert_eq!(new.map(|message| message.id.to_string()).collect::<Vec<_>>(), after);
        log.acknowledge(&leases(&messages)).await.unwrap();
        assert_eq!(log.backlog().await.unwrap().messages, Some(0));
        before.extend(after);
    }
}

#[tokio::test]
async fn acknowledgements_of_lost_events_do_not_count_for_those_in_their_place() {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [old_log, old_notes] = ["log", "notes"].map(|name| copies.path().join(name));
    let log = open(dir.path());
    publish(&log, (0..5).map(|n| n.to_string())).await;
    back_up(dir.path(), &old_log);
    publish(&log, (5..10).map(|n| n.to_string())).await;
    log.acknowledge(&leases(&pull(&log).await)).await.unwrap();
    drop(log);
    fs::copy(dir.path().join("subscriptions.db"), &old_notes).unwrap();
    remove_log(dir.path());
    fs::copy(&old_log, dir.path().join("log.db")).unwrap();
    let log = open(dir.path());
    let after = publish(&log, (0..8).map(|n| format!("new {n}"))).await;
    drop(log);
    // Now the notes are the older file, and cover events that the first restore lost.
    for file in ["subscriptions.db-wal", "subscriptions.db-shm"] {
        let _ = fs::remove_file(dir.path().join(file));
    }
    fs::copy(&old_notes, dir.path().join("subscriptions.db")).unwrap();
    let messages = pull(&open(dir.path())).await;
    let ids: Vec<_> = messages.iter().map(|message| message.id.to_string()).collect();
    assert_eq!(ids, after);
}

#[tokio::test]
async fn a_replaced_log_goes_on_above_the_generation_of_the_one_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let before = publish(&log, ["old".to_owned()]).await;
    log.acknowledge(&leases(&pull(&log).await)).await.unwrap();
    drop(log);
    remove_log(dir.path());
    // A publisher opens it first.
    let after = publish(&open(dir.path()), ["new".to_owned()]).await;
    let position = |id: &str| Position::of(id, Timestamp::from_micros(0), 0);
    assert!(after[0].contains(".2-"), "{after:?}");
    assert!(position(&before[0]) < position(&after[0]), "{before:?} {after:?}");
    assert_eq!(pull(&open(dir.path())).await[0].payload, "new");
}

#[tokio::test]
async fn a_new_generation_follows_a_corrected_clock_and_outranks_the_times_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(9_000_000));
    let log = open_with(dir.path(), options(), &now);
    publish(&log, ["ahead".to_owned()]).await;
    now.store(1_000_000, Ordering::Relaxed);
    publish(&log, ["pinned".to_owned()]).await;
    // Another process begins it, beside the one that publishes.
    let began = begin_generation_at(dir.path(), Timestamp::from_micros(1_000_000)).unwrap();
    assert_eq!(began, 2);
    for time in [1_500_000, 2_000_000] {
        now.store(time, Ordering::Relaxed);
        publish(&log, [time.to_string()]).await;
    }
    let messages = pull(&log).await;
    let times: Vec<_> = messages.iter().map(|it| it.publish_time.micros()).collect();
    assert_eq!(times, [9_000_000, 9_000_000, 1_500_000, 2_000_000]);
    let positions = messages.iter().map(|it| Position::of(&it.id, it.publish_time, 0));
    assert!(positions.is_sorted_by(|a, b| a < b));
    log.acknowledge(&leases(&messages)).await.unwrap();
    // Nothing of that time or later is left out, and retention by age is not held up by the clock.
    log.seek(Timestamp::from_micros(2_000_000)).await.unwrap();
    assert!(pull(&log).await.iter().any(|it| it.payload == "2000000"));
    log.seek(Timestamp::from_micros(10_000_000)).await.unwrap();
    retain(dir.path(), retention::Keep { since: 1_400_000, bytes: u64::MAX });
    log.seek(Timestamp::from_micros(1_400_000)).await.unwrap();
    assert_eq!(offsets(&pull(&log).await), [3, 4]);
}

#[tokio::test]
async fn a_range_holds_the_events_of_a_generation_behind_later_times() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(9_000_000));
    let log = open_with(dir.path(), options(), &now);
    publish(&log, ["ahead".to_owned()]).await;
    begin_generation_at(dir.path(), Timestamp::from_micros(1_000_000)).unwrap();
    now.store(1_500_000, Ordering::Relaxed);
    publish(&log, ["within".to_owned()]).await;
    let [from, to] = [1_000_000, 2_000_000].map(Timestamp::from_micros);
    log.seek(from).await.unwrap();
    assert_eq!(
        log.acknowledged().await.unwrap(),
        Acknowledged::Before(Timestamp::from_micros(1_500_000))
    );
    let ending = Ending {
        quiet: Duration::from_millis(50),
        straggling: Duration::ZERO,
        ask_every: Duration::ZERO,
        later_ends: false,
        refuted: Duration::ZERO,
    };
    let range = LogRange::new(Arc::new(log), ReplayRange { from, to }, ending);
    // One at a time, so that the later time comes alone.
    let one = Room { messages: 1, bytes: 1 << 20 };
    let Pulled::Messages(messages) = range.pull(one, PATIENCE).await.unwrap() else {
        panic!("the range ended before its event");
    };
    assert_eq!(messages[0].payload, "within");
    range.acknowledge(&leases(&messages)).await.unwrap();
    assert!(matches!(range.pull(one, PATIENCE).await.unwrap(), Pulled::End));
    assert_eq!(range.progress().ended_by, Some(EndedBy::Proof));
}

#[tokio::test]
async fn events_behind_the_last_rank_are_published_after_all_that_the_lost_log_had() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(9_000_000));
    let log = open_with(dir.path(), options(), &now);
    for _ in 2..=15 {
        begin_generation_at(dir.path(), Timestamp::from_micros(9_000_000)).unwrap();
        publish(&log, ["old".to_owned()]).await;
    }
    let mut last = pull(&log).await.pop().unwrap();
    log.acknowledge(&[last.lease]).await.unwrap();
    drop(log);
    // Each new log begins with an earlier clock.
    for generation in [16, 17] {
        remove_log(dir.path());
        now.store(1_000_000, Ordering::Relaxed);
        let log = open_with(dir.path(), options(), &now);
        publish(&log, ["new".to_owned()]).await;
        let next = pull(&log).await.pop().unwrap();
        assert!(next.id.contains(&format!(".{generation}-")), "{}", next.id);
        let position = |it: &Message| Position::of(&it.id, it.publish_time, 0);
        assert!(position(&last) <= position(&next), "{last:?} {next:?}");
        assert!(last.publish_time <= next.publish_time);
        log.acknowledge(&[next.lease]).await.unwrap();
        last = next;
    }
}
