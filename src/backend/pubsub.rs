#![doc = include_str!("pubsub/README.md")]

mod acknowledged;
mod admin;
mod fault;
mod job;
mod kills;
mod loans;
mod options;
mod probe;
mod publish;
mod session;
pub mod setup;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use google_cloud_pubsub::client::Subscriber;
use google_cloud_pubsub::model::seek_request::Target;
use google_cloud_wkt as wkt;
use kappa_actors::message::{Lease, NewMessage};
use kappa_actors::port::{
    Acknowledged, Backlog, EventLog, LogError, PublishError, Pulled, Room, Sought,
};
use kappa_actors::time::Timestamp;
use kappa_actors::vitals::Counter;
use tokio::sync::{OnceCell, RwLock};

use admin::Admin;
pub use kills::TriedLog;
pub use options::PubSubOptions;
use publish::TopicPublisher;
use session::Session;

/// How long a seek waits for the acknowledgements from before it.
const SEEK_FLUSH: Duration = Duration::from_secs(10);
/// How long closing waits for the last acknowledgements: half of Kubernetes' usual grace of 30 s.
const CLOSE_FLUSH: Duration = Duration::from_secs(15);

/// A topic to publish to and a subscription to read. Nothing is pulled before the first
/// [`EventLog::pull`] or [`EventLog::backlog`], so that a command that only publishes takes no
/// messages from a daemon.
pub struct PubSubLog {
    options: Arc<PubSubOptions>,
    subscriber: Subscriber,
    admin: Arc<Admin>,
    publisher: OnceCell<TopicPublisher>,
    reading: RwLock<Reading>,
    /// Leases are numbered through all sessions, so that a void one never means another message.
    leases: loans::Numbers,
    /// Through all sessions too.
    lost_acknowledgements: Arc<Counter>,
    proven: OnceCell<()>,
}

enum Reading {
    Idle,
    Running(Arc<Session>),
    Closed,
}

impl PubSubLog {
    /// Prepares the clients; the first call to the service is made by the first use.
    ///
    /// # Errors
    /// [`LogError::Refused`] for an address or a name that cannot be right.
    pub async fn connect(options: PubSubOptions) -> Result<Self, LogError> {
        let subscriber = session::subscriber(&options).await?;
        let admin = Arc::new(Admin::new(&options).await?);
        Ok(Self {
            options: Arc::new(options),
            subscriber,
            admin,
            publisher: OnceCell::new(),
            reading: RwLock::new(Reading::Idle),
            leases: loans::Numbers::default(),
            lost_acknowledgements: Arc::default(),
            proven: OnceCell::new(),
        })
    }

    /// The session that reads, started if there is none; `None` once closed.
    async fn session(&self) -> Option<Arc<Session>> {
        match &*self.reading.read().await {
            Reading::Running(session) => return Some(session.clone()),
            Reading::Closed => return None,
            Reading::Idle => {}
        }
        let mut reading = self.reading.write().await;
        match &*reading {
            Reading::Running(session) => Some(session.clone()),
            Reading::Closed => None,
            Reading::Idle => {
                let (options, admin) = (self.options.clone(), self.admin.clone());
                let numbers = self.leases.clone();
                let lost = Arc::clone(&self.lost_acknowledgements);
                let session =
                    Session::start(options, self.subscriber.clone(), admin, numbers, lost);
                *reading = Reading::Running(session.clone());
                Some(session)
            }
        }
    }

    /// Returns the running session, if any: without a session there are no leases.
    async fn running(&self) -> Option<Arc<Session>> {
        match &*self.reading.read().await {
            Reading::Running(session) => Some(session.clone()),
            Reading::Idle | Reading::Closed => None,
        }
    }
}

impl Drop for PubSubLog {
    /// Stops the tasks if [`EventLog::close`] was not called; messages on loan are returned.
    fn drop(&mut self) {
        if let Reading::Running(session) = self.reading.get_mut() {
            session.abandon();
        }
    }
}

#[async_trait]
impl EventLog for PubSubLog {
    async fn pull(&self, room: Room, patience: Duration) -> Result<Pulled, LogError> {
        match self.session().await {
            Some(session) => session.pull(room, patience).await,
            None => Err(LogError::Unavailable("it is closed".into())),
        }
    }

    async fn acknowledge(&self, leases: &[Lease]) -> Result<(), LogError> {
        match self.running().await {
            Some(session) => session.acknowledge(leases).await,
            None => Ok(()),
        }
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError> {
        if let Some(session) = self.running().await {
            session.loans.give_back(leases);
        }
        Ok(())
    }

    async fn seek(&self, to: Timestamp) -> Result<Sought, LogError> {
        // Held throughout: no pull and no acknowledgement happens while the epoch changes.
        let mut reading = self.reading.write().await;
        if let Reading::Running(session) = &*reading
            && !session.end(SEEK_FLUSH).await
        {
            *reading = Reading::Idle;
            return Err(LogError::Unavailable(
                "acknowledgements from before the seek are still being sent; seek again".into(),
            ));
        }
        if !matches!(*reading, Reading::Closed) {
            *reading = Reading::Idle;
        }
        // An account without permission to read the subscription must still be able to seek.
        if let Ok(Some(found)) = self.admin.subscription(&self.options.subscription_name()).await {
            job::check_reach(&found.name, job::reach(&found), to)?;
        }
        let target = Target::Time(Box::new(to_wkt(to)));
        self.admin.seek(&self.options.subscription_name(), target).await?;
        Ok(Sought { messages: None })
    }

    async fn publish(&self, messages: Vec<NewMessage>) -> Vec<Result<String, PublishError>> {
        if messages.is_empty() {
            return Vec::new();
        }
        let publisher =
            self.publisher.get_or_try_init(|| TopicPublisher::connect(self.options.clone())).await;
        match publisher {
            Ok(publisher) => publisher.publish(messages).await,
            Err(words) => {
                messages.iter().map(|_| Err(PublishError::Refused(words.clone()))).collect()
            }
        }
    }

    async fn backlog(&self) -> Result<Backlog, LogError> {
        self.proven
            .get_or_try_init(|| async {
                let session = self.session();
                probe::at_start(&self.options, &self.admin, session).await
            })
            .await?;
        let Some(session) = self.running().await else { return Ok(Backlog::default()) };
        session.loans.trouble()?;
        Ok(Backlog { messages: None, oldest: session.loans.oldest() })
    }

    fn lost_acknowledgements(&self) -> u64 {
        self.lost_acknowledgements.get()
    }

    async fn acknowledged(&self) -> Result<Acknowledged, LogError> {
        acknowledged::ask(&self.options, &self.admin).await.map(Acknowledged::Before)
    }

    async fn close(&self) {
        let mut reading = self.reading.write().await;
        if let Reading::Running(session) = std::mem::replace(&mut *reading, Reading::Closed)
            && !session.end(CLOSE_FLUSH).await
        {
            tracing::warn!(
                subscription = %self.options.subscription_name(),
                "Pub/Sub did not take the last acknowledgements within {CLOSE_FLUSH:?}; \
                 their messages come again"
            );
        }
    }
}

/// A time as the API has it.
fn to_wkt(time: Timestamp) -> wkt::Timestamp {
    let micros = time.micros();
    // Below 1e9, so the cast is exact.
    let nanos = (micros.rem_euclid(1_000_000) * 1_000) as i32;
    wkt::Timestamp::clamp(micros.div_euclid(1_000_000), nanos)
}

/// A time of the API in ours.
fn from_wkt(time: &wkt::Timestamp) -> Timestamp {
    Timestamp::from_micros(time.seconds() * 1_000_000 + i64::from(time.nanos()) / 1_000)
}
