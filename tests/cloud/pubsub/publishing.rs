//! Publishing: each message has its own outcome.

use super::*;

#[tokio::test]
async fn a_failed_message_is_reported_and_its_key_goes_on() {
    let server = start().await;
    let mut options = options(&server);
    options.ordering = true;
    let log = PubSubLog::connect(options).await.unwrap();
    let keyed = |payload: &'static str| NewMessage {
        ordering_key: "k".into(),
        ..NewMessage::from_payload(payload)
    };
    let refusal = Some(Status::permission_denied("no"));
    server.control().refuse_publish(Some(b"bad"), refusal);
    let outcomes = log.publish(vec![keyed("bad")]).await;
    let [Err(PublishError::Unavailable(words))] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert!(words.contains("roles/pubsub.publisher"), "{words}");
    let outcomes = log.publish(vec![keyed("good")]).await;
    assert!(outcomes[0].is_ok(), "{outcomes:?}");
    assert_eq!(pull(&log, 1).await[0].ordering_key, "k");
}

#[tokio::test]
async fn a_refused_message_does_not_fail_its_neighbours() {
    let server = start().await;
    let log = log(&server).await;
    let refusal = Some(Status::invalid_argument("no"));
    server.control().refuse_publish(Some(b"bad"), refusal);
    let messages = ["good", "bad", "fine"].map(NewMessage::from_payload);
    let outcomes = log.publish(messages.into()).await;
    let [Ok(_), Err(PublishError::Refused(_)), Ok(_)] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert_eq!(server.control().published(), 2);
}

#[tokio::test]
async fn too_large_is_refused_alone() {
    let server = start().await;
    let large = NewMessage::from_payload(vec![b'x'; (1 << 20) + 1]);
    let outcomes = log(&server).await.publish(vec![large, NewMessage::from_payload("fits")]).await;
    assert!(matches!(outcomes[0], Err(PublishError::Refused(_))), "{outcomes:?}");
    assert!(outcomes[1].is_ok(), "{outcomes:?}");
}

#[tokio::test]
async fn messages_arrive_whole_and_an_empty_event_is_refused_alone() {
    let server = start().await;
    let mut options = options(&server);
    options.ordering = true;
    let log = PubSubLog::connect(options).await.unwrap();
    let sent = NewMessage {
        payload: b"\x00\xff\nnot text".as_slice().into(),
        attributes: [("name".to_owned(), "\u{1F980}".to_owned())].into(),
        ordering_key: "kunde-ß".into(),
    };
    let outcomes = log.publish(vec![NewMessage::from_payload(""), sent.clone()]).await;
    assert!(matches!(outcomes[0], Err(PublishError::Refused(_))), "{outcomes:?}");
    let messages = pull(&log, 1).await;
    assert_eq!(messages[0].id, outcomes[1].as_ref().unwrap().as_str());
    assert_eq!(messages[0].payload, sent.payload);
    assert_eq!(messages[0].attributes.as_deref(), Some(&sent.attributes));
    assert_eq!(messages[0].ordering_key, sent.ordering_key);
}

#[tokio::test]
async fn a_waiting_pull_is_woken_by_an_arrival() {
    let server = start().await;
    let log = log(&server).await;
    let publish = log.publish(vec![NewMessage::from_payload("late")]);
    let (messages, outcomes) = futures::future::join(pull(&log, 1), publish).await;
    assert_eq!((messages.len(), outcomes.len()), (1, 1));
}
