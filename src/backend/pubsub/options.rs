use std::time::Duration;

use google_cloud_auth::credentials::Credentials;

/// Where the log is, and how it is read.
#[derive(Clone, Debug)]
pub struct PubSubOptions {
    /// The project of topic and subscription, unless their names say another.
    pub project: String,
    /// The topic to publish to: an id, or `projects/P/topics/T`.
    pub topic: String,
    /// The subscription to read: an id, or `projects/P/subscriptions/S`.
    pub subscription: String,
    /// Another address than the service's, such as an emulator's, for gRPC: `http://host:port`.
    pub endpoint: Option<String>,
    /// The endpoint of the administration over REST; `endpoint` by default.
    pub admin_endpoint: Option<String>,
    /// Who asks.
    pub credentials: Credentials,
    /// Streams that messages are pulled on side by side.
    pub streams: usize,
    /// Messages on loan at most, over all streams: the account of the reader.
    pub max_outstanding_messages: u64,
    /// Bytes on loan at most, over all streams.
    pub max_outstanding_bytes: u64,
    /// How long a message's lease is extended at most, up to an hour.
    pub max_lease: Duration,
    /// Whether messages are published with their ordering keys.
    pub ordering: bool,
    /// The largest payload that is published, in bytes.
    pub max_event_bytes: usize,
    /// Time without a message after which the service is probed: the crate retries transient failures of a stream
    /// without end and without a report.
    pub silence: Duration,
}

impl PubSubOptions {
    /// The topic's full name; `None` where none is configured.
    #[must_use]
    pub fn topic_name(&self) -> Option<String> {
        (!self.topic.is_empty()).then(|| self.full("topics", &self.topic))
    }

    /// The subscription's full name.
    #[must_use]
    pub fn subscription_name(&self) -> String {
        self.subscription_named(&self.subscription)
    }

    /// The full name of another subscription.
    pub(super) fn subscription_named(&self, id: &str) -> String {
        self.full("subscriptions", id)
    }

    /// The full name of a snapshot, in the subscription's project.
    pub(super) fn snapshot_name(&self, id: &str) -> String {
        let subscription = self.subscription_name();
        let project = subscription.split('/').nth(1).unwrap_or(&self.project);
        format!("projects/{project}/snapshots/{id}")
    }

    /// Where the administration is asked; `None` for the service itself.
    pub(super) fn rest_endpoint(&self) -> Option<&str> {
        self.admin_endpoint.as_deref().or(self.endpoint.as_deref())
    }

    fn full(&self, kind: &str, id: &str) -> String {
        if id.starts_with("projects/") {
            id.to_owned()
        } else {
            format!("projects/{}/{kind}/{id}", self.project)
        }
    }
}
