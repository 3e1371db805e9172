//! The end of a range of a Pub/Sub log: proved by a snapshot's expiry where the service makes one.

use std::collections::BTreeSet;
use std::sync::Arc;

use kappa_actors::replay::{EndedBy, Ending, LogRange, ReplayRange};
use kappa_actors::time::Timestamp;

use super::*;

/// As a replay of Pub/Sub ends, in a fraction of the time.
const ENDING: Ending = Ending {
    quiet: Duration::from_millis(400),
    straggling: Duration::from_millis(200),
    ask_every: Duration::from_millis(50),
    later_ends: true,
    refuted: Duration::from_secs(60),
};
const SHORT: Duration = Duration::from_millis(50);

/// A server with 20 messages, and the range that holds them and ends now.
async fn with_range() -> (PubSubServer, ReplayRange) {
    let server = start().await;
    let from = Timestamp::from_micros(Timestamp::now().micros() - 1_000_000);
    store(&server, 20);
    let to = Timestamp::now().after(Duration::from_millis(1));
    (server, ReplayRange { from, to })
}

async fn range_of(server: &PubSubServer, range: ReplayRange) -> LogRange {
    LogRange::new(Arc::new(with_rest(server).await), range, ENDING)
}

/// Pulls and acknowledges once; adds the messages' ids. Returns whether the range has ended.
async fn step(log: &LogRange, ids: &mut BTreeSet<String>) -> bool {
    match log.pull(AMPLE, SHORT).await.unwrap() {
        Pulled::Messages(messages) => {
            log.acknowledge(&leases(&messages)).await.unwrap();
            ids.extend(messages.into_iter().map(|message| message.id.to_string()));
            false
        }
        Pulled::Quiet => false,
        Pulled::End => true,
    }
}

/// Reads to the end of the range.
async fn replay(log: &LogRange, ids: &mut BTreeSet<String>) {
    let all = async { while !step(log, ids).await {} };
    tokio::time::timeout(PATIENCE, all).await.expect("the range does not end");
}

#[tokio::test]
async fn a_range_ends_by_proof_with_every_message_replayed() {
    let (server, range) = with_range().await;
    let (log, mut ids) = (range_of(&server, range).await, BTreeSet::new());
    replay(&log, &mut ids).await;
    assert_eq!((ids.len(), log.progress().ended_by), (20, Some(EndedBy::Proof)));
    assert_eq!(server.control().snapshots(), 0, "no snapshot is left behind");
}

#[tokio::test]
async fn a_message_that_is_delivered_late_is_not_missed() {
    let (server, range) = with_range().await;
    // Another client has one message on loan, and takes no second one.
    let other = PubSubOptions { max_outstanding_messages: 1, ..options(&server) };
    let other = PubSubLog::connect(other).await.unwrap();
    let held = leases(&pull(&other, 1).await);
    let (log, mut ids) = (range_of(&server, range).await, BTreeSet::new());
    // An event after the range is no end either while the service answers.
    server.control().move_clock(60_000);
    store(&server, 1);
    let waits = tokio::time::Instant::now() + 3 * (ENDING.quiet + ENDING.straggling);
    while ids.len() < 19 || tokio::time::Instant::now() < waits {
        assert!(!step(&log, &mut ids).await, "ended by {:?}", log.progress().ended_by);
    }
    assert_eq!(ids.len(), 19);
    other.give_back(&held).await.unwrap();
    other.close().await;
    replay(&log, &mut ids).await;
    assert_eq!((ids.len(), log.progress().ended_by), (20, Some(EndedBy::Proof)));
}

#[tokio::test]
async fn a_range_without_proof_reports_how_its_end_was_decided() {
    for (later, ended_by) in [(0, EndedBy::Quiet), (1, EndedBy::LaterEvent)] {
        let (server, range) = with_range().await;
        server.control().deny("pubsub.snapshots.create");
        server.control().move_clock(60_000);
        store(&server, later);
        let (log, mut ids) = (range_of(&server, range).await, BTreeSet::new());
        replay(&log, &mut ids).await;
        assert_eq!((ids.len(), log.progress().ended_by), (20, Some(ended_by)));
    }
}
