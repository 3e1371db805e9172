//! Subscriptions that are no longer used.

use super::*;

const MAX_AGE: Duration = Duration::from_secs(3_600);
/// A log of this size is full after two events of [`EVENT`] bytes.
const MAX_BYTES: u64 = 20_000;
const EVENT: usize = 12_000;

fn options(subscription: &str) -> LogOptions {
    LogOptions {
        max_in_flight: 1_000,
        subscription: subscription.to_owned(),
        max_age: MAX_AGE,
        max_bytes: MAX_BYTES,
        ..super::options()
    }
}

fn event() -> Vec<NewMessage> {
    vec![NewMessage::from_payload("x".repeat(EVENT))]
}

fn names(dir: &Path) -> Vec<String> {
    crate::backend::embedded::log::subscriptions(dir)
        .unwrap()
        .into_iter()
        .map(|holding| holding.name)
        .collect()
}

/// Moves the clock.
fn pass(now: &AtomicI64, time: Duration) {
    now.fetch_add(time.as_micros() as i64, Ordering::Relaxed);
}

async fn acknowledge_all(log: &EmbeddedLog) {
    let messages = pull(log).await;
    log.acknowledge(&leases(&messages)).await.unwrap();
}

#[tokio::test]
async fn a_full_log_removes_a_subscription_that_was_not_used_for_max_age() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(1_771_338_600_000_000));
    let former = open_with(dir.path(), options("former"), &now);
    pull(&former).await;
    drop(former);
    let log = open_with(dir.path(), options("present"), &now);
    for _ in 0..2 {
        log.publish(event()).await.remove(0).unwrap();
        acknowledge_all(&log).await;
    }
    let refused = log.publish(event()).await.remove(0).unwrap_err();
    let PublishError::Full(text) = &refused else { panic!("{refused:?}") };
    assert!(text.contains("former holds 2 events"), "{text}");
    assert!(!text.contains("present holds"), "{text}");
    pass(&now, MAX_AGE);
    acknowledge_all(&log).await;
    log.publish(event()).await.remove(0).unwrap();
    assert_eq!(names(dir.path()), ["present"]);
    assert_eq!(pull(&log).await.len(), 1, "the event that was just published is there");
}

#[tokio::test]
async fn a_full_log_keeps_the_subscription_that_was_used_last_however_long_ago() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(1_771_338_600_000_000));
    let log = open_with(dir.path(), options("kappa"), &now);
    pull(&log).await;
    for _ in 0..2 {
        log.publish(event()).await.remove(0).unwrap();
    }
    pass(&now, MAX_AGE * 100);
    assert!(matches!(log.publish(event()).await[0], Err(PublishError::Full(_))));
    assert_eq!(names(dir.path()), ["kappa"]);
    assert_eq!(offsets(&pull(&log).await), [1, 2]);
}

#[tokio::test]
async fn a_subscription_that_only_waits_for_events_counts_as_used() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(1_771_338_600_000_000));
    let waiting = open_with(dir.path(), options("waiting"), &now);
    pull(&waiting).await;
    for _ in 0..5 {
        pass(&now, MAX_AGE / 2);
        pull(&waiting).await;
    }
    // The last use is that of another subscription, so only its own protects the waiting one.
    let log = open_with(dir.path(), options("present"), &now);
    pull(&log).await;
    for _ in 0..2 {
        log.publish(event()).await.remove(0).unwrap();
        acknowledge_all(&log).await;
    }
    assert!(matches!(log.publish(event()).await[0], Err(PublishError::Full(_))));
    assert_eq!(offsets(&pull(&waiting).await), [1, 2]);
}

#[tokio::test]
async fn with_max_unused_an_unused_subscription_is_removed_though_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(1_771_338_600_000_000));
    let options = |name| LogOptions {
        max_bytes: 1 << 30,
        max_unused: Some(Duration::from_secs(86_400)),
        ..options(name)
    };
    let former = open_with(dir.path(), options("former"), &now);
    pull(&former).await;
    drop(former);
    pass(&now, Duration::from_secs(80_000));
    let log = open_with(dir.path(), options("present"), &now);
    pull(&log).await;
    assert_eq!(names(dir.path()), ["former", "present"]);
    pass(&now, Duration::from_secs(86_400));
    // Retention looks each second. Both are unused by now; the one that was used last stays.
    let patience = std::time::Instant::now() + PATIENCE;
    while names(dir.path()) != ["present"] {
        assert!(std::time::Instant::now() < patience, "{:?}", names(dir.path()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
