//! Topics, subscriptions and the faults to come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::PubsubMessage;
use serde_json::Value;
use tonic::Status;

use super::subscription::Subscription;

/// What publishing answers instead.
#[derive(Debug)]
pub(super) struct PublishFault {
    /// The payload that must stand in the request; `None` means every request.
    pub(super) payload: Option<Vec<u8>>,
    pub(super) status: Status,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Topics as REST describes them, by their full names.
    pub(super) topics: BTreeMap<String, Value>,
    pub(super) subscriptions: BTreeMap<String, Subscription>,
    /// Snapshots as REST describes them, by their full names.
    pub(super) snapshots: BTreeMap<String, Value>,
    /// What topics with a retention of their own keep, by their names.
    kept: BTreeMap<String, Vec<Arc<PubsubMessage>>>,
    /// Every message that was published, over all topics.
    pub(super) published: usize,
    /// The publish time of the newest message, in microseconds since 1970.
    newest: i64,
    pub(super) denied: BTreeSet<String>,
    pub(super) refuse_streams: Option<Status>,
    pub(super) refuse_publish: Option<PublishFault>,
    pub(super) lose_acks: bool,
    pub(super) delay_acks: Duration,
    /// What the next acknowledgements of a subscription with exactly-once delivery fail with.
    pub(super) ack_failures: Vec<String>,
    pub(super) acknowledged_at_seek: Option<usize>,
    /// What every request over REST is answered with instead.
    pub(super) rest_fault: Option<u16>,
}

impl State {
    /// Stores a message with an id and a publish time of its own, and gives the id.
    pub(super) fn store(&mut self, topic: &str, mut message: PubsubMessage) -> String {
        // Distinct, so that a seek to a message's time divides the others.
        self.newest = Utc::now().timestamp_micros().max(self.newest + 1);
        let nanos = (self.newest.rem_euclid(1_000_000) * 1_000) as i32;
        let seconds = self.newest.div_euclid(1_000_000);
        message.publish_time = Some(prost_types::Timestamp { seconds, nanos });
        message.message_id = format!("{}", 10_000_000_000 + self.published);
        self.published += 1;
        let id = message.message_id.clone();
        let message = Arc::new(message);
        if self.topic_retention(topic).is_some() {
            self.kept.entry(topic.to_owned()).or_default().push(Arc::clone(&message));
        }
        for subscription in self.subscriptions.values_mut() {
            if subscription.topic() == topic {
                subscription.store(Arc::clone(&message));
            }
        }
        id
    }

    /// How long a topic keeps messages for whoever seeks, as REST has it.
    pub(super) fn topic_retention(&self, topic: &str) -> Option<&Value> {
        self.topics.get(topic)?.get("messageRetentionDuration")
    }

    /// What a new subscription of this topic can be sought back to:
    /// <https://cloud.google.com/pubsub/docs/topic-message-retention>.
    pub(super) fn history(&self, topic: &str) -> Vec<Arc<PubsubMessage>> {
        self.kept.get(topic).cloned().unwrap_or_default()
    }

    /// Ends the leases that ran out; whether there was one.
    pub(super) fn expire(&mut self) -> bool {
        let expired = self.subscriptions.values_mut().map(Subscription::expire);
        expired.fold(false, |any, one| any | one)
    }

    /// Whether `permission` is held on everything.
    pub(super) fn permitted(&self, permission: &str) -> bool {
        !self.denied.contains(permission)
    }

    /// The subscription, for one who may read it:
    /// <https://cloud.google.com/pubsub/docs/access-control>, and for one that is not there
    /// <https://cloud.google.com/pubsub/docs/reference/error-codes>.
    pub(super) fn readable(&mut self, name: &str) -> Result<&mut Subscription, Status> {
        if !self.permitted("pubsub.subscriptions.consume") {
            return Err(Status::permission_denied(format!(
                "User not authorized to perform this action on {name}."
            )));
        }
        match self.subscriptions.get_mut(name) {
            Some(subscription) => Ok(subscription),
            None => Err(Status::not_found(format!("Resource not found (resource={name})."))),
        }
    }
}
