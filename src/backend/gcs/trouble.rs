//! Cloud Storage's errors, sorted by what to do next.

use std::error::Error as _;

use google_cloud_gax::error::rpc::Code;
use google_cloud_storage::Error;
use kappa_actors::port::StoreError;

/// The kind of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A precondition does not hold.
    Precondition,
    /// The object is not there.
    NotFound,
    /// The bucket is not there.
    NoBucket,
    /// The credentials may not do this.
    Forbidden,
    /// The request is wrong and stays so.
    Invalid,
    /// Anything else may pass.
    Transient,
}

/// Returns the kind of an error that came by HTTP or by gRPC.
pub(super) fn trouble(error: &Error) -> Trouble {
    let http = error.http_status_code();
    let code = error.status().map(|status| status.code);
    match (http, code) {
        // The service's own words, the same for both protocols:
        // https://cloud.google.com/storage/docs/json_api/v1/status-codes#404-not-found
        (Some(404), _) | (_, Some(Code::NotFound)) => {
            if said(error).to_lowercase().contains("bucket does not exist") {
                Trouble::NoBucket
            } else {
                Trouble::NotFound
            }
        }
        (Some(412), _) | (_, Some(Code::FailedPrecondition)) => Trouble::Precondition,
        (Some(401 | 403), _) | (_, Some(Code::PermissionDenied | Code::Unauthenticated)) => {
            Trouble::Forbidden
        }
        (Some(400), _) | (_, Some(Code::InvalidArgument | Code::OutOfRange)) => Trouble::Invalid,
        _ => Trouble::Transient,
    }
}

/// The error of a call about the object `name`, with a way out where there is one.
pub(super) fn store_error(error: &Error, bucket: &str, name: &str) -> StoreError {
    let bucket = bucket.rsplit('/').next().unwrap_or(bucket);
    let said = said(error);
    match trouble(error) {
        Trouble::NotFound => StoreError::NotFound(name.to_owned()),
        Trouble::NoBucket => StoreError::Unavailable(format!(
            "there is no bucket {bucket}: create it with `kappa setup`"
        )),
        Trouble::Forbidden => StoreError::Unavailable(format!(
            "the bucket {bucket} may not be used so ({said}): grant {} on it",
            missing_role(&said)
        )),
        Trouble::Invalid => StoreError::Refused(format!("{name}: {said}")),
        Trouble::Precondition | Trouble::Transient => {
            StoreError::Unavailable(format!("bucket {bucket}: {said}"))
        }
    }
}

/// The role that holds the permission which the service's words name:
/// <https://cloud.google.com/storage/docs/access-control/iam-roles>
fn missing_role(said: &str) -> &'static str {
    if said.contains("storage.buckets.create") {
        "roles/storage.admin"
    } else if said.contains("storage.buckets.") {
        "roles/storage.legacyBucketReader"
    } else {
        "roles/storage.objectUser"
    }
}

/// The service's words.
fn said(error: &Error) -> String {
    if let (true, Some(silence)) = (error.is_timeout(), error.source()) {
        return silence.to_string();
    }
    match (error.status(), error.http_payload()) {
        (Some(status), _) if !status.message.is_empty() => status.message.clone(),
        (_, Some(payload)) if !payload.is_empty() => {
            String::from_utf8_lossy(payload).trim().to_owned()
        }
        _ => error.to_string(),
    }
}
