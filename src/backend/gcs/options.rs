use std::time::Duration;

use google_cloud_auth::credentials::Credentials;

/// Where the archive is.
#[derive(Clone, Debug)]
pub struct GcsOptions {
    /// The bucket.
    pub bucket: String,
    /// The prefix of every object's name, such as `kappa/`; may be empty.
    pub prefix: String,
    /// Another address than the service's for JSON/HTTP: `http://host:port`.
    pub endpoint: Option<String>,
    /// Another address than the service's for gRPC; where it is not set, `endpoint`.
    pub control_endpoint: Option<String>,
    /// Who asks.
    pub credentials: Credentials,
    /// How long one call may take, its retries included.
    pub attempt_timeout: Duration,
}
