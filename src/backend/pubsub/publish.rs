//! Publishing to the topic.
//!
//! Each message has its own outcome. Messages that the service would refuse are refused here first, since it refuses a
//! whole request for one such message; a message of a refused request is sent again alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use google_cloud_gax::error::rpc::Code;
use google_cloud_gax::retry_policy::RetryPolicyExt;
use google_cloud_pubsub::client::Publisher;
use google_cloud_pubsub::error::PublishError as CrateError;
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::publisher::PublishFuture;
use google_cloud_pubsub::retry_policy::RetryableErrors;
use kappa_actors::message::NewMessage;
use kappa_actors::port::PublishError;

use super::{PubSubOptions, fault};
use crate::backend::gcp;

/// How long a request is tried before its messages are reported; the caller tries again.
const PATIENCE: Duration = Duration::from_secs(20);
/// The service's limits: <https://cloud.google.com/pubsub/quotas#resource_limits>.
const MAX_MESSAGE_BYTES: usize = 10_000_000;
const MAX_ATTRIBUTES: usize = 100;
const MAX_ATTRIBUTE_NAME_BYTES: usize = 256;
const MAX_ATTRIBUTE_VALUE_BYTES: usize = 1_024;
const MAX_ORDERING_KEY_BYTES: usize = 1_024;

/// A client that batches messages for one topic.
pub(super) struct TopicPublisher {
    options: Arc<PubSubOptions>,
    topic: String,
    publisher: Publisher,
}

/// Why a message was not published.
enum Failed {
    /// It was not sent.
    Unfit(String),
    /// The service, or the connection, did not take its request.
    ByService(PublishError),
}

impl TopicPublisher {
    /// Prepares the client, or returns the reason why nothing can be published.
    pub(super) async fn connect(options: Arc<PubSubOptions>) -> Result<Self, String> {
        let Some(topic) = options.topic_name() else {
            return Err("no topic is configured to publish to; set event_log.pubsub.topic".into());
        };
        let mut builder = Publisher::builder(&topic)
            .with_credentials(options.credentials.clone())
            .with_retry_policy(RetryableErrors.with_time_limit(PATIENCE));
        if let Some(universe) = gcp::universe(&options.credentials).await {
            builder = builder.with_universe_domain(universe);
        }
        if let Some(endpoint) = &options.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        match builder.build().await {
            Ok(publisher) => Ok(Self { options, topic, publisher }),
            Err(error) => Err(format!("no client for Pub/Sub can be made: {error}")),
        }
    }

    pub(super) async fn publish(
        &self,
        messages: Vec<NewMessage>,
    ) -> Vec<Result<String, PublishError>> {
        let mut outcomes = self.publish_together(messages.clone()).await;
        for (message, outcome) in messages.into_iter().zip(&mut outcomes) {
            // It may have shared a request with the refused message.
            if let Err(Failed::ByService(PublishError::Refused(_))) = outcome
                && let Some(alone) = self.publish_together(vec![message]).await.pop()
            {
                *outcome = alone;
            }
        }
        let told = |failed| match failed {
            Failed::Unfit(why) => PublishError::Refused(why),
            Failed::ByService(error) => error,
        };
        outcomes.into_iter().map(|outcome| outcome.map_err(told)).collect()
    }

    async fn publish_together(&self, messages: Vec<NewMessage>) -> Vec<Result<String, Failed>> {
        let mut keys = BTreeSet::new();
        // All are sent before the first is awaited, or each would wait for a batch of its own.
        let sent: Vec<_> = messages
            .into_iter()
            .map(|message| {
                let key = message.ordering_key.clone();
                (key, self.send(message))
            })
            .collect();
        let mut outcomes = Vec::with_capacity(sent.len());
        for (key, sent) in sent {
            outcomes.push(match sent {
                Err(refused) => Err(refused),
                Ok(future) => match future.await {
                    Ok(id) => Ok(id),
                    Err(error) => {
                        keys.insert(key);
                        Err(Failed::ByService(self.explained(&error)))
                    }
                },
            });
        }
        // The crate pauses a key at its first failure, to keep the order. All messages of this call
        // are answered now; without this the key would stay paused.
        for key in keys.into_iter().filter(|key| self.options.ordering && !key.is_empty()) {
            self.publisher.resume_publish(key);
        }
        outcomes
    }

    fn send(&self, message: NewMessage) -> Result<PublishFuture, Failed> {
        if let Some(why) = self.unfit(&message) {
            return Err(Failed::Unfit(why));
        }
        let key = if self.options.ordering { message.ordering_key } else { String::new() };
        let message = Message::new()
            .set_data(message.payload)
            .set_attributes(message.attributes)
            .set_ordering_key(key);
        Ok(self.publisher.publish(message))
    }

    /// Why the service would not take the message.
    fn unfit(&self, message: &NewMessage) -> Option<String> {
        let bytes = message.payload.len();
        let limit = self.options.max_event_bytes.min(MAX_MESSAGE_BYTES);
        if bytes > limit {
            return Some(format!("the event has {bytes} bytes, more than the {limit} allowed"));
        }
        let attributes: usize =
            message.attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
        let total = bytes + attributes + message.ordering_key.len();
        if total > MAX_MESSAGE_BYTES {
            return Some(format!(
                "the event has {total} bytes with its attributes, more than the \
                 {MAX_MESSAGE_BYTES} that Pub/Sub takes"
            ));
        }
        if bytes == 0 && message.attributes.is_empty() {
            return Some("the event is empty, and Pub/Sub takes no empty message".into());
        }
        if message.attributes.len() > MAX_ATTRIBUTES {
            return Some(format!("the event has more than {MAX_ATTRIBUTES} attributes"));
        }
        for (name, value) in &message.attributes {
            if name.is_empty() || name.len() > MAX_ATTRIBUTE_NAME_BYTES {
                return Some(format!(
                    "an attribute's name has {} bytes; Pub/Sub takes 1 to \
                     {MAX_ATTRIBUTE_NAME_BYTES}",
                    name.len()
                ));
            }
            if name.starts_with("goog") {
                return Some(format!("the attribute `{name}` begins with `goog`, as none may"));
            }
            if value.len() > MAX_ATTRIBUTE_VALUE_BYTES {
                return Some(format!(
                    "the attribute `{name}` has {} bytes, more than {MAX_ATTRIBUTE_VALUE_BYTES}",
                    value.len()
                ));
            }
        }
        if self.options.ordering && message.ordering_key.len() > MAX_ORDERING_KEY_BYTES {
            return Some(format!("the ordering key has more than {MAX_ORDERING_KEY_BYTES} bytes"));
        }
        None
    }

    fn explained(&self, error: &CrateError) -> PublishError {
        match error {
            CrateError::Rpc(error) => {
                let words = fault::publishing(&self.topic, error);
                match fault::code(error) {
                    Some(Code::InvalidArgument) => PublishError::Refused(words),
                    _ => PublishError::Unavailable(words),
                }
            }
            CrateError::OrderingKeyPaused => PublishError::Unavailable(
                "an earlier event with the same ordering key was not published".into(),
            ),
            other => PublishError::Unavailable(format!("{}: {other}", self.topic)),
        }
    }
}
