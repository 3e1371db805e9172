//! The embedded log as its callers see it.

mod faults;
mod kills;
mod model;
mod restored;
mod unused;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use kappa_actors::message::{Lease, Message, NewMessage};
use kappa_actors::port::{Acknowledged, EventLog, PublishError, Pulled, Room};
use kappa_actors::testing::event_log::{Abilities, conforms};
use kappa_actors::time::Timestamp;

use super::{Clock, EmbeddedLog, LogOptions, events::Events, reader, retention, subscription};

const ROOM: Room = Room { messages: 1_000, bytes: 1 << 20 };
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn options() -> LogOptions {
    LogOptions {
        max_in_flight: 1_000,
        subscription: "kappa".to_owned(),
        subscription_life: None,
        max_age: Duration::from_secs(3_600),
        max_unused: None,
        max_bytes: 1 << 30,
        max_event_bytes: 1 << 20,
    }
}

fn open(dir: &Path) -> EmbeddedLog {
    EmbeddedLog::open(dir, options()).unwrap()
}

/// A log whose clock shows what `now` holds, in microseconds.
fn open_with(dir: &Path, options: LogOptions, now: &Arc<AtomicI64>) -> EmbeddedLog {
    let now = Arc::clone(now);
    let clock: Clock = Arc::new(move || Timestamp::from_micros(now.load(Ordering::Relaxed)));
    EmbeddedLog::open_at(dir, options, clock).unwrap()
}

async fn publish(log: &EmbeddedLog, payloads: impl IntoIterator<Item = String>) -> Vec<String> {
    let messages = payloads.into_iter().map(NewMessage::from_payload).collect();
    log.publish(messages).await.into_iter().map(Result::unwrap).collect()
}

/// All that comes at once.
async fn pull(log: &EmbeddedLog) -> Vec<Message> {
    match log.pull(ROOM, Duration::ZERO).await.unwrap() {
        Pulled::Messages(messages) => messages,
        _ => Vec::new(),
    }
}

/// The offset that a message id ends with.
fn offset_in(id: &str) -> i64 {
    id.rsplit_once('-').unwrap().1.parse().unwrap()
}

fn offsets(messages: &[Message]) -> Vec<i64> {
    messages.iter().map(|message| offset_in(&message.id)).collect()
}

fn leases(messages: &[Message]) -> Vec<Lease> {
    reader::leases_of(messages)
}

/// One step of retention, as any process that publishes may make it. Whether there is more.
fn retain(dir: &Path, keep: retention::Keep) -> bool {
    let events = Events::open(&dir.join("log.db")).unwrap();
    let subscriptions = subscription::open(&dir.join("subscriptions.db")).unwrap();
    let transaction = events.lock().unwrap();
    let mut head = events.head().unwrap();
    let more = retention::remove(&events, &subscriptions, &mut head, keep, 1 << 30).unwrap();
    transaction.commit().unwrap();
    more
}

const NOTHING: retention::Keep = retention::Keep { since: i64::MAX, bytes: 0 };

#[tokio::test]
async fn it_keeps_the_promises_of_an_event_log() {
    let root = tempfile::tempdir().unwrap();
    let logs = AtomicI64::new(0);
    let fresh = |messages: Vec<NewMessage>| async {
        let dir = root.path().join(logs.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&dir).unwrap();
        let log = open(&dir);
        log.publish(messages).await.into_iter().for_each(|outcome| drop(outcome.unwrap()));
        log
    };
    conforms(fresh, Abilities::ALL).await;
}

#[tokio::test]
async fn after_a_restart_everything_unacknowledged_comes_again_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    publish(&log, (0..6).map(|n| n.to_string())).await;
    let messages = pull(&log).await;
    log.acknowledge(&[messages[1].lease, messages[4].lease]).await.unwrap();
    drop(log);
    let log = open(dir.path());
    assert_eq!(offsets(&pull(&log).await), [1, 3, 4, 6]);
}

#[tokio::test]
async fn a_message_id_names_log_generation_and_offset_and_is_the_one_that_publish_returns() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let published = publish(&log, (0..3).map(|n| n.to_string())).await;
    let id = Events::open(&dir.path().join("log.db")).unwrap().id.cast_unsigned();
    let expected = (1..=3).map(|offset| format!("{:012x}.1-{offset}", id & ((1 << 48) - 1)));
    assert_eq!(published, expected.collect::<Vec<_>>());
    let pulled: Vec<_> = pull(&log).await.into_iter().map(|message| message.id).collect();
    assert_eq!(pulled, published);
    assert!(pulled.iter().all(|id| !id.is_heap_allocated()), "{pulled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn publishers_side_by_side_lose_nothing_and_leave_no_offset_out() {
    let dir = tempfile::tempdir().unwrap();
    let reader = open(dir.path());
    let publishers = (0..2).map(|publisher| {
        let log = open(dir.path());
        tokio::spawn(async move {
            for batch in 0..20 {
                publish(&log, (0..25).map(|n| format!("{publisher} {batch} {n}"))).await;
            }
        })
    });
    let publishers: Vec<_> = publishers.collect();
    let mut messages = Vec::new();
    while messages.len() < 1_000 {
        match reader.pull(ROOM, PATIENCE).await.unwrap() {
            Pulled::Messages(more) => messages.extend(more),
            nothing => panic!("{nothing:?} after {} messages", messages.len()),
        }
    }
    assert_eq!(offsets(&messages), (1..=1_000).collect::<Vec<_>>());
    assert!(messages.is_sorted_by_key(|message| message.publish_time));
    for publisher in publishers {
        publisher.await.unwrap();
    }
}

#[tokio::test]
async fn a_publisher_leaves_no_subscription_behind() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    publish(&log, ["one".to_owned()]).await;
    let subscriptions = subscription::open(&dir.path().join("subscriptions.db")).unwrap();
    let id = Events::open(&dir.path().join("log.db")).unwrap().id;
    assert!(subscription::all_acknowledged(&subscriptions, id).unwrap().is_empty());
    assert!(!retain(dir.path(), NOTHING), "messages without a subscription are kept");
    assert_eq!(offsets(&pull(&log).await), [1]);
}

#[tokio::test]
async fn publish_times_do_not_advance_while_the_clock_is_behind() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(1_000));
    let log = open_with(dir.path(), options(), &now);
    for time in [1_000, 400, 1_200] {
        now.store(time, Ordering::Relaxed);
        publish(&log, [time.to_string()]).await;
    }
    let times: Vec<_> = pull(&log).await.iter().map(|it| it.publish_time.micros()).collect();
    assert_eq!(times, [1_000, 1_000, 1_200]);
}

#[tokio::test]
async fn a_seek_by_another_process_reaches_the_one_that_pulls() {
    let dir = tempfile::tempdir().unwrap();
    let (daemon, command) = (open(dir.path()), open(dir.path()));
    publish(&daemon, (0..4).map(|n| n.to_string())).await;
    let messages = pull(&daemon).await;
    daemon.acknowledge(&leases(&messages[..2])).await.unwrap();
    let sought = command.seek(messages[0].publish_time).await.unwrap();
    assert_eq!(sought.messages, Some(4));
    daemon.acknowledge(&leases(&messages[2..])).await.unwrap();
    assert_eq!(offsets(&pull(&daemon).await), [1, 2, 3, 4], "in flight or acknowledged, all again");
}

#[tokio::test]
async fn a_seek_into_the_future_skips_earlier_messages() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(1_000));
    let log = open_with(dir.path(), options(), &now);
    log.seek(Timestamp::from_micros(2_000)).await.unwrap();
    publish(&log, ["early".to_owned()]).await;
    drop(log);
    let log = open_with(dir.path(), options(), &now);
    assert!(pull(&log).await.is_empty());
    now.store(2_000, Ordering::Relaxed);
    publish(&log, ["in time".to_owned()]).await;
    assert_eq!(offsets(&pull(&log).await), [2]);
    assert_eq!(log.backlog().await.unwrap().messages, Some(1));
}

#[tokio::test]
async fn retention_removes_only_acknowledged_messages_and_a_seek_to_them_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(0));
    let log = open_with(dir.path(), options(), &now);
    for time in 1..=5 {
        now.store(time * 1_000_000, Ordering::Relaxed);
        publish(&log, [time.to_string()]).await;
    }
    let messages = pull(&log).await;
    // The first is stuck.
    log.acknowledge(&leases(&messages[1..3])).await.unwrap();
    retain(dir.path(), NOTHING);
    let refused = log.seek(messages[2].publish_time).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "events published up to 1970-01-01T00:00:03.000000Z are removed from the log; \
         the oldest still there is of 1970-01-01T00:00:04.000000Z"
    );
    log.give_back(&leases(&messages)).await.unwrap();
    assert_eq!(offsets(&pull(&log).await), [1, 4, 5]);
    assert_eq!(log.seek(messages[3].publish_time).await.unwrap().messages, Some(2));
    assert_eq!(offsets(&pull(&log).await), [4, 5]);
}

#[tokio::test]
async fn offsets_never_come_again_even_when_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    publish(&log, (0..3).map(|n| n.to_string())).await;
    log.acknowledge(&leases(&pull(&log).await)).await.unwrap();
    retain(dir.path(), NOTHING);
    drop(log);
    let log = open(dir.path());
    assert_eq!(offset_in(&publish(&log, ["next".to_owned()]).await[0]), 4);
    assert_eq!(offsets(&pull(&log).await), [4]);
}

#[tokio::test]
async fn a_log_full_of_unacknowledged_events_refuses_more_until_some_are_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let full = LogOptions { max_bytes: 10_000, ..options() };
    let log = EmbeddedLog::open(dir.path(), full).unwrap();
    let message = || vec![NewMessage::from_payload(vec![b'x'; 1_000])];
    let mut taken = 0;
    while log.publish(message()).await[0].is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 10);
    assert!(matches!(log.publish(message()).await[0], Err(PublishError::Full(_))));
    let messages = pull(&log).await;
    log.acknowledge(&leases(&messages[..5])).await.unwrap();
    for _ in 0..5 {
        log.publish(message()).await.remove(0).unwrap();
    }
    assert!(matches!(log.publish(message()).await[0], Err(PublishError::Full(_))));
    log.give_back(&leases(&messages)).await.unwrap();
    assert_eq!(offsets(&pull(&log).await), (6..=15).collect::<Vec<_>>(), "none was lost");
}

#[tokio::test]
async fn a_message_too_large_is_refused_and_its_neighbours_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let log =
        EmbeddedLog::open(dir.path(), LogOptions { max_event_bytes: 3, ..options() }).unwrap();
    let payloads = ["abc", "abcd", "x"].map(NewMessage::from_payload);
    let outcomes = log.publish(payloads.into()).await;
    assert_eq!(offset_in(outcomes[0].as_ref().unwrap()), 1);
    let Err(PublishError::Refused(text)) = &outcomes[1] else { panic!("{outcomes:?}") };
    assert_eq!(text, "the event has 4 bytes, and at most 3 are taken");
    assert_eq!(offset_in(outcomes[2].as_ref().unwrap()), 2);
}

#[tokio::test]
async fn a_log_that_was_replaced_is_read_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    publish(&log, (0..3).map(|n| n.to_string())).await;
    log.acknowledge(&leases(&pull(&log).await)).await.unwrap();
    drop(log);
    fs::remove_file(dir.path().join("log.db")).unwrap();
    let log = open(dir.path());
    publish(&log, ["new".to_owned()]).await;
    assert_eq!(pull(&log).await[0].payload, "new");
}

#[tokio::test]
async fn a_file_that_is_no_log_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("log.db"), "not a database at all, but long enough to look").unwrap();
    let error = EmbeddedLog::open(dir.path(), options()).unwrap_err().to_string();
    assert!(error.contains("log.db: file is not a database"), "{error}");
    let missing = dir.path().join("missing");
    let error = EmbeddedLog::open(&missing, options()).unwrap_err().to_string();
    assert!(error.contains("missing/log.db"), "{error}");
}

#[tokio::test]
async fn asking_for_the_acknowledged_time_creates_no_subscription() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = open(dir.path());
    assert_eq!(open(dir.path()).acknowledged().await.unwrap(), Acknowledged::All);
    publish(&daemon, ["1", "2"].map(str::to_owned)).await;
    let auditor = open(dir.path());
    let Acknowledged::Before(first) = auditor.acknowledged().await.unwrap() else { panic!() };
    let subscriptions = rusqlite::Connection::open(dir.path().join("subscriptions.db")).unwrap();
    let sql = "SELECT count(*) FROM subscriptions";
    assert_eq!(subscriptions.query_row(sql, (), |row| row.get::<_, i64>(0)).unwrap(), 0);
    let messages = pull(&daemon).await;
    assert_eq!(first, messages[0].publish_time);
    // What another process does is seen.
    daemon.acknowledge(&leases(&messages)).await.unwrap();
    assert_eq!(auditor.acknowledged().await.unwrap(), Acknowledged::All);
    daemon.seek(messages[1].publish_time).await.unwrap();
    let waits = Acknowledged::Before(messages[1].publish_time);
    assert_eq!(auditor.acknowledged().await.unwrap(), waits);
}

#[tokio::test]
async fn nothing_is_published_into_or_acknowledged_for_a_log_that_was_removed() {
    for (file, replaced) in [("log.db", false), ("log.db", true), ("log.db-wal", false)] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path());
        publish(&log, ["one".to_owned()]).await;
        let messages = pull(&log).await;
        fs::rename(dir.path().join(file), dir.path().join("moved")).unwrap();
        if replaced {
            fs::copy(dir.path().join("moved"), dir.path().join(file)).unwrap();
        }
        let outcomes = log.publish(vec![NewMessage::from_payload("two")]).await;
        let Err(PublishError::Unavailable(text)) = &outcomes[0] else { panic!("{outcomes:?}") };
        assert!(text.contains(&format!("{file} was removed or replaced")), "{text}");
        let refused = log.acknowledge(&leases(&messages)).await.unwrap_err().to_string();
        assert!(refused.contains("was removed or replaced"), "{refused}");
        assert!(log.seek(Timestamp::now()).await.is_err());
        fs::rename(dir.path().join("moved"), dir.path().join(file)).unwrap();
        log.acknowledge(&leases(&messages)).await.unwrap();
        publish(&log, ["three".to_owned()]).await;
    }
}
