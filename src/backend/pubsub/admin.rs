//! The administration of topics and subscriptions, over REST.

use std::future::Future;
use std::time::Duration;

use google_cloud_gax::error::rpc::Code;
use google_cloud_pubsub::Error;
use google_cloud_pubsub::client::{SchemaService, SubscriptionAdmin, TopicAdmin};
use google_cloud_pubsub::model::seek_request::Target;
use google_cloud_pubsub::model::{Subscription, Topic};
use google_cloud_wkt as wkt;
use kappa_actors::port::LogError;

use super::{PubSubOptions, fault};
use crate::backend::gcp;

/// How long one call may take: the callers retry by themselves.
const PATIENCE: Duration = Duration::from_secs(10);

/// The three REST clients.
pub(super) struct Admin {
    topics: TopicAdmin,
    subscriptions: SubscriptionAdmin,
    /// Permissions are tested by this one alone; it takes any resource of Pub/Sub.
    permissions: SchemaService,
}

impl Admin {
    pub(super) async fn new(options: &PubSubOptions) -> Result<Self, LogError> {
        let mut topics = TopicAdmin::builder().with_credentials(options.credentials.clone());
        let mut subscriptions =
            SubscriptionAdmin::builder().with_credentials(options.credentials.clone());
        let mut permissions =
            SchemaService::builder().with_credentials(options.credentials.clone());
        if let Some(universe) = gcp::universe(&options.credentials).await {
            topics = topics.with_universe_domain(universe.clone());
            subscriptions = subscriptions.with_universe_domain(universe.clone());
            permissions = permissions.with_universe_domain(universe);
        }
        if let Some(endpoint) = options.rest_endpoint() {
            topics = topics.with_endpoint(endpoint);
            subscriptions = subscriptions.with_endpoint(endpoint);
            permissions = permissions.with_endpoint(endpoint);
        }
        let wrong =
            |error| LogError::Refused(format!("no client for Pub/Sub can be made: {error}"));
        Ok(Self {
            topics: topics.build().await.map_err(wrong)?,
            subscriptions: subscriptions.build().await.map_err(wrong)?,
            permissions: permissions.build().await.map_err(wrong)?,
        })
    }

    /// Moves a subscription.
    pub(super) async fn seek(&self, name: &str, to: Target) -> Result<(), LogError> {
        let call = self.subscriptions.seek().set_subscription(name).set_target(to);
        match within(call.send()).await {
            Ok(_) => Ok(()),
            Err(error) if fault::lasts(&error) => {
                Err(LogError::Refused(format!("no seek: {}", fault::seeking(name, &error))))
            }
            Err(error) => Err(LogError::Unavailable(fault::seeking(name, &error))),
        }
    }

    /// Makes a snapshot of a subscription; when it will expire.
    pub(super) async fn create_snapshot(
        &self,
        name: &str,
        subscription: &str,
    ) -> Result<Option<wkt::Timestamp>, Error> {
        let call = self.subscriptions.create_snapshot().set_name(name);
        Ok(within(call.set_subscription(subscription).send()).await?.expire_time)
    }

    /// Removes a snapshot.
    pub(super) async fn delete_snapshot(&self, name: &str) -> Result<(), Error> {
        within(self.subscriptions.delete_snapshot().set_snapshot(name).send()).await
    }

    /// Returns those of `permissions` that the caller has on `resource`. The service answers an empty set, not an error,
    /// for a resource that does not exist.
    pub(super) async fn permitted(
        &self,
        resource: &str,
        permissions: &[&str],
    ) -> Result<Vec<String>, Error> {
        let call = self
            .permissions
            .test_iam_permissions()
            .set_resource(resource)
            .set_permissions(permissions.iter().copied());
        Ok(within(call.send()).await?.permissions)
    }

    pub(super) async fn topic(&self, name: &str) -> Result<Option<Topic>, Error> {
        found(within(self.topics.get_topic().set_topic(name).send()).await)
    }

    pub(super) async fn subscription(&self, name: &str) -> Result<Option<Subscription>, Error> {
        let call = self.subscriptions.get_subscription().set_subscription(name);
        found(within(call.send()).await)
    }

    /// Creates a topic; `false` where it exists by now.
    pub(super) async fn create_topic(&self, topic: Topic) -> Result<bool, Error> {
        created(within(self.topics.create_topic().with_request(topic).send()).await)
    }

    /// Removes a subscription, if there is one.
    pub(super) async fn delete_subscription(&self, name: &str) -> Result<(), Error> {
        let call = self.subscriptions.delete_subscription().set_subscription(name);
        found(within(call.send()).await).map(drop)
    }

    /// Creates a subscription; `false` where it exists by now.
    pub(super) async fn create_subscription(&self, wanted: Subscription) -> Result<bool, Error> {
        let call = self.subscriptions.create_subscription().with_request(wanted);
        created(within(call.send()).await)
    }
}

async fn within<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer) => answer,
        Err(late) => Err(Error::timeout(late)),
    }
}

fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(thing) => Ok(Some(thing)),
        Err(error) if fault::code(&error) == Some(Code::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

fn created<T>(answer: Result<T, Error>) -> Result<bool, Error> {
    match answer {
        Ok(_) => Ok(true),
        Err(error) if fault::code(&error) == Some(Code::AlreadyExists) => Ok(false),
        Err(error) => Err(error),
    }
}
