//! The resources of the event log in a project: described, compared and created.
//!
//! Existing resources are not changed. Differences are only reported: a subscription's filter, for example,
//! decides which events it receives at all.

use std::time::Duration;

use google_cloud_pubsub::Error;
use google_cloud_pubsub::model::{ExpirationPolicy, Subscription, Topic};
use google_cloud_wkt as wkt;
use kappa_actors::port::LogError;

use super::admin::Admin;
use super::{PubSubOptions, fault};
use crate::backend::setup::{Difference, Lacking, State, Thing};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the subscription keeps messages that are not acknowledged.
const RETENTION: Duration = DAY.saturating_mul(7);
/// The longest pause between extensions of a lease that costs no redelivery.
const ACK_DEADLINE: Duration = Duration::from_secs(120);
/// The daemon's permissions on a subscription, each with the narrowest predefined role that has it:
/// <https://cloud.google.com/pubsub/docs/access-control#roles>.
const ON_SUBSCRIPTION: [(&str, &str); 2] = [
    ("pubsub.subscriptions.consume", "roles/pubsub.subscriber"),
    ("pubsub.subscriptions.get", "roles/pubsub.viewer"),
];
/// The daemon's permissions on a topic.
const ON_TOPIC: [(&str, &str); 1] = [("pubsub.topics.publish", "roles/pubsub.publisher")];

/// How long a topic keeps messages at a price that is worth a seek now and then.
const CHEAP_RETENTION: Duration = DAY;

/// The configured properties of topic and subscription, except their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Exactly-once delivery.
    pub exactly_once: bool,
    /// Delivery in the order of ordering keys.
    pub ordering: bool,
    /// The subscription's filter; empty for none.
    pub filter: String,
    /// How long the topic keeps messages, for seeks.
    pub topic_retention: Duration,
}

/// A topic as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicState {
    /// How long it keeps messages by itself; `None` where it keeps none.
    pub retention: Option<Duration>,
}

/// A subscription as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionState {
    /// The full name of its topic.
    pub topic: String,
    /// How long a message is leased unless it is extended.
    pub ack_deadline: Duration,
    /// Whether acknowledged messages are kept for seeks.
    pub retain_acked: bool,
    /// How long messages are kept.
    pub retention: Option<Duration>,
    /// How long it lives without use; `None` for no limit.
    pub expires_after: Option<Duration>,
    /// Exactly-once delivery.
    pub exactly_once: bool,
    /// Delivery in the order of ordering keys.
    pub ordering: bool,
    /// Its filter; empty for none.
    pub filter: String,
    /// The dead-letter topic attached to it. Give-backs count as attempts there, so that good
    /// events would be pushed out of the log.
    pub dead_letter_topic: Option<String>,
}

/// All that was found; `None` where a thing does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The topic; `None` also where none is configured.
    pub topic: Option<TopicState>,
    /// The subscription.
    pub subscription: Option<SubscriptionState>,
}

/// What became of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It was missing and is there now.
    Created,
    /// It was there already, and was left as it is.
    Kept,
}

impl From<Made> for State {
    fn from(made: Made) -> Self {
        match made {
            Made::Created => Self::Created,
            Made::Kept => Self::Kept,
        }
    }
}

/// The administration of one topic and one subscription.
pub struct PubSubSetup {
    options: PubSubOptions,
    wanted: Wanted,
    admin: Admin,
}

impl PubSubSetup {
    /// Prepares the clients.
    ///
    /// # Errors
    /// As [`super::PubSubLog::connect`].
    pub async fn connect(options: PubSubOptions, wanted: Wanted) -> Result<Self, LogError> {
        let admin = Admin::new(&options).await?;
        Ok(Self { options, wanted, admin })
    }

    /// Describes the existing resources.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] for transient faults, [`LogError::Refused`] for lasting ones.
    pub async fn describe(&self) -> Result<Found, LogError> {
        let topic = match self.options.topic_name() {
            Some(name) => self.admin.topic(&name).await.map_err(|error| unseen(&name, &error))?,
            None => None,
        };
        let name = self.options.subscription_name();
        let found = self.admin.subscription(&name).await.map_err(|error| unseen(&name, &error))?;
        Ok(Found { topic: topic.as_ref().map(topic_state), subscription: found.map(state) })
    }

    /// Creates the missing ones of topic and subscription, unless this is a `dry_run`.
    ///
    /// # Errors
    /// As [`Self::describe`].
    pub async fn set_up(&self, dry_run: bool) -> Result<Vec<Thing>, LogError> {
        let Found { topic, subscription } = self.describe().await?;
        let mut things = Vec::new();
        if let Some(name) = self.options.topic_name() {
            let warnings = topic.iter().filter_map(|topic| topic.warning(&name)).collect();
            let state = if topic.is_some() {
                State::of(self.differences(&Found { topic, subscription: None }))
            } else if dry_run {
                State::Missing
            } else {
                self.create_topic().await?.into()
            };
            things.push(Thing { kind: "topic", name, state, warnings });
        }
        let name = self.options.subscription_name();
        let warnings = subscription.iter().flat_map(|it| it.warnings(&name)).collect();
        let state = if subscription.is_some() {
            State::of(self.differences(&Found { topic: None, subscription }))
        } else if dry_run {
            State::Missing
        } else {
            self.create_subscription().await?.into()
        };
        things.push(Thing { kind: "subscription", name, state, warnings });
        Ok(things)
    }

    /// Returns the differences between `found` and the configuration. A longer retention is none.
    #[must_use]
    pub fn differences(&self, found: &Found) -> Vec<Difference> {
        let mut all = Vec::new();
        if let Some(topic) = &found.topic
            && topic.retention.is_none_or(|kept| kept < self.wanted.topic_retention)
        {
            let wanted = shown(Some(self.wanted.topic_retention));
            all.push(difference("topic retention", shown(topic.retention), wanted));
        }
        let Some(is) = &found.subscription else { return all };
        let wanted = &self.wanted;
        let mut compare = |what, is: String, wanted: String| {
            if is != wanted {
                all.push(difference(what, is, wanted));
            }
        };
        if let Some(topic) = self.options.topic_name() {
            compare("subscription topic", is.topic.clone(), topic);
        }
        compare("ack deadline", shown(Some(is.ack_deadline)), shown(Some(ACK_DEADLINE)));
        compare("expires when unused", shown(is.expires_after), shown(None));
        compare(
            "exactly-once delivery",
            is.exactly_once.to_string(),
            wanted.exactly_once.to_string(),
        );
        compare("message ordering", is.ordering.to_string(), wanted.ordering.to_string());
        compare("filter", is.filter.clone(), wanted.filter.clone());
        let dead_letters = is.dead_letter_topic.clone().unwrap_or_else(|| "none".into());
        compare("dead-letter topic", dead_letters, "none".into());
        if is.retention.is_none_or(|kept| kept < RETENTION) {
            let wanted = shown(Some(RETENTION));
            all.push(difference("subscription retention", shown(is.retention), wanted));
        }
        all
    }

    /// Creates the topic if it is missing.
    ///
    /// # Errors
    /// As [`Self::describe`]; [`LogError::Refused`] where no topic is configured.
    pub async fn create_topic(&self) -> Result<Made, LogError> {
        let Some(name) = self.options.topic_name() else {
            return Err(LogError::Refused(
                "no topic is configured; set event_log.pubsub.topic".into(),
            ));
        };
        if let Ok(Some(_)) = self.admin.topic(&name).await {
            return Ok(Made::Kept);
        }
        let topic = Topic::new()
            .set_name(&name)
            .set_message_retention_duration(to_wkt(self.wanted.topic_retention));
        made(&name, self.admin.create_topic(topic).await)
    }

    /// Creates the subscription if it is missing. Its topic must exist.
    ///
    /// # Errors
    /// As [`Self::create_topic`].
    pub async fn create_subscription(&self) -> Result<Made, LogError> {
        let name = self.options.subscription_name();
        if let Ok(Some(_)) = self.admin.subscription(&name).await {
            return Ok(Made::Kept);
        }
        let Some(topic) = self.options.topic_name() else {
            return Err(LogError::Refused(
                "no topic is configured; set event_log.pubsub.topic".into(),
            ));
        };
        let wanted = Subscription::new()
            .set_name(&name)
            .set_topic(topic)
            // 120: within the service's 10 to 600.
            .set_ack_deadline_seconds(ACK_DEADLINE.as_secs() as i32)
            // The topic keeps messages for seeks; those of the subscription would be billed on top.
            .set_retain_acked_messages(false)
            .set_message_retention_duration(to_wkt(RETENTION))
            // A policy without a time: it never expires. No policy would mean 31 days.
            .set_expiration_policy(ExpirationPolicy::new())
            .set_enable_exactly_once_delivery(self.wanted.exactly_once)
            .set_enable_message_ordering(self.wanted.ordering)
            .set_filter(&self.wanted.filter);
        made(&name, self.admin.create_subscription(wanted).await)
    }

    /// The permissions that running and publishing need and the caller lacks.
    ///
    /// # Errors
    /// As [`Self::describe`].
    pub async fn lacking(&self) -> Result<Vec<Lacking>, LogError> {
        let subscription = self.options.subscription_name();
        let mut all = self.missing_of(subscription, &ON_SUBSCRIPTION).await?;
        if let Some(topic) = self.options.topic_name() {
            all.extend(self.missing_of(topic, &ON_TOPIC).await?);
        }
        Ok(all)
    }

    async fn missing_of(
        &self,
        on: String,
        wanted: &[(&str, &'static str)],
    ) -> Result<Vec<Lacking>, LogError> {
        let names: Vec<_> = wanted.iter().map(|(name, _)| *name).collect();
        let held = self.admin.permitted(&on, &names).await.map_err(|error| sorted(&on, &error))?;
        Ok(Lacking::of(&on, wanted, &held))
    }
}

impl TopicState {
    /// <https://cloud.google.com/pubsub/pricing#storage_costs>
    fn warning(&self, name: &str) -> Option<String> {
        let kept = self.retention.filter(|kept| *kept > CHEAP_RETENTION)?;
        Some(format!(
            "{name} keeps all messages for {}, which Pub/Sub bills as storage: a day is enough for \
             a seek after a mistake, and the archive has the rest; shorten it with `gcloud pubsub \
             topics update`",
            shown(Some(kept))
        ))
    }
}

impl SubscriptionState {
    fn warnings(&self, name: &str) -> Vec<String> {
        let mut all = Vec::new();
        if let Some(topic) = &self.dead_letter_topic {
            all.push(format!(
                "{name} has the dead-letter topic {topic}: what kappa gives back and leases that \
                 run out count as attempts there, and push good events out of the log: detach it"
            ));
        }
        if self.retain_acked {
            all.push(format!(
                "{name} keeps acknowledged messages for {}, which Pub/Sub bills as storage: a seek \
                 needs only what the topic keeps; switch it off with `gcloud pubsub subscriptions \
                 update --no-retain-acked-messages`",
                shown(self.retention)
            ));
        }
        all
    }
}

/// Why `name` could not be looked at.
fn unseen(name: &str, error: &Error) -> LogError {
    told(fault::describing(name, error), error)
}

fn sorted(name: &str, error: &Error) -> LogError {
    told(fault::managing(name, error), error)
}

fn told(words: String, error: &Error) -> LogError {
    if fault::lasts(error) { LogError::Refused(words) } else { LogError::Unavailable(words) }
}

fn made(name: &str, answer: Result<bool, Error>) -> Result<Made, LogError> {
    match answer {
        Ok(true) => Ok(Made::Created),
        Ok(false) => Ok(Made::Kept),
        Err(error) => Err(sorted(name, &error)),
    }
}

fn difference(what: &'static str, is: String, wanted: String) -> Difference {
    Difference { what, is, wanted }
}

fn topic_state(topic: &Topic) -> TopicState {
    TopicState { retention: topic.message_retention_duration.as_ref().map(from_wkt) }
}

fn state(is: Subscription) -> SubscriptionState {
    SubscriptionState {
        topic: is.topic,
        ack_deadline: Duration::from_secs(u64::try_from(is.ack_deadline_seconds).unwrap_or(0)),
        retain_acked: is.retain_acked_messages,
        retention: is.message_retention_duration.as_ref().map(from_wkt),
        expires_after: match is.expiration_policy {
            Some(policy) => policy.ttl.as_ref().map(from_wkt),
            // The service's default.
            None => Some(DAY * 31),
        },
        exactly_once: is.enable_exactly_once_delivery,
        ordering: is.enable_message_ordering,
        filter: is.filter,
        dead_letter_topic: is.dead_letter_policy.map(|policy| policy.dead_letter_topic),
    }
}

fn to_wkt(time: Duration) -> wkt::Duration {
    wkt::Duration::clamp(i64::try_from(time.as_secs()).unwrap_or(i64::MAX), 0)
}

fn from_wkt(time: &wkt::Duration) -> Duration {
    Duration::from_secs(u64::try_from(time.seconds()).unwrap_or(0))
}

fn shown(time: Option<Duration>) -> String {
    time.map_or_else(|| "never".into(), |time| humantime::format_duration(time).to_string())
}
