//! Pub/Sub as the event log.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at the first surprise")]

mod acknowledged;
mod leases;
mod publishing;
mod range_end;
mod trouble;
mod wire;

use std::time::Duration;

use google_cloud_auth::credentials::anonymous;
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::PubsubMessage;
use kappa::backend::pubsub::{PubSubLog, PubSubOptions};
use kappa_actors::message::{Lease, Message, NewMessage};
use kappa_actors::port::{EventLog, LogError, PublishError, Pulled, Room};
use kappa_actors::testing::event_log::{Abilities, conforms};
use kappa_test_servers::pubsub::{Control, PubSubServer};
use serde_json::json;
use tonic::Status;

const TOPIC: &str = "projects/local/topics/events";
const SUBSCRIPTION: &str = "projects/local/subscriptions/kappa";
const CONSUME: &str = "pubsub.subscriptions.consume";
const AMPLE: Room = Room { messages: 1_000, bytes: 1 << 30 };
const PATIENCE: Duration = Duration::from_secs(15);

/// A server with the topic and the subscription of [`options`].
async fn start() -> PubSubServer {
    let server = PubSubServer::start().await.unwrap();
    server.control().create(TOPIC, SUBSCRIPTION, &json!({}));
    server
}

fn options(server: &PubSubServer) -> PubSubOptions {
    PubSubOptions {
        project: "local".into(),
        topic: "events".into(),
        subscription: "kappa".into(),
        endpoint: Some(server.grpc_endpoint()),
        admin_endpoint: None,
        credentials: anonymous::Builder::new().build(),
        streams: 1,
        max_outstanding_messages: 1_000,
        max_outstanding_bytes: 64 << 20,
        max_lease: Duration::from_secs(3_600),
        ordering: false,
        max_event_bytes: 1 << 20,
        silence: Duration::from_secs(30),
    }
}

async fn log(server: &PubSubServer) -> PubSubLog {
    PubSubLog::connect(options(server)).await.unwrap()
}

fn store(server: &PubSubServer, count: usize) {
    let data = (0..count).map(|number| format!("{number:04}").into_bytes());
    let messages = data.map(|data| PubsubMessage { data, ..Default::default() });
    server.control().store(TOPIC, messages);
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
async fn until(server: &PubSubServer, what: &str, holds: impl Fn(&Control) -> bool) {
    let probe = async {
        while !holds(&server.control()) {
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

/// Pulls until a log that was in trouble answers with messages.
async fn recovered(log: &PubSubLog) -> Vec<Message> {
    let probe = async {
        loop {
            if let Ok(Pulled::Messages(messages)) = log.pull(AMPLE, PATIENCE).await {
                return messages;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, probe).await.expect("the log does not recover")
}

/// A log whose administration is served too.
async fn with_rest(server: &PubSubServer) -> PubSubLog {
    let mut options = options(server);
    options.admin_endpoint = Some(server.rest_endpoint());
    PubSubLog::connect(options).await.unwrap()
}

#[tokio::test]
async fn it_conforms() {
    // They end with the last log.
    let servers = std::sync::Mutex::new(Vec::new());
    let fresh = |messages: Vec<NewMessage>| async {
        let server = start().await;
        let data = messages.into_iter().map(|message| message.payload.to_vec());
        let messages = data.map(|data| PubsubMessage { data, ..Default::default() });
        server.control().store(TOPIC, messages);
        let mut options = options(&server);
        (options.ordering, options.admin_endpoint) = (true, Some(server.rest_endpoint()));
        servers.lock().unwrap().push(server);
        PubSubLog::connect(options).await.unwrap()
    };
    let abilities =
        Abilities { publish: true, empty: false, order: false, seek: true, backlog: false };
    conforms(fresh, abilities).await;
}

#[tokio::test]
async fn a_cut_stream_costs_no_message_and_no_acknowledgement() {
    let server = start().await;
    store(&server, 20);
    let log = log(&server).await;
    let before = pull(&log, 20).await;
    server.control().cut_streams();
    store(&server, 5);
    let after = pull(&log, 5).await;
    log.acknowledge(&leases(&before)).await.unwrap();
    log.acknowledge(&leases(&after)).await.unwrap();
    until(&server, "25 acknowledged", |control| control.acknowledged_count() == 25).await;
}

#[tokio::test]
async fn a_reader_that_dies_takes_no_stream_and_no_acknowledgement_with_it() {
    let server = start().await;
    store(&server, 20);
    let log = log(&server).await;
    let held = pull(&log, 20).await;
    let waiting = log.pull(AMPLE, PATIENCE);
    assert!(tokio::time::timeout(Duration::from_millis(50), waiting).await.is_err());
    assert_eq!(server.control().open_streams(), 1);
    log.acknowledge(&leases(&held)).await.unwrap();
    until(&server, "20 acknowledged", |control| control.acknowledged_count() == 20).await;
    // The next life reads on, and nothing comes again.
    store(&server, 5);
    pull(&log, 5).await;
    assert_eq!(server.control().sent(), 25);
}

#[tokio::test]
async fn an_empty_subscription_starts() {
    let server = start().await;
    let backlog = log(&server).await.backlog().await.unwrap();
    assert_eq!((backlog.messages, backlog.oldest), (None, None));
}

#[tokio::test]
async fn a_subscription_is_not_called_quiet_before_its_streams_have_opened() {
    let server = start().await;
    store(&server, 1);
    let pulled = log(&server).await.pull(AMPLE, Duration::ZERO).await.unwrap();
    assert!(matches!(pulled, Pulled::Messages(_)), "{pulled:?}");
}

#[tokio::test]
async fn closing_sends_the_last_acknowledgements_and_gives_back_the_rest() {
    let server = start().await;
    store(&server, 20);
    let log = log(&server).await;
    let room = Room { messages: 4, ..AMPLE };
    let Pulled::Messages(first) = log.pull(room, PATIENCE).await.unwrap() else { panic!() };
    log.acknowledge(&leases(&first)).await.unwrap();
    log.close().await;
    let acked = server.control().acknowledged_count();
    assert_eq!(acked, first.len(), "no wait: close has waited");
    // Another reader gets all others at once.
    let other = PubSubLog::connect(options(&server)).await.unwrap();
    assert_eq!(pull(&other, 20 - first.len()).await.len(), 20 - first.len());
}

#[tokio::test]
async fn a_server_without_flow_control_does_not_get_past_the_account() {
    let server = start().await;
    let message = PubsubMessage { data: vec![b'x'; 100_000], ..Default::default() };
    server.control().store(TOPIC, std::iter::repeat_n(message, 2_000));
    let mut options = options(&server);
    options.max_outstanding_bytes = 1_000_000;
    let log = PubSubLog::connect(options).await.unwrap();
    let held = pull(&log, 9).await;
    let more = log.pull(AMPLE, Duration::from_millis(300)).await.unwrap();
    assert!(matches!(more, Pulled::Quiet), "{more:?}");
    // The account holds 9; the rest is what the connection and one response may hold.
    let sent = server.control().sent();
    assert!(sent < 200, "{sent} of 2000 messages left the server");
    log.acknowledge(&leases(&held)).await.unwrap();
    pull(&log, 9).await;
}

#[tokio::test]
async fn several_streams_share_one_account() {
    let server = start().await;
    store(&server, 200);
    let mut options = options(&server);
    (options.streams, options.max_outstanding_messages) = (3, 30);
    let log = PubSubLog::connect(options).await.unwrap();
    let mut ids = std::collections::BTreeSet::new();
    // Each stream may hold a place for the message it waits for.
    let mut held = pull(&log, 20).await;
    assert_eq!(server.control().open_streams(), 3);
    assert!(server.control().on_loan() <= 30, "{}", server.control().on_loan());
    server.control().cut_streams();
    loop {
        ids.extend(held.iter().map(|message| message.id.clone()));
        log.acknowledge(&leases(&held)).await.unwrap();
        if ids.len() == 200 {
            break;
        }
        held = pull(&log, 1).await;
    }
    until(&server, "all acknowledged", |control| control.acknowledged_count() == 200).await;
}

#[tokio::test]
async fn a_message_larger_than_the_account_comes_alone() {
    let server = start().await;
    let message = PubsubMessage { data: vec![b'x'; 100_000], ..Default::default() };
    server.control().store(TOPIC, std::iter::repeat_n(message, 5));
    let mut options = options(&server);
    options.max_outstanding_bytes = 1_000;
    let log = PubSubLog::connect(options).await.unwrap();
    for _ in 0..5 {
        let held = pull(&log, 1).await;
        assert_eq!(held.len(), 1);
        log.acknowledge(&leases(&held)).await.unwrap();
    }
    until(&server, "all acknowledged", |control| control.acknowledged_count() == 5).await;
}
