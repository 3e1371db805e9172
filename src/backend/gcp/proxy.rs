//! The proxy that the environment names for HTTPS: `HTTPS_PROXY`, but for the hosts in `NO_PROXY`.
//!
//! reqwest honours it for REST. tonic does not: the connection for BigQuery's rows is ours, and tunnels
//! through it. The clients of Pub/Sub and of Cloud Storage's other half make their own connections, and go
//! past it.

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use tonic::transport::{Channel, Endpoint};

use crate::settings::{ArchiveBackend, EventLogBackend, Settings};

/// Where these clients connect to unless an endpoint is configured, by the setting that names one.
const PAST: [(&str, &str); 2] = [
    ("event_log.pubsub.endpoint", "https://pubsub.googleapis.com"),
    ("archive.gcs.control_endpoint", "https://storage.googleapis.com"),
];

/// A channel to an endpoint, through the proxy where one is set for it. Nothing is connected yet.
pub(crate) fn channel(endpoint: &Endpoint) -> Channel {
    let Some(proxy) = of(endpoint.uri()) else { return endpoint.connect_lazy() };
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    let tunnel = Tunnel::new(proxy.uri().clone(), http);
    let tunnel = match proxy.basic_auth() {
        Some(auth) => tunnel.with_auth(auth.clone()),
        None => tunnel,
    };
    endpoint.connect_with_connector_lazy(tunnel)
}

/// One sentence for each configured client that goes past a proxy which the environment names.
pub(crate) fn ignored(settings: &Settings) -> Vec<String> {
    let log = (settings.event_log.backend == EventLogBackend::PubSub).then_some((
        PAST[0],
        &settings.event_log.pubsub.endpoint,
        "Pub/Sub's messages",
    ));
    let gcs = &settings.archive.gcs;
    let control = gcs.control_endpoint.as_ref().or(gcs.endpoint.as_ref()).cloned();
    let archive = (settings.archive.backend == ArchiveBackend::Gcs).then_some((
        PAST[1],
        &control,
        "Cloud Storage's listings, compositions and removals",
    ));
    let used = log.into_iter().chain(archive);
    used.filter_map(|((setting, service), endpoint, what)| {
        let address: Uri = endpoint.as_deref().unwrap_or(service).parse().ok()?;
        let proxy = of(&address)?;
        let host = address.host().unwrap_or_default();
        Some(format!(
            "HTTPS_PROXY is {}:{}, and {what} (gRPC) go past it to {host}: let that through, or set \
             {setting} to an address that is reached without it",
            proxy.uri().host().unwrap_or_default(),
            proxy.uri().port_u16().unwrap_or_default(),
        ))
    })
    .collect()
}

fn of(address: &Uri) -> Option<Intercept> {
    // Plaintext is a test server or an emulator.
    (address.scheme_str() == Some("https"))
        .then(|| Matcher::from_env().intercept(address))
        .flatten()
}
