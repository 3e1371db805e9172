//! A server with a topic and a subscription, and the calls of a client.

use std::time::Duration;

use futures::StreamExt as _;
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1 as pb;
use kappa_test_servers::pubsub::{Control, PubSubServer};
use pb::publisher_client::PublisherClient;
use pb::subscriber_client::SubscriberClient;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

pub(crate) const TOPIC: &str = "projects/p/topics/events";
pub(crate) const SUBSCRIPTION: &str = "projects/p/subscriptions/kappa";
pub(crate) const CONSUME: &str = "pubsub.subscriptions.consume";
/// How long a test waits for an expected message.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Scene {
    server: PubSubServer,
    channel: Channel,
}

impl Scene {
    /// With a topic and its subscription, of these settings.
    pub(crate) async fn start(settings: Value) -> Self {
        let server = PubSubServer::start().await.unwrap();
        server.control().create(TOPIC, SUBSCRIPTION, &settings);
        let endpoint = Endpoint::from_shared(server.grpc_endpoint()).unwrap();
        Self { channel: endpoint.connect().await.unwrap(), server }
    }

    pub(crate) fn control(&self) -> Control {
        self.server.control()
    }

    /// The ids of these messages, once they are published.
    pub(crate) async fn publish(
        &self,
        topic: &str,
        messages: Vec<pb::PubsubMessage>,
    ) -> Result<Vec<String>, Code> {
        let request = pb::PublishRequest { topic: topic.to_owned(), messages };
        let answer = PublisherClient::new(self.channel.clone()).publish(request).await;
        answer.map(|answer| answer.into_inner().message_ids).map_err(|status| status.code())
    }

    /// Publishes messages with these texts.
    pub(crate) async fn send(&self, texts: &[&str]) -> Vec<String> {
        self.publish(TOPIC, texts.iter().map(|text| message(text)).collect()).await.unwrap()
    }

    /// Publishes messages with these texts, each later than the one before.
    pub(crate) async fn send_apart(&self, texts: &[&str]) {
        for text in texts {
            self.send(&[text]).await;
            self.control().move_clock(10);
        }
    }

    /// Opens a stream with this first request.
    pub(crate) async fn open(&self, first: pb::StreamingPullRequest) -> Result<Pull, Status> {
        let (requests, sent) = mpsc::unbounded_channel();
        requests.send(first).unwrap();
        let sent = UnboundedReceiverStream::new(sent);
        let answer = SubscriberClient::new(self.channel.clone()).streaming_pull(sent).await?;
        Ok(Pull { requests, replies: answer.into_inner() })
    }

    /// A stream that takes everything, for ten seconds.
    pub(crate) async fn pull(&self) -> Pull {
        self.open(first(10)).await.unwrap()
    }

    /// What opening a stream answers when its client sends nothing.
    pub(crate) async fn open_silently(&self) -> Code {
        let nothing = futures::stream::empty();
        let answer = SubscriberClient::new(self.channel.clone()).streaming_pull(nothing).await;
        answer.expect_err("a stream").code()
    }

    pub(crate) async fn acknowledge(&self, ids: &[&str]) -> Result<(), Status> {
        let ack_ids = ids.iter().map(|&id| id.to_owned()).collect();
        let request = pb::AcknowledgeRequest { subscription: SUBSCRIPTION.into(), ack_ids };
        SubscriberClient::new(self.channel.clone()).acknowledge(request).await.map(drop)
    }

    pub(crate) async fn extend(&self, ids: &[&str], seconds: i32) -> Result<(), Status> {
        let request = pb::ModifyAckDeadlineRequest {
            subscription: SUBSCRIPTION.into(),
            ack_ids: ids.iter().map(|&id| id.to_owned()).collect(),
            ack_deadline_seconds: seconds,
        };
        SubscriberClient::new(self.channel.clone()).modify_ack_deadline(request).await.map(drop)
    }

    pub(crate) async fn rest(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}/v1/{path}", self.server.rest_endpoint());
        let method = method.parse().unwrap();
        let answer = reqwest::Client::new().request(method, url).json(&body).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null))
    }

    /// The status of a refusal over REST, in HTTP and in words; no words for none.
    pub(crate) async fn refusal(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        let (status, answer) = self.rest(method, path, body).await;
        (status, answer["error"]["status"].as_str().unwrap_or_default().to_owned())
    }

    /// Turns the clock, and lets the server look at its leases.
    pub(crate) async fn pass(&self, seconds: u64) {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
        self.settle().await;
    }

    /// Lets the server finish its due work: it is done before a later request is answered.
    pub(crate) async fn settle(&self) {
        for _ in 0..3 {
            self.rest("POST", "projects/p/topics/none:testIamPermissions", json!({})).await;
        }
    }

    /// Waits until the server's books say so.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Control) -> bool) {
        let control = self.control();
        let probe = async {
            while !holds(&control) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, probe).await.unwrap_or_else(|_| panic!("never: {what}"));
    }
}

/// An open stream.
pub(crate) struct Pull {
    requests: mpsc::UnboundedSender<pb::StreamingPullRequest>,
    replies: Streaming<pb::StreamingPullResponse>,
}

impl Pull {
    pub(crate) fn request(&self, request: pb::StreamingPullRequest) {
        self.requests.send(request).unwrap();
    }

    pub(crate) async fn response(&mut self) -> Result<pb::StreamingPullResponse, Status> {
        let response = tokio::time::timeout(PATIENCE, self.replies.next()).await;
        response.expect("nothing comes").expect("the stream ended without a status")
    }

    /// The messages of the next response.
    pub(crate) async fn next(&mut self) -> Vec<pb::ReceivedMessage> {
        self.response().await.unwrap().received_messages
    }

    /// The next message, which comes alone.
    pub(crate) async fn one(&mut self) -> pb::ReceivedMessage {
        let [message] = <[_; 1]>::try_from(self.next().await).expect("one message");
        message
    }

    /// Returns the code with which the stream ends, without a message before.
    pub(crate) async fn end(&mut self) -> Code {
        self.response().await.expect_err("the end of the stream").code()
    }
}

pub(crate) fn message(text: &str) -> pb::PubsubMessage {
    pb::PubsubMessage { data: text.as_bytes().to_vec(), ..Default::default() }
}

pub(crate) fn keyed(key: &str, text: &str) -> pb::PubsubMessage {
    pb::PubsubMessage { ordering_key: key.to_owned(), ..message(text) }
}

/// The first request of a stream without limits.
pub(crate) fn first(seconds: i32) -> pb::StreamingPullRequest {
    pb::StreamingPullRequest {
        subscription: SUBSCRIPTION.into(),
        stream_ack_deadline_seconds: seconds,
        ..Default::default()
    }
}

pub(crate) fn texts(messages: &[pb::ReceivedMessage]) -> Vec<String> {
    messages.iter().map(text).collect()
}

pub(crate) fn text(message: &pb::ReceivedMessage) -> String {
    String::from_utf8(message.message.as_ref().unwrap().data.to_vec()).unwrap()
}
