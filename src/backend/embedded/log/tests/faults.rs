//! Faults that the log reports while it goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use kappa_actors::port::{Acknowledged, EventLog};
use kappa_actors::time::Timestamp;

use super::{leases, offsets, open, open_with, options, publish, pull};
use crate::backend::embedded::log::begin_generation_at;

fn log_file(dir: &std::path::Path) -> rusqlite::Connection {
    rusqlite::Connection::open(dir.join("log.db")).unwrap()
}

#[tokio::test]
async fn missing_events_are_reported_until_they_are_back_and_are_then_handed_out() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    publish(&log, (1..=10).map(|n| n.to_string())).await;
    let file = log_file(dir.path());
    file.execute("CREATE TABLE lost AS SELECT * FROM events WHERE offset IN (4, 5, 9, 10)", ())
        .unwrap();
    file.execute("DELETE FROM events WHERE offset IN (SELECT offset FROM lost)", ()).unwrap();
    let messages = pull(&log).await;
    assert_eq!(offsets(&messages), [1, 2, 3, 6, 7, 8]);
    log.acknowledge(&leases(&messages)).await.unwrap();
    let faults = log.faults().await.unwrap();
    assert!(faults[0].reason.contains("offsets 4 to 5, 9 to 10"), "{faults:?}");
    assert_eq!((faults.len(), faults[0].what, faults[0].waiting), (1, "log.db", 4));
    let backlog = log.backlog().await.unwrap();
    assert_eq!((backlog.messages, backlog.oldest), (Some(0), None));
    drop(log);
    // It is found again, and nothing of it counts as acknowledged.
    let log = open(dir.path());
    assert!(pull(&log).await.is_empty());
    assert_eq!(log.faults().await.unwrap(), faults);
    drop(log);
    file.execute("INSERT INTO events SELECT * FROM lost", ()).unwrap();
    let log = open(dir.path());
    assert_eq!(offsets(&pull(&log).await), [4, 5, 9, 10]);
    assert_eq!(log.faults().await.unwrap(), []);
}

#[tokio::test]
async fn a_seek_behind_missing_events_goes_on_without_them_and_loses_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(0));
    let log = open_with(dir.path(), options(), &now);
    for time in 1..=10 {
        now.store(time, Ordering::Relaxed);
        publish(&log, [time.to_string()]).await;
    }
    log_file(dir.path()).execute("DELETE FROM events WHERE offset BETWEEN 4 AND 8", ()).unwrap();
    assert_eq!(offsets(&pull(&log).await), [1, 2, 3, 9, 10]);
    // The middle of a search falls into the hole.
    log.seek(Timestamp::from_micros(3)).await.unwrap();
    assert_eq!(offsets(&pull(&log).await), [3, 9, 10]);
    assert_eq!(log.faults().await.unwrap().len(), 1);
    log.seek(Timestamp::from_micros(9)).await.unwrap();
    assert_eq!(offsets(&pull(&log).await), [9, 10]);
    assert_eq!(log.faults().await.unwrap(), []);
}

#[tokio::test]
async fn a_log_ahead_of_the_clock_is_reported_until_a_new_generation_begins() {
    const MINUTE: i64 = 60_000_000;
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(100 * MINUTE));
    let log = open_with(dir.path(), options(), &now);
    publish(&log, ["ahead".to_owned()]).await;
    now.store(99 * MINUTE, Ordering::Relaxed);
    assert_eq!(log.faults().await.unwrap(), [], "a step back of a minute is common");
    now.store(10 * MINUTE, Ordering::Relaxed);
    publish(&log, ["pinned".to_owned()]).await;
    let faults = log.faults().await.unwrap();
    assert_eq!((faults.len(), faults[0].what), (1, "clock"));
    assert!(faults[0].reason.contains("1970-01-01T01:40:00"), "{faults:?}");
    begin_generation_at(dir.path(), Timestamp::from_micros(10 * MINUTE)).unwrap();
    assert_eq!(log.faults().await.unwrap(), []);
    publish(&log, ["right".to_owned()]).await;
    let messages = pull(&log).await;
    let minutes: Vec<_> = messages.iter().map(|it| it.publish_time.micros() / MINUTE).collect();
    assert_eq!(minutes, [100, 100, 10]);
    // The event of the later generation stays unacknowledged.
    log.acknowledge(&leases(&messages[..2])).await.unwrap();
    let before = Acknowledged::Before(Timestamp::from_micros(10 * MINUTE));
    assert_eq!(log.acknowledged().await.unwrap(), before);
}

#[tokio::test]
async fn a_seek_goes_by_the_publish_times_of_each_generation() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(0));
    let log = open_with(dir.path(), options(), &now);
    let seconds = |n: i64| Timestamp::from_micros(n * 1_000_000);
    for second in [10, 20, 90, 15, 30] {
        now.store(seconds(second).micros(), Ordering::Relaxed);
        if second == 15 {
            begin_generation_at(dir.path(), seconds(15)).unwrap();
        }
        publish(&log, [second.to_string()]).await;
    }
    // Only the generation of the wrong clock has reached 40: the next one follows it whole.
    let sought = [(30, vec![3, 5]), (12, vec![2, 3, 4, 5]), (40, vec![3, 4, 5]), (91, vec![])];
    for (to, expected) in sought {
        let sought = log.seek(seconds(to)).await.unwrap();
        assert_eq!(sought.messages, Some(expected.len() as u64), "{to}");
        assert_eq!(offsets(&pull(&log).await), expected, "{to}");
    }
    // By their age, those of before the generation are no younger than it.
    log.seek(seconds(91)).await.unwrap();
    super::retain(
        dir.path(),
        super::retention::Keep { since: seconds(16).micros(), bytes: u64::MAX },
    );
    assert!(log.seek(seconds(15)).await.is_err());
    log.seek(seconds(16)).await.unwrap();
    assert_eq!(offsets(&pull(&log).await), [5]);
}

#[tokio::test]
async fn no_seek_passes_over_events_of_a_generation_that_begins_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(0));
    let log = open_with(dir.path(), options(), &now);
    let at = |second: i64| {
        now.store(second * 1_000_000, Ordering::Relaxed);
        Timestamp::from_micros(second * 1_000_000)
    };
    // The clock is ahead, and the seek goes to a time that it shows.
    for second in [80, 90] {
        at(second);
        publish(&log, [second.to_string()]).await;
    }
    assert_eq!(log.seek(Timestamp::from_micros(95_000_000)).await.unwrap().messages, Some(0));
    at(92);
    publish(&log, ["skipped".to_owned()]).await;
    assert_eq!(offsets(&pull(&log).await), [0; 0]);
    begin_generation_at(dir.path(), at(15)).unwrap();
    publish(&log, ["right".to_owned()]).await;
    assert_eq!(offsets(&pull(&log).await), [4]);
    // The pinned future again, now that a generation of the right time has events.
    for (to, expected) in [(85, vec![2, 3, 4]), (90, vec![2, 3, 4, 5])] {
        log.seek(Timestamp::from_micros(to * 1_000_000)).await.unwrap();
        let messages = pull(&log).await;
        assert_eq!(offsets(&messages), expected, "{to}");
        log.acknowledge(&leases(&messages)).await.unwrap();
        at(20);
        publish(&log, ["later".to_owned()]).await;
        let later = pull(&log).await;
        assert_eq!(later.len(), 1, "{to}: an event after the seek is not passed over");
        log.acknowledge(&leases(&later)).await.unwrap();
    }
}
