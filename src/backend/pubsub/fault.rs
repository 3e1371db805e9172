//! Translates the answers of Pub/Sub into errors with a next step.

use google_cloud_gax::error::rpc::Code;
use google_cloud_pubsub::Error;

/// Returns the code of an error: the service's own, or the one of its HTTP status.
pub(super) fn code(error: &Error) -> Option<Code> {
    if let Some(status) = error.status() {
        return Some(status.code);
    }
    match error.http_status_code()? {
        400 => Some(Code::InvalidArgument),
        401 => Some(Code::Unauthenticated),
        403 => Some(Code::PermissionDenied),
        404 => Some(Code::NotFound),
        409 => Some(Code::AlreadyExists),
        429 => Some(Code::ResourceExhausted),
        501 => Some(Code::Unimplemented),
        500..=599 => Some(Code::Unavailable),
        _ => None,
    }
}

/// Whether the same request fails in the same way until someone changes something.
pub(super) fn lasts(error: &Error) -> bool {
    matches!(
        code(error),
        Some(
            Code::NotFound
                | Code::PermissionDenied
                | Code::InvalidArgument
                | Code::FailedPrecondition
                | Code::Unauthenticated
                | Code::OutOfRange
                | Code::Unimplemented
        )
    )
}

/// Why reading `subscription` failed.
pub(super) fn reading(subscription: &str, error: &Error) -> String {
    match code(error) {
        Some(Code::NotFound) => missing(subscription),
        Some(Code::PermissionDenied) => forbidden(subscription, "roles/pubsub.subscriber"),
        _ => other(subscription, error),
    }
}

/// Why publishing to `topic` failed.
pub(super) fn publishing(topic: &str, error: &Error) -> String {
    match code(error) {
        Some(Code::NotFound) => missing(topic),
        Some(Code::PermissionDenied) => forbidden(topic, "roles/pubsub.publisher"),
        _ => other(topic, error),
    }
}

/// Why moving `subscription` failed. Seeking needs `pubsub.subscriptions.consume`, which the
/// subscriber's role holds: <https://cloud.google.com/pubsub/docs/access-control>.
pub(super) fn seeking(subscription: &str, error: &Error) -> String {
    reading(subscription, error)
}

/// Why looking at `name` failed.
pub(super) fn describing(name: &str, error: &Error) -> String {
    match code(error) {
        Some(Code::PermissionDenied) => forbidden(name, "roles/pubsub.viewer"),
        _ => managing(name, error),
    }
}

/// Why creating or removing `name` failed.
pub(super) fn managing(name: &str, error: &Error) -> String {
    match code(error) {
        Some(Code::NotFound) => missing(name),
        Some(Code::PermissionDenied) => forbidden(name, "roles/pubsub.editor"),
        _ => other(name, error),
    }
}

pub(super) fn missing(name: &str) -> String {
    format!("{name} does not exist; run `kappa setup` to create it, or correct its name")
}

pub(super) fn forbidden(name: &str, role: &str) -> String {
    format!("permission on {name} is lacking; grant {role} on it to the account kappa runs as")
}

fn other(name: &str, error: &Error) -> String {
    match code(error) {
        Some(Code::Unauthenticated) => {
            format!("{name}: the credentials were not accepted: {error}")
        }
        _ if error.is_authentication() => format!("{name}: no credentials could be had: {error}"),
        _ => format!("{name}: {error}"),
    }
}
