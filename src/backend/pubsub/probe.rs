//! Whether the subscription can be read, asked once before anything else starts.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use google_cloud_gax::error::rpc::Code;
use google_cloud_pubsub::Error;
use kappa_actors::port::LogError;

use super::admin::Admin;
use super::session::{SETTLED, Session};
use super::{PubSubOptions, fault};

/// What reading and seeking need.
pub(super) const CONSUME: &str = "pubsub.subscriptions.consume";

/// Asks over REST for the permission; where the endpoint serves no REST, the streams' first word
/// decides.
pub(super) async fn at_start(
    options: &PubSubOptions,
    admin: &Admin,
    session: impl Future<Output = Option<Arc<Session>>>,
) -> Result<(), LogError> {
    let name = options.subscription_name();
    match admin.permitted(&name, &[CONSUME]).await {
        Ok(permitted) if permitted.iter().any(|one| one == CONSUME) => Ok(()),
        Ok(_) => Err(LogError::Unavailable(lacking(admin, &name).await)),
        Err(error) if served(options, &error) => {
            Err(LogError::Unavailable(fault::reading(&name, &error)))
        }
        Err(_) => {
            reachable(options).await?;
            let Some(session) = session.await else { return Ok(()) };
            let word = session.loans.first_word(session.streams());
            // An open stream without messages is silent for so long.
            tokio::time::timeout(SETTLED + Duration::from_secs(1), word).await.unwrap_or(Ok(()))
        }
    }
}

/// An empty answer may mean that the subscription is missing or that permission is: asks which.
async fn lacking(admin: &Admin, name: &str) -> String {
    match admin.subscription(name).await {
        Ok(None) => fault::missing(name),
        _ => fault::forbidden(name, "roles/pubsub.subscriber"),
    }
}

/// Whether `error` is an answer of a REST server. The service itself always is one; another
/// endpoint may speak gRPC alone, and then answers in no way that REST knows.
pub(super) fn served(options: &PubSubOptions, error: &Error) -> bool {
    options.rest_endpoint().is_none()
        || match error.status() {
            Some(status) => status.code != Code::Unimplemented,
            None => matches!(error.http_status_code(), Some(401 | 403 | 429 | 500 | 503)),
        }
}

/// Checks that a configured endpoint has a listener: a stream would retry without end or report.
async fn reachable(options: &PubSubOptions) -> Result<(), LogError> {
    let Some(endpoint) = &options.endpoint else { return Ok(()) };
    let Ok(uri) = endpoint.parse::<http::Uri>() else {
        return Err(LogError::Refused(format!("`{endpoint}` is no address of Pub/Sub")));
    };
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
    let host = uri.host().unwrap_or_default();
    let connect = tokio::net::TcpStream::connect((host, port));
    let why = match tokio::time::timeout(Duration::from_secs(5), connect).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(late) => late.to_string(),
    };
    Err(LogError::Unavailable(format!("no answer from {endpoint}: {why}")))
}
