//! Pub/Sub, on Google's own fake.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use google_cloud_auth::credentials::anonymous;
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1 as pb;
use kappa::backend::pubsub::{PubSubLog, PubSubOptions};
use kappa_actors::message::{Message, NewMessage};
use kappa_actors::port::{EventLog, Pulled, Room};
use kappa_actors::testing::event_log::{Abilities, conforms};
use pb::publisher_client::PublisherClient;
use pb::subscriber_client::SubscriberClient;
use tonic::transport::{Channel, Endpoint};

const AMPLE: Room = Room { messages: 1_000, bytes: 1 << 30 };
const PATIENCE: Duration = Duration::from_secs(20);

/// A topic and a subscription of their own, by their number.
struct Names(usize);

impl Names {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    fn topic(&self) -> String {
        format!("projects/local/topics/t{}", self.0)
    }

    fn subscription(&self) -> String {
        format!("projects/local/subscriptions/s{}", self.0)
    }

    fn options(&self) -> PubSubOptions {
        PubSubOptions {
            project: "local".into(),
            topic: self.topic(),
            subscription: self.subscription(),
            endpoint: Some(address()),
            admin_endpoint: None,
            credentials: anonymous::Builder::new().build(),
            streams: 1,
            max_outstanding_messages: 1_000,
            max_outstanding_bytes: 64 << 20,
            max_lease: Duration::from_secs(3_600),
            ordering: true,
            max_event_bytes: 1 << 20,
            silence: Duration::from_secs(30),
        }
    }
}

fn address() -> String {
    super::endpoint("KAPPA_EMULATOR_PUBSUB")
}

async fn channel() -> Channel {
    Endpoint::from_shared(address()).unwrap().connect().await.unwrap()
}

async fn fresh(messages: Vec<NewMessage>) -> PubSubLog {
    on(&Names::new(), messages).await
}

/// A log that holds these messages; the fake administers over gRPC alone.
async fn on(names: &Names, messages: Vec<NewMessage>) -> PubSubLog {
    let channel = channel().await;
    let topic = pb::Topic { name: names.topic(), ..Default::default() };
    let mut publisher = PublisherClient::new(channel.clone());
    publisher.create_topic(topic).await.unwrap();
    let subscription = pb::Subscription {
        name: names.subscription(),
        topic: names.topic(),
        ack_deadline_seconds: 10,
        ..Default::default()
    };
    SubscriberClient::new(channel).create_subscription(subscription).await.unwrap();
    if !messages.is_empty() {
        let data = messages.into_iter().map(|message| message.payload.to_vec());
        let messages = data.map(|data| pb::PubsubMessage { data, ..Default::default() }).collect();
        let request = pb::PublishRequest { topic: names.topic(), messages };
        publisher.publish(request).await.unwrap();
    }
    PubSubLog::connect(names.options()).await.unwrap()
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

#[tokio::test]
async fn it_conforms() {
    let abilities =
        Abilities { publish: true, empty: false, order: false, seek: false, backlog: false };
    conforms(fresh, abilities).await;
}

#[tokio::test]
async fn a_missing_subscription_fails_the_start() {
    let log = PubSubLog::connect(Names::new().options()).await.unwrap();
    let error = log.backlog().await.unwrap_err().to_string();
    assert!(error.contains("kappa setup"), "{error}");
}

#[tokio::test]
async fn publishing_to_a_missing_topic_is_refused() {
    let log = PubSubLog::connect(Names::new().options()).await.unwrap();
    let outcomes = log.publish(vec![NewMessage::from_payload("lost?")]).await;
    let error = outcomes[0].as_ref().unwrap_err().to_string();
    assert!(error.contains("does not exist"), "{error}");
}

#[tokio::test]
async fn a_message_held_beyond_the_subscriptions_deadline_does_not_come_again() {
    let log = fresh(vec![NewMessage::from_payload("slow")]).await;
    let held = pull(&log, 1).await;
    let more = log.pull(AMPLE, Duration::from_secs(13)).await.unwrap();
    assert!(matches!(more, Pulled::Quiet), "{more:?}");
    log.acknowledge(&[held[0].lease]).await.unwrap();
    log.close().await;
}

#[tokio::test]
async fn closing_returns_held_messages_at_once() {
    let names = Names::new();
    let log = on(&names, vec![NewMessage::from_payload("held")]).await;
    let held = pull(&log, 1).await;
    log.close().await;
    let other = PubSubLog::connect(names.options()).await.unwrap();
    // Long before the lease of ten seconds would have ended.
    let Pulled::Messages(again) = other.pull(AMPLE, Duration::from_secs(5)).await.unwrap() else {
        panic!("nothing came back");
    };
    assert_eq!(again[0].id, held[0].id);
}
