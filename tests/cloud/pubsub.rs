//! Pub/Sub as the event log.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at the first surprise")]

mod rest;
pub(crate) mod server;

use std::time::Duration;

use google_cloud_auth::credentials::anonymous;
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::PubsubMessage;
use kappa::backend::pubsub::{PubSubLog, PubSubOptions};
use kappa_actors::message::{Lease, Message, NewMessage};
use kappa_actors::port::{EventLog, LogError, PublishError, Pulled, Room};
use kappa_actors::testing::event_log::{Abilities, conforms};
use server::{Books, Server};
use tonic::Status;

const AMPLE: Room = Room { messages: 1_000, bytes: 1 << 30 };
const PATIENCE: Duration = Duration::from_secs(15);

fn options(server: &Server) -> PubSubOptions {
    PubSubOptions {
        project: "local".into(),
        topic: "events".into(),
        subscription: "kappa".into(),
        endpoint: Some(server.endpoint.clone()),
        admin_endpoint: None,
        credentials: anonymous::Builder::new().build(),
        streams: 1,
        max_outstanding_messages: 1_000,
        max_outstanding_bytes: 64 << 20,
        max_lease: Duration::from_secs(3_600),
        ordering: false,
        max_event_bytes: 1 << 20,
    }
}

async fn log(server: &Server) -> PubSubLog {
    PubSubLog::connect(options(server)).await.unwrap()
}

fn store(server: &Server, count: usize) {
    for number in 0..count {
        let data = format!("{number:04}").into_bytes();
        server.store(PubsubMessage { data, ..Default::default() });
    }
}

async fn pull(log: &PubSubLog, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    while messages.len() < count {
        match log.pull(AMPLE, PATIENCE).await.unwrap() {
            Pulled::Messages(more) => messages.extend(more),
            end => panic!("{end:?} after {} of {count}", messages.len()),
        }
    }
    messages
}

fn leases(messages: &[Message]) -> Vec<Lease> {
    messages.iter().map(|message| message.lease).collect()
}

/// Waits until the server's books say so.
async fn until(server: &Server, what: &str, holds: impl Fn(&Books) -> bool) {
    let probe = async {
        while !holds(&server.books.lock().unwrap()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, probe).await.is_ok(), "not in time: {what}");
}

/// Pulls until the log answers with an error, and gives its words.
async fn trouble(log: &PubSubLog) -> String {
    let probe = async {
        loop {
            match log.pull(AMPLE, Duration::from_millis(50)).await {
                Err(LogError::Unavailable(words)) => return words,
                other => assert!(matches!(other, Ok(Pulled::Quiet)), "{other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, probe).await.expect("the log told no trouble")
}

#[tokio::test]
async fn it_conforms() {
    let fresh = |messages: Vec<NewMessage>| async {
        let server = Server::start().await;
        for message in messages {
            let data = message.payload.to_vec();
            server.store(PubsubMessage { data, ..Default::default() });
        }
        log(&server).await
    };
    // The suite publishes an empty message, which Pub/Sub refuses; what it promises of publishing
    // is shown below.
    let abilities = Abilities { publish: false, order: false, seek: false, backlog: false };
    conforms(fresh, abilities).await;
}

#[tokio::test]
async fn a_cut_stream_costs_no_message_and_no_acknowledgement() {
    let server = Server::start().await;
    store(&server, 20);
    let log = log(&server).await;
    let before = pull(&log, 20).await;
    server.cut();
    store(&server, 5);
    let after = pull(&log, 5).await;
    log.acknowledge(&leases(&before)).await.unwrap();
    log.acknowledge(&leases(&after)).await.unwrap();
    until(&server, "25 acknowledged", |books| books.acked.len() == 25).await;
}

#[tokio::test]
async fn a_broken_stream_is_told_and_recovers_and_its_leases_still_count() {
    let server = Server::start().await;
    store(&server, 3);
    let log = log(&server).await;
    let held = pull(&log, 3).await;
    let refusal = Status::permission_denied("no");
    server.books.lock().unwrap().refuse_streams = Some(refusal);
    server.cut();
    let words = trouble(&log).await;
    assert!(words.contains("roles/pubsub.subscriber"), "{words}");
    assert!(words.contains("projects/local/subscriptions/kappa"), "{words}");
    assert!(log.backlog().await.is_err());
    log.acknowledge(&leases(&held)).await.unwrap();
    until(&server, "acknowledged while broken", |books| books.acked.len() == 3).await;
    server.books.lock().unwrap().refuse_streams = None;
    store(&server, 1);
    let probe = async {
        loop {
            if let Ok(Pulled::Messages(messages)) = log.pull(AMPLE, PATIENCE).await {
                return messages;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let messages = tokio::time::timeout(PATIENCE, probe).await.unwrap();
    assert_eq!(messages.len(), 1);
}

#[tokio::test]
async fn a_missing_subscription_fails_the_start() {
    let server = Server::start().await;
    server.books.lock().unwrap().refuse_streams = Some(Status::not_found("no"));
    let error = log(&server).await.backlog().await.unwrap_err().to_string();
    assert!(error.contains("kappa setup"), "{error}");
}

#[tokio::test]
async fn nobody_listening_fails_the_start() {
    let mut options = options(&Server::start().await);
    let (listener, address) = kappa_test_servers::grpc::listen().await.unwrap();
    drop(listener);
    options.endpoint = Some(format!("http://{address}"));
    let log = PubSubLog::connect(options).await.unwrap();
    let error = log.backlog().await.unwrap_err().to_string();
    assert!(error.contains("nobody answers"), "{error}");
}

#[tokio::test]
async fn an_empty_subscription_starts() {
    let server = Server::start().await;
    let backlog = log(&server).await.backlog().await.unwrap();
    assert_eq!((backlog.messages, backlog.oldest), (None, None));
}

#[tokio::test]
async fn closing_sends_the_last_acknowledgements_and_gives_back_the_rest() {
    let server = Server::start().await;
    store(&server, 20);
    let log = log(&server).await;
    let room = Room { messages: 4, ..AMPLE };
    let Pulled::Messages(first) = log.pull(room, PATIENCE).await.unwrap() else { panic!() };
    log.acknowledge(&leases(&first)).await.unwrap();
    log.close().await;
    let acked = server.books.lock().unwrap().acked.len();
    assert_eq!(acked, first.len(), "no wait: close has waited");
    // Another reader gets all others at once.
    let other = PubSubLog::connect(options(&server)).await.unwrap();
    assert_eq!(pull(&other, 20 - first.len()).await.len(), 20 - first.len());
}

#[tokio::test]
async fn a_lost_acknowledgement_brings_the_message_again_under_its_id() {
    let server = Server::start().await;
    store(&server, 1);
    let log = log(&server).await;
    let first = pull(&log, 1).await;
    server.books.lock().unwrap().lose_acks = true;
    log.acknowledge(&leases(&first)).await.unwrap();
    server.expire_leases();
    let again = pull(&log, 1).await;
    assert_eq!(again[0].id, first[0].id);
    assert_ne!(again[0].lease, first[0].lease);
}

#[tokio::test]
async fn a_message_redelivered_in_flight_has_a_lease_of_its_own() {
    let server = Server::start().await;
    store(&server, 1);
    let log = log(&server).await;
    let first = pull(&log, 1).await;
    server.expire_leases();
    let again = pull(&log, 1).await;
    assert_eq!(again[0].id, first[0].id);
    log.acknowledge(&[first[0].lease, again[0].lease]).await.unwrap();
    until(&server, "acknowledged once", |books| books.acked.len() == 1).await;
}

#[tokio::test]
async fn what_is_held_is_extended() {
    let server = Server::start().await;
    store(&server, 3);
    let log = log(&server).await;
    let _held = pull(&log, 3).await;
    until(&server, "3 extensions", |books| books.extended >= 3).await;
}

#[tokio::test]
async fn exactly_once_acknowledgements_are_confirmed_before_the_answer() {
    let server = Server::start().await;
    server.books.lock().unwrap().exactly_once = true;
    store(&server, 3);
    let log = log(&server).await;
    let held = pull(&log, 3).await;
    log.acknowledge(&leases(&held)).await.unwrap();
    assert_eq!(server.books.lock().unwrap().acked.len(), 3, "no wait: the answer has waited");
}

#[tokio::test]
async fn a_server_without_flow_control_does_not_get_past_the_account() {
    let server = Server::start().await;
    for _ in 0..2_000 {
        let data = vec![b'x'; 100_000];
        server.store(PubsubMessage { data, ..Default::default() });
    }
    let mut options = options(&server);
    options.max_outstanding_bytes = 1_000_000;
    let log = PubSubLog::connect(options).await.unwrap();
    let held = pull(&log, 9).await;
    let more = log.pull(AMPLE, Duration::from_millis(300)).await.unwrap();
    assert!(matches!(more, Pulled::Quiet), "{more:?}");
    // The account holds 9; the rest is what the connection and one response may hold.
    let sent = server.books.lock().unwrap().sent;
    assert!(sent < 200, "{sent} of 2000 messages left the server");
    log.acknowledge(&leases(&held)).await.unwrap();
    pull(&log, 9).await;
}

#[tokio::test]
async fn a_failed_message_is_reported_and_its_key_goes_on() {
    let server = Server::start().await;
    let mut options = options(&server);
    options.ordering = true;
    let log = PubSubLog::connect(options).await.unwrap();
    let keyed = |payload: &'static str| NewMessage {
        ordering_key: "k".into(),
        ..NewMessage::from_payload(payload)
    };
    let refusal = (b"bad".to_vec(), Status::permission_denied("no"));
    server.books.lock().unwrap().refuse_publish = Some(refusal);
    let outcomes = log.publish(vec![keyed("bad")]).await;
    let [Err(PublishError::Unavailable(words))] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert!(words.contains("roles/pubsub.publisher"), "{words}");
    let outcomes = log.publish(vec![keyed("good")]).await;
    assert!(outcomes[0].is_ok(), "{outcomes:?}");
    assert_eq!(pull(&log, 1).await[0].ordering_key, "k");
}

#[tokio::test]
async fn what_the_service_refuses_takes_no_neighbour_with_it() {
    let server = Server::start().await;
    let log = log(&server).await;
    let refusal = (b"bad".to_vec(), Status::invalid_argument("no"));
    server.books.lock().unwrap().refuse_publish = Some(refusal);
    let messages = ["good", "bad", "fine"].map(NewMessage::from_payload);
    let outcomes = log.publish(messages.into()).await;
    let [Ok(_), Err(PublishError::Refused(_)), Ok(_)] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert_eq!(server.stored(), 2);
}

#[tokio::test]
async fn too_large_is_refused_alone() {
    let server = Server::start().await;
    let large = NewMessage::from_payload(vec![b'x'; (1 << 20) + 1]);
    let outcomes = log(&server).await.publish(vec![large, NewMessage::from_payload("fits")]).await;
    assert!(matches!(outcomes[0], Err(PublishError::Refused(_))), "{outcomes:?}");
    assert!(outcomes[1].is_ok(), "{outcomes:?}");
}

#[tokio::test]
async fn what_is_published_comes_whole_and_an_empty_event_is_refused_alone() {
    let server = Server::start().await;
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
    let server = Server::start().await;
    let log = log(&server).await;
    let publish = log.publish(vec![NewMessage::from_payload("late")]);
    let (messages, outcomes) = futures::future::join(pull(&log, 1), publish).await;
    assert_eq!((messages.len(), outcomes.len()), (1, 1));
}

async fn with_rest(server: &Server) -> PubSubLog {
    let mut options = options(server);
    options.admin_endpoint = Some(rest::start(server.clone()).await);
    PubSubLog::connect(options).await.unwrap()
}

#[tokio::test]
async fn a_seek_waits_for_acknowledgements_and_voids_leases() {
    let server = Server::start().await;
    server.books.lock().unwrap().permitted = true;
    store(&server, 5);
    let log = with_rest(&server).await;
    let before = pull(&log, 5).await;
    log.acknowledge(&leases(&before[..2])).await.unwrap();
    server.books.lock().unwrap().slow_acks = true;
    log.seek(before[0].publish_time).await.unwrap();
    assert_eq!(server.books.lock().unwrap().acked_at_seek, Some(2));
    let after = pull(&log, 5).await;
    log.acknowledge(&leases(&before[2..])).await.unwrap();
    log.close().await;
    assert_eq!(server.books.lock().unwrap().acked.len(), 2, "void leases acknowledge nothing");
    assert!(after.iter().all(|message| !leases(&before).contains(&message.lease)));
}

#[tokio::test]
async fn a_seek_without_permission_is_refused_with_the_role() {
    let server = Server::start().await;
    let log = with_rest(&server).await;
    let refused = log.seek(kappa_actors::time::Timestamp::from_micros(0)).await.unwrap_err();
    assert!(matches!(refused, LogError::Refused(_)), "{refused:?}");
    assert!(refused.to_string().contains("roles/pubsub.subscriber"), "{refused}");
}

#[tokio::test]
async fn a_missing_permission_and_a_missing_subscription_fail_the_start_in_their_words() {
    let server = Server::start().await;
    let log = with_rest(&server).await;
    let error = log.backlog().await.unwrap_err().to_string();
    assert!(error.contains("roles/pubsub.subscriber"), "{error}");
    server.books.lock().unwrap().missing = true;
    let error = log.backlog().await.unwrap_err().to_string();
    assert!(error.contains("kappa setup"), "{error}");
    server.books.lock().unwrap().permitted = true;
    log.backlog().await.unwrap();
}
