//! Up to when a subscription is acknowledged.
//!
//! The service does not say so of a subscription, but it does of a snapshot of one: that is guaranteed
//! to hold its oldest unacknowledged message, and so expires seven days after that was published.
//! <https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.snapshots#Snapshot>

use std::time::Duration;

use google_cloud_gax::error::rpc::Code;
use google_cloud_pubsub::Error;
use kappa_actors::port::LogError;
use kappa_actors::time::Timestamp;

use super::admin::Admin;
use super::{PubSubOptions, fault, from_wkt};

/// How long a snapshot lives whose subscription has nothing to deliver.
const LIFETIME: Duration = Duration::from_secs(7 * 86_400);

/// Makes a snapshot, reads when it expires, and removes it.
pub(super) async fn ask(options: &PubSubOptions, admin: &Admin) -> Result<Timestamp, LogError> {
    let subscription = options.subscription_name();
    let name = options.snapshot_name(&format!("kappa-audit-{:016x}", rand::random::<u64>()));
    let made = admin.create_snapshot(&name, &subscription).await;
    let expires = made.map_err(|error| refusal(&subscription, &error))?;
    if let Err(error) = admin.delete_snapshot(&name).await {
        tracing::warn!("the snapshot {name} could not be removed, and expires in a week: {error}");
    }
    let expires = expires
        .ok_or_else(|| LogError::Refused(format!("{name}: the snapshot has no expiry time")))?;
    let lifetime = i64::try_from(LIFETIME.as_micros()).unwrap_or(i64::MAX);
    Ok(Timestamp::from_micros(from_wkt(&expires).micros().saturating_sub(lifetime)))
}

fn refusal(subscription: &str, error: &Error) -> LogError {
    match fault::code(error) {
        // The service makes none that would expire within an hour.
        Some(Code::FailedPrecondition) => LogError::Refused(format!(
            "{subscription}: its oldest unacknowledged message is older than 6 days and 23 hours"
        )),
        Some(Code::PermissionDenied) => LogError::Refused(format!(
            "what {subscription} has not acknowledged is read from a snapshot of it, and the \
             permission to make one is lacking; grant roles/pubsub.editor on its project"
        )),
        _ if fault::lasts(error) => LogError::Refused(fault::managing(subscription, error)),
        _ => LogError::Unavailable(fault::managing(subscription, error)),
    }
}
