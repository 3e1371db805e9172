//! Topics, subscriptions and the faults to come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::PubsubMessage;
use serde_json::Value;
use tonic::Status;

use super::subscription::Subscription;
use crate::permission::Granted;

/// What publishing answers instead.
#[derive(Debug)]
pub(super) struct PublishFault {
    /// The payload that must be in the request; `None` means every request.
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
    /// Publish requests so far.
    requests: usize,
    /// By how many milliseconds the clock is ahead.
    pub(super) clock: i64,
    /// By how many milliseconds the clock of every second request is behind.
    pub(super) skew: i64,
    pub(super) granted: Granted,
    pub(super) refuse_streams: Option<Status>,
    pub(super) refuse_publish: Option<PublishFault>,
    pub(super) lose_acks: bool,
    pub(super) delay_acks: Duration,
    /// The errors of the next acknowledgements of a subscription with exactly-once delivery.
    pub(super) ack_failures: Vec<String>,
    pub(super) acknowledged_at_seek: Option<usize>,
    /// What every request over REST is answered with instead.
    pub(super) rest_fault: Option<u16>,
}

/// The id of the nth message: unique in its topic, and nothing else is promised of it
/// (`PubsubMessage.message_id`, same file). Decimal, as observed, of changing length and in no
/// order, neither as a number nor as a text.
fn message_id(nth: usize) -> String {
    /// No factor of a power of ten, so that no two products have the same remainder.
    const PRIME: u128 = 2_654_435_761;
    let least = 10_u128.pow(7 + 3 * (nth as u32 % 4));
    (least + (nth as u128 / 4 + 1) * PRIME % (9 * least)).to_string()
}

impl State {
    /// Stores the messages of one publish request, and gives their ids. They share the time at which
    /// the request came, in whole milliseconds: `PubsubMessage.publish_time` in googleapis:
    /// google/pubsub/v1/pubsub.proto is that of the call, and its precision is observed. No page
    /// promises that a later request has a later time.
    pub(super) fn store(
        &mut self,
        topic: &str,
        messages: impl IntoIterator<Item = PubsubMessage>,
    ) -> Vec<String> {
        self.requests += 1;
        let behind = if self.requests.is_multiple_of(2) { self.skew } else { 0 };
        let millis = Utc::now().timestamp_millis() + self.clock - behind;
        let publish_time = prost_types::Timestamp {
            seconds: millis.div_euclid(1_000),
            nanos: (millis.rem_euclid(1_000) * 1_000_000) as i32,
        };
        let messages = messages.into_iter().map(|mut message| {
            message.publish_time = Some(publish_time);
            message.message_id = message_id(self.published);
            self.published += 1;
            Arc::new(message)
        });
        let messages: Vec<_> = messages.collect();
        if self.topic_retention(topic).is_some() {
            self.kept.entry(topic.to_owned()).or_default().extend(messages.iter().cloned());
        }
        for subscription in self.subscriptions.values_mut() {
            if subscription.topic() == topic {
                messages.iter().for_each(|message| subscription.store(Arc::clone(message)));
            }
        }
        messages.iter().map(|message| message.message_id.clone()).collect()
    }

    /// Returns how long a topic keeps messages for seeks, as REST has it.
    pub(super) fn topic_retention(&self, topic: &str) -> Option<&Value> {
        self.topics.get(topic)?.get("messageRetentionDuration")
    }

    /// Returns the messages that a new subscription of this topic can get by a seek:
    /// <https://cloud.google.com/pubsub/docs/topic-message-retention>.
    pub(super) fn kept(&self, topic: &str) -> &[Arc<PubsubMessage>] {
        self.kept.get(topic).map(Vec::as_slice).unwrap_or_default()
    }

    /// Ends the leases that ran out; whether there was one.
    pub(super) fn expire(&mut self) -> bool {
        let expired = self.subscriptions.values_mut().map(Subscription::expire);
        expired.fold(false, |any, one| any | one)
    }

    /// Whether the caller has `permission` on a topic, a subscription, a snapshot or a project.
    pub(super) fn permitted(&self, permission: &str, on: &str) -> bool {
        self.granted.has(permission, on)
    }

    /// Returns the subscription for a caller who may read it:
    /// <https://cloud.google.com/pubsub/docs/access-control>. Errors of a missing one:
    /// <https://cloud.google.com/pubsub/docs/reference/error-codes>.
    pub(super) fn readable(&mut self, name: &str) -> Result<&mut Subscription, Status> {
        if !self.permitted("pubsub.subscriptions.consume", name) {
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
