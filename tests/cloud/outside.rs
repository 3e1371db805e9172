//! What lies between a daemon and the services: tokens, universes and proxies.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use google_cloud_auth::credentials::{CacheableResource, CredentialsProvider, EntityTag};
use google_cloud_auth::errors::CredentialsError;
use http::{Extensions, HeaderMap};
use kappa::backend::bigquery::{BigQueryOptions, WriteMode};
use kappa_actors::port::Warehouse as _;
use kappa_actors::row::ColumnType;
use kappa_actors::testing::warehouse::{row, table, text, version};
use kappa_test_servers::bigquery::BigQueryServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::dataset::Dataset;
use super::loopback;
use super::replicas::{PATIENCE, Services, generated};

/// Hands out one token after another, as the hours pass.
#[derive(Clone, Debug, Default)]
struct Hours(Arc<AtomicUsize>);

impl Hours {
    fn token(&self) -> String {
        format!("Bearer hour-{}", self.0.load(Ordering::Relaxed))
    }
}

impl CredentialsProvider for Hours {
    async fn headers(
        &self,
        _: Extensions,
    ) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        let mut data = HeaderMap::new();
        data.insert("authorization", self.token().parse().unwrap());
        Ok(CacheableResource::New { entity_tag: EntityTag::new(), data })
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}

#[tokio::test]
async fn a_stream_is_finalized_with_the_token_of_the_hour_in_which_it_ends() {
    let server = BigQueryServer::start().await.unwrap();
    let hours = Hours::default();
    let options = BigQueryOptions {
        endpoint: Some(server.rest_endpoint()),
        write_endpoint: Some(server.grpc_endpoint()),
        credentials: hours.clone().into(),
        ..loopback::bigquery("p", "d", WriteMode::Append)
    };
    let dataset = Dataset::open(options, None);
    let columns = [("id", ColumnType::String), ("_version", ColumnType::Bytes)];
    let spec = table("orders", &columns, 1);
    dataset.ensure_table(&spec).await.unwrap();
    server.control().accept_only(&hours.token());
    let rows = |id: &str| Arc::new(vec![row([text(id), version(1)])]);
    assert_eq!(dataset.write(&spec, rows("a")).await.unwrap(), []);
    // The connection lives on, and its token does not.
    hours.0.fetch_add(1, Ordering::Relaxed);
    server.control().accept_only(&hours.token());
    assert_eq!(dataset.write(&spec, rows("b")).await.unwrap(), []);
    dataset.warehouse.close().await;
    let streams = server.control().streams();
    assert_eq!(streams.len(), 1, "{streams:?}");
    assert!(streams[0].finalized && streams[0].rows == 2, "{streams:?}");
}

/// A proxy that notes where it is asked to connect to, and refuses.
struct ConnectProxy {
    address: String,
    asked: Arc<Mutex<BTreeSet<String>>>,
}

impl ConnectProxy {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let noted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = connection.read_u8().await else { return };
                        head.push(byte);
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let target = head.strip_prefix("CONNECT ").and_then(|it| it.split(' ').next());
                    noted.lock().unwrap().insert(target.unwrap_or(&head).to_owned());
                    let _ = connection.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
                });
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> BTreeSet<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Runs kappa in an environment with that proxy; returns its output.
async fn kappa(proxy: &ConnectProxy, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kappa"));
    command.args(arguments).env("HTTPS_PROXY", &proxy.address).env_remove("NO_PROXY");
    command.env_remove("GOOGLE_CLOUD_UNIVERSE_DOMAIN");
    let run = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn all_services_are_asked_in_the_universe_of_the_credentials() {
    let proxy = ConnectProxy::start().await;
    let account = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cloud/outside/account.json");
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/config/gcp.toml");
    let set = [
        "gcp.project=p",
        &format!("gcp.credentials={account}"),
        "archive.gcs.bucket=events-of-p",
        "archive.gcs.attempt_timeout=1s",
        // Not an address of that universe, but one that is reached here.
        "archive.gcs.control_endpoint=http://127.0.0.1:1",
    ];
    let mut arguments = vec!["check", "--connect", "--config", config];
    set.iter().for_each(|set| arguments.extend(["--set", set]));
    let told = kappa(&proxy, &arguments).await;
    let asked = proxy.asked();
    let expected = ["bigquery.example.test:443", "pubsub.example.test:443"];
    assert_eq!(asked, expected.map(str::to_owned).into(), "{told}");
    assert!(!told.contains("niverse"), "{told}");

    // Another universe in the environment is a contradiction, and named.
    let mut command = Command::new(env!("CARGO_BIN_EXE_kappa"));
    command.args(&arguments).env("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "other.test");
    command.env("HTTPS_PROXY", &proxy.address);
    let run = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let told = String::from_utf8(run.stderr).unwrap();
    let words =
        "GOOGLE_CLOUD_UNIVERSE_DOMAIN is other.test, and the credentials are of example.test";
    assert!(told.contains(words), "{told}");
    assert_eq!(proxy.asked(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_through_the_proxy_and_what_goes_past_it_is_named_at_start() {
    let services = Services::start().await;
    let proxy = ConnectProxy::start().await;
    services.publish(&generated(20));
    let settings = ["warehouse.bigquery.write_endpoint=https://rows.example.test".to_owned()];
    let environment = [("HTTPS_PROXY", proxy.address.clone())];
    let daemon = services.daemon_in("one", &settings, &environment);
    let began = std::time::Instant::now();
    while proxy.asked().is_empty() {
        assert!(began.elapsed() < PATIENCE, "nothing came to the proxy");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(proxy.asked(), ["rows.example.test:443".to_owned()].into());
    drop(daemon);
    let log = std::fs::read_to_string(services.folder.path().join("one.log")).unwrap();
    assert!(!log.contains("go past it"), "endpoints in plaintext have no proxy: {log}");

    let arguments = [
        "check",
        "--set=gcp.project=p",
        "--set=event_log.backend=pubsub",
        "--set=event_log.pubsub.topic=events",
        "--set=archive.backend=gcs",
        "--set=archive.gcs.bucket=events-of-p",
    ];
    let told = kappa(&proxy, &arguments).await;
    for words in [
        "Pub/Sub's messages (gRPC) go past it to pubsub.googleapis.com",
        "removals (gRPC) go past it to storage.googleapis.com",
    ] {
        assert!(told.contains(words), "{told}");
    }
    let told = kappa(&proxy, &["check"]).await;
    assert!(!told.contains("go past it"), "{told}");
}
