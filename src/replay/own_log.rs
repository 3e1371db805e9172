//! The log, read through a subscription of the replay's own: the daemons' does not move.

use std::sync::Arc;
use std::time::Duration;

use kappa_actors::port::{EventLog, LogError};
use kappa_actors::replay::Ending;
use kappa_actors::time::Timestamp;

use super::ReplayError;
use crate::backend::embedded::log::EmbeddedLog;
#[cfg(feature = "gcp")]
use crate::backend::pubsub::PubSubLog;
use crate::settings::{EventLogBackend, Settings};
use crate::wiring;

/// How long an unused embedded subscription is kept: as long as Pub/Sub's.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// An embedded log hands out events in order and without delay. In a log of several generations
/// an event may be older than the one before it, so a later event is no end.
const IN_ORDER: Ending = Ending {
    quiet: Duration::from_secs(2),
    straggling: Duration::ZERO,
    ask_every: Duration::ZERO,
    later_ends: false,
    refuted: Duration::ZERO,
};

/// Pub/Sub hands out in no order: after a seek a message may be some seconds behind its neighbours,
/// and an ack deadline of a stream that broke may pass first. Each question makes a snapshot.
#[cfg(feature = "gcp")]
const UNORDERED: Ending = Ending {
    quiet: Duration::from_secs(30),
    straggling: Duration::from_secs(15),
    ask_every: Duration::from_secs(15),
    later_ends: true,
    refuted: Duration::from_secs(300),
};

/// A log and the subscription that is removed when the replay has ended.
#[derive(Clone)]
pub(super) enum OwnLog {
    Embedded(Arc<EmbeddedLog>),
    #[cfg(feature = "gcp")]
    PubSub(Arc<PubSubLog>),
}

impl OwnLog {
    /// Opens the subscription of the replay of this id. One that `is_begun` goes on; a new one is
    /// moved to the events published from `from` on.
    ///
    /// # Errors
    /// [`ReplayError::Gone`] where the subscription of a replay that `is_begun` is not there: it
    /// alone held which events were replayed.
    pub(super) async fn open(
        settings: &Settings,
        id: &str,
        from: Timestamp,
        is_begun: bool,
    ) -> Result<Self, ReplayError> {
        let own = format!("kappa-replay-{id}");
        match settings.event_log.backend {
            EventLogBackend::Embedded => {
                let log = wiring::open_embedded_log(settings, &own, LIFE).await?;
                Self::Embedded(Arc::new(log)).begin(id, from, is_begun).await
            }
            #[cfg(feature = "gcp")]
            EventLogBackend::PubSub => {
                let mut options = wiring::cloud::pubsub_options(settings)?;
                options.subscription = own;
                let log = PubSubLog::connect(options).await?;
                if !is_begun {
                    log.make_own(&settings.event_log.subscription, from).await?;
                }
                Self::PubSub(Arc::new(log)).begin(id, from, is_begun).await
            }
            #[cfg(not(feature = "gcp"))]
            EventLogBackend::PubSub => Err(anyhow::anyhow!("this build has no Pub/Sub").into()),
        }
    }

    /// Moves a new subscription to `from`; where that fails, none is left.
    async fn begin(self, id: &str, from: Timestamp, is_begun: bool) -> Result<Self, ReplayError> {
        if is_begun {
            return if self.exists().await? { Ok(self) } else { Err(ReplayError::Gone(id.into())) };
        }
        match self.log().seek(from).await {
            Ok(_) => Ok(self),
            Err(error) => {
                // The seek's error is more useful; an unused subscription expires.
                let _ = self.remove().await;
                Err(error.into())
            }
        }
    }

    pub(super) fn log(&self) -> Arc<dyn EventLog> {
        match self {
            Self::Embedded(log) => Arc::clone(log) as Arc<dyn EventLog>,
            #[cfg(feature = "gcp")]
            Self::PubSub(log) => Arc::clone(log) as Arc<dyn EventLog>,
        }
    }

    pub(super) fn ending(&self) -> Ending {
        match self {
            Self::Embedded(_) => IN_ORDER,
            #[cfg(feature = "gcp")]
            Self::PubSub(_) => UNORDERED,
        }
    }

    /// Whether the subscription is still there.
    pub(super) async fn exists(&self) -> Result<bool, LogError> {
        match self {
            Self::Embedded(log) => log.has_subscription().await,
            #[cfg(feature = "gcp")]
            Self::PubSub(log) => log.has_own().await,
        }
    }

    /// Removes the subscription.
    pub(super) async fn remove(&self) -> Result<(), LogError> {
        match self {
            Self::Embedded(log) => log.forget_subscription().await,
            #[cfg(feature = "gcp")]
            Self::PubSub(log) => log.remove_own().await,
        }
    }
}
