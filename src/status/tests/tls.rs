//! HTTPS. `localhost.pem` was made for these tests, by `openssl req -x509`.

use std::fs;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::*;

const CERTIFICATE: &[u8] = include_bytes!("tls/localhost.pem");
const KEY: &[u8] = include_bytes!("tls/localhost.key");
const OTHER_KEY: &[u8] = include_bytes!("tls/other.key");

fn with_files(folder: &Path, certificate: &[u8], key: &[u8]) -> StatusOptions {
    let files = TlsFiles { certificate: folder.join("a.pem"), key: folder.join("a.key") };
    fs::write(&files.certificate, certificate).unwrap();
    fs::write(&files.key, key).unwrap();
    StatusOptions { tls: Some(files), ..options() }
}

fn connector() -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CERTIFICATE).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn https_is_served_with_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let served = served(with_files(folder.path(), CERTIFICATE, KEY), Answer::Takes).await;
    let name = "localhost".try_into().unwrap();
    let mut stream = connector().connect(name, served.connect().await).await.unwrap();
    let body = "{\"a\":1}";
    let head =
        "POST /v1/events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 7";
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(served.taken(), [body]);

    let mut plain = served.connect().await;
    plain.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert!(!read_all(&mut plain).await.contains("HTTP/1.1 200"), "plain HTTP is not served");
}

#[tokio::test]
async fn the_client_trusts_the_given_certificates_alone() {
    let folder = tempfile::tempdir().unwrap();
    let served = served(with_files(folder.path(), CERTIFICATE, KEY), Answer::Takes).await;
    let url = served.url.replace("http://", "https://");
    let show = |ca: Option<&str>| {
        let options = client::ShowOptions {
            url: url.clone(),
            ca: ca.map(|name| folder.path().join(name)),
            token: None,
            watch: false,
            format: client::Format::Plain,
        };
        tokio::task::spawn_blocking(move || {
            let shown = client::show(&options, &mut Vec::new());
            shown.map_err(|error| error.to_string())
        })
    };
    assert_eq!(show(Some("a.pem")).await.unwrap(), Ok(()));
    let error = show(None).await.unwrap().unwrap_err();
    assert!(error.starts_with("no daemon answers at https://127.0.0.1:"), "{error}");
    for file in ["a.key", "none.pem"] {
        let error = show(Some(file)).await.unwrap().unwrap_err();
        assert!(error.starts_with("--ca ") && error.contains("\nhint: "), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_never_ends_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let served = served(with_files(folder.path(), CERTIFICATE, KEY), Answer::Takes).await;
    let mut stream = served.connect().await;
    assert_eq!(read_all(&mut stream).await, "");
}

#[tokio::test]
async fn files_that_are_no_pair_are_refused_at_the_start_without_showing_them() {
    let folder = tempfile::tempdir().unwrap();
    for (certificate, key, word) in [
        (CERTIFICATE, OTHER_KEY, "status.tls: "),
        (KEY, KEY, "status.tls.certificate: "),
        (CERTIFICATE, CERTIFICATE, "status.tls.key: "),
        (CERTIFICATE, &b"-----BEGIN PRIVATE KEY-----\nsecret"[..], "status.tls.key: "),
    ] {
        let options = with_files(folder.path(), certificate, key);
        let inbox = Arc::new(Inbox::new(Answer::Takes));
        let error = StatusServer::bind(options, Board::new(), inbox).await.unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with(word) && error.contains("\nhint: "), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
