//! What publishing promises.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join;

use super::{Abilities, BRIEFLY, assert_are, must, pull_exactly, pull_nothing};
use crate::message::NewMessage;
use crate::port::{EventLog, Pulled, Room};

pub(super) async fn what_is_published_comes_whole(
    log: impl EventLog,
    Abilities { order, empty, .. }: Abilities,
) {
    let mut sent = vec![
        NewMessage {
            payload: Bytes::from_static(b"\x00\xff\xfe\nnot text"),
            attributes: [("name".to_owned(), "\"quoted\" \u{1F980}".to_owned())].into(),
            ordering_key: "kunde-ß".to_owned(),
        },
        NewMessage::from_payload("plain"),
    ];
    if empty {
        sent.push(NewMessage::from_payload(Bytes::new()));
    }
    let ids: Vec<_> = log.publish(sent.clone()).await.into_iter().map(must).collect();
    assert_eq!(ids.len(), sent.len(), "one outcome for each message");
    let messages = pull_exactly(&log, sent.len()).await;
    let expected: Vec<&[u8]> = sent.iter().map(|message| message.payload.as_ref()).collect();
    assert_are(&messages, &expected, order);
    for (sent, id) in sent.iter().zip(&ids) {
        let Some(message) = messages.iter().find(|message| message.id == id.as_str()) else {
            panic!("no message has the id {id}, which publishing answered");
        };
        assert_eq!(message.payload, sent.payload);
        let attributes = (!sent.attributes.is_empty()).then(|| Arc::new(sent.attributes.clone()));
        assert_eq!(message.attributes, attributes);
        assert_eq!(message.ordering_key, sent.ordering_key);
    }
    if order {
        assert!(messages.is_sorted_by_key(|message| message.publish_time), "{messages:?}");
    }
}

pub(super) async fn an_arrival_wakes_a_waiting_pull(log: impl EventLog) {
    let publish = async {
        // The pull is polled first, and waits.
        tokio::task::yield_now().await;
        log.publish(vec![NewMessage::from_payload("late")]).await
    };
    let (messages, outcomes) = join(pull_exactly(&log, 1), publish).await;
    assert_are(&messages, &[b"late"], true);
    outcomes.into_iter().for_each(|outcome| drop(must(outcome)));
}

pub(super) async fn publishing_nothing_does_nothing(log: impl EventLog) {
    assert!(log.publish(Vec::new()).await.is_empty());
    pull_nothing(&log).await;
}

pub(super) async fn an_empty_log_is_quiet(log: impl EventLog) {
    let pulled = must(log.pull(Room { messages: 1, bytes: 1 }, BRIEFLY).await);
    assert!(matches!(pulled, Pulled::Quiet), "{pulled:?}");
}
