//! The certificate that the endpoint shows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// The files of `status.tls`.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// `status.tls.certificate`
    pub certificate: PathBuf,
    /// `status.tls.key`
    pub key: PathBuf,
}

/// Why TLS cannot be served: the setting, the file, the reason. A private key is never shown.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file holds nothing that can be used.
    #[error("{setting}: {}: {reason}\nhint: it must be a readable PEM file with {wanted}", file.display())]
    File {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        file: PathBuf,
        /// Why it cannot be used.
        reason: String,
        /// The contents that it must have.
        wanted: &'static str,
    },
    /// Certificate and key cannot be used together.
    #[error("status.tls: {0}\nhint: the key must be the one that the certificate was made for")]
    Pair(#[from] rustls::Error),
}

/// Reads the files.
pub(super) fn config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let certificates = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| TlsError::File {
        setting: "status.tls.key",
        file: files.key.clone(),
        reason: error.to_string(),
        wanted: "the certificate's private key",
    })?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The certificates in the file, at least one.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |reason: String| TlsError::File {
        setting: "status.tls.certificate",
        file: file.to_owned(),
        reason,
        wanted: "the certificate, and those between it and its root",
    };
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let all = all.map_err(|error| wrong(error.to_string()))?;
    if all.is_empty() {
        return Err(wrong("holds no certificate".to_owned()));
    }
    Ok(all)
}
