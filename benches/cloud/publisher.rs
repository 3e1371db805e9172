//! Publishes generated events through the API of Pub/Sub, and keeps their expected results.

use std::time::{SystemTime, UNIX_EPOCH};

use compact_str::CompactString;
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::publisher_client::PublisherClient;
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::{PublishRequest, PubsubMessage};
use kappa::generate::{Generator, Ids};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

use super::serve::TOPIC;
use super::services::Services;
use crate::load::generator;

/// The publisher, and its published events.
pub struct Publisher {
    runtime: Runtime,
    client: PublisherClient<Channel>,
    events: Generator,
    /// Of each valid event its id, and when it was published, in microseconds since 1970.
    pub valid: Vec<(CompactString, u128)>,
    /// How many were published.
    pub count: usize,
}

impl Publisher {
    /// Connects to the servers.
    pub fn connect(services: &Services) -> Self {
        let runtime = Runtime::new().unwrap();
        let endpoint = Endpoint::from_shared(services.pubsub()).unwrap();
        let client = PublisherClient::new(runtime.block_on(endpoint.connect()).unwrap());
        Self { runtime, client, events: generator(Ids::Ordered), valid: Vec::new(), count: 0 }
    }

    /// Publishes the next `count` events in one request.
    pub fn publish(&mut self, count: usize) {
        let mut messages = Vec::with_capacity(count);
        let mut valid = Vec::with_capacity(count);
        for event in self.events.by_ref().take(count) {
            messages.push(PubsubMessage { data: event.payload, ..PubsubMessage::default() });
            valid.extend(event.expected.defect.is_none().then_some(event.expected.id));
        }
        // Before it is sent: the way to the service counts too.
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        let request = PublishRequest { topic: TOPIC.to_owned(), messages };
        self.runtime.block_on(self.client.publish(request)).unwrap();
        self.valid.extend(valid.into_iter().map(|id| (id, at)));
        self.count += count;
    }
}
