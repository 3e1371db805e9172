//! Logs left without a clean stop.

use std::time::{Duration, Instant};

use super::*;

/// Pulls without a wait, and leaves the log as a kill does.
async fn pull_and_die(dir: &Path) -> Vec<Option<u32>> {
    let log = EmbeddedLog::open(dir, options()).unwrap();
    pull(&log).await.iter().map(|message| message.suspect).collect()
}

#[tokio::test]
async fn an_event_that_was_alone_at_a_kill_comes_later_and_the_log_is_not_quiet_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    publish(&EmbeddedLog::open(dir.path(), options()).unwrap(), ["a".to_owned()]).await;
    assert_eq!(pull_and_die(dir.path()).await, [None]);
    // In a large batch, a small one, and alone.
    for _ in 0..3 {
        assert_eq!(pull_and_die(dir.path()).await, [Some(0)]);
    }
    let begin = Instant::now();
    assert_eq!(pull_and_die(dir.path()).await, [Some(1)]);
    assert!(begin.elapsed() >= Duration::from_secs(1), "it was tried after {:?}", begin.elapsed());
}

#[tokio::test]
async fn after_a_clean_stop_no_event_is_suspect() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), options()).unwrap();
    publish(&log, ["a".to_owned()]).await;
    assert_eq!(pull(&log).await.len(), 1);
    log.close().await;
    drop(log);
    assert_eq!(pull_and_die(dir.path()).await, [None]);
}
