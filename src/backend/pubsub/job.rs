//! A subscription of a job's own, so that the one that daemons share does not move.

use std::time::Duration;

use google_cloud_pubsub::model::{ExpirationPolicy, Subscription};
use google_cloud_wkt as wkt;
use kappa_actors::port::{EventLog as _, LogError};
use kappa_actors::time::Timestamp;

use super::{PubSubLog, fault};

/// How long an unused subscription is kept: the shortest time that the service accepts,
/// <https://cloud.google.com/pubsub/docs/subscription-properties#expiration_period>.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// As the daemons' subscription has it.
const ACK_DEADLINE_SECONDS: i32 = 120;

impl PubSubLog {
    /// Creates the subscription that this log reads, unless it exists: with the topic and the filter of the subscription
    /// `like`. Returns whether it was created.
    ///
    /// # Errors
    /// [`LogError::Refused`] if the topic does not keep messages published at `from`;
    /// [`LogError::Unavailable`]: try again.
    pub async fn make_own(&self, like: &str, from: Timestamp) -> Result<bool, LogError> {
        let name = self.options.subscription_name();
        let managed = |error| LogError::Unavailable(fault::managing(&name, &error));
        if self.admin.subscription(&name).await.map_err(managed)?.is_some() {
            return Ok(false);
        }
        let like = self.options.subscription_named(like);
        let found = self.admin.subscription(&like).await;
        let Some(found) =
            found.map_err(|error| LogError::Unavailable(fault::managing(&like, &error)))?
        else {
            return Err(LogError::Refused(fault::missing(&like)));
        };
        let kept = found.topic_message_retention_duration.as_ref();
        check_reach(&found.topic, kept.map_or(Duration::ZERO, duration), from)?;
        let own = Subscription::new()
            .set_name(&name)
            .set_topic(found.topic)
            .set_filter(found.filter)
            .set_ack_deadline_seconds(ACK_DEADLINE_SECONDS)
            .set_expiration_policy(ExpirationPolicy::new().set_ttl(wkt::Duration::clamp(
                i64::try_from(LIFE.as_secs()).unwrap_or(i64::MAX),
                0,
            )));
        self.admin.create_subscription(own).await.map_err(managed)
    }

    /// Whether the service still has the subscription that this log reads.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]: ask again later.
    pub async fn has_own(&self) -> Result<bool, LogError> {
        let name = self.options.subscription_name();
        let found = self.admin.subscription(&name).await;
        found
            .map(|found| found.is_some())
            .map_err(|error| LogError::Unavailable(fault::managing(&name, &error)))
    }

    /// Closes this log and removes the subscription that it read.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]: try again; unused, it expires after a day.
    pub async fn remove_own(&self) -> Result<(), LogError> {
        self.close().await;
        let name = self.options.subscription_name();
        self.admin
            .delete_subscription(&name)
            .await
            .map_err(|error| LogError::Unavailable(fault::managing(&name, &error)))
    }
}

/// How long acknowledged events can come again by a seek: as long as the subscription keeps them,
/// or its topic.
pub(super) fn reach(subscription: &Subscription) -> Duration {
    let topic = subscription.topic_message_retention_duration.as_ref();
    let own = subscription.message_retention_duration.as_ref();
    let own = own.filter(|_| subscription.retain_acked_messages);
    topic.into_iter().chain(own).map(duration).max().unwrap_or_default()
}

/// Checks that `name` keeps messages published at `from`.
pub(super) fn check_reach(name: &str, kept: Duration, from: Timestamp) -> Result<(), LogError> {
    let now = Timestamp::now();
    if from.age_at(now) <= kept {
        return Ok(());
    }
    if kept.is_zero() {
        return Err(LogError::Refused(format!(
            "{name} keeps no acknowledged events: replay archived ones with --source archive"
        )));
    }
    let micros = i64::try_from(kept.as_micros()).unwrap_or(i64::MAX);
    let since = Timestamp::from_micros(now.micros().saturating_sub(micros));
    Err(LogError::Refused(format!(
        "{name} keeps events for {}: the oldest still there is of {since} or later",
        humantime::format_duration(kept)
    )))
}

fn duration(time: &wkt::Duration) -> Duration {
    Duration::from_secs(u64::try_from(time.seconds()).unwrap_or(0))
}
