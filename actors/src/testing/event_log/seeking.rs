//! The promises of a seek.

use std::time::Duration;

use super::{assert_are, leases, must, payloads, pull_exactly, pull_nothing};
use crate::message::NewMessage;
use crate::port::EventLog;
use crate::time::Timestamp;

pub(super) async fn a_seek_back_brings_all_again(log: impl EventLog, order: bool) {
    let messages = pull_exactly(&log, 10).await;
    must(log.acknowledge(&leases(&messages[..8])).await);
    let sought = must(log.seek(messages[0].publish_time).await);
    assert!(sought.messages.is_none_or(|count| count == 10), "{sought:?}");
    let again = pull_exactly(&log, 10).await;
    assert_are(&again, &payloads(&messages), order);
    pull_nothing(&log).await;
}

pub(super) async fn a_seek_voids_leases(log: impl EventLog) {
    let messages = pull_exactly(&log, 10).await;
    must(log.seek(messages[0].publish_time).await);
    must(log.acknowledge(&leases(&messages)).await);
    let again = pull_exactly(&log, 10).await;
    must(log.give_back(&leases(&messages)).await);
    pull_nothing(&log).await;
    must(log.acknowledge(&leases(&again)).await);
    pull_nothing(&log).await;
}

pub(super) async fn a_seek_forward_skips(log: impl EventLog) {
    let future = Timestamp::now().after(Duration::from_secs(3_600));
    let sought = must(log.seek(future).await);
    assert!(sought.messages.is_none_or(|count| count == 0), "{sought:?}");
    pull_nothing(&log).await;
    // Messages that arrive before that time are passed over too.
    log.publish(vec![NewMessage::from_payload("early")])
        .await
        .into_iter()
        .for_each(|outcome| drop(must(outcome)));
    pull_nothing(&log).await;
    let backlog = must(log.backlog().await);
    assert!(backlog.messages.is_none_or(|count| count == 0), "{backlog:?}");
}
