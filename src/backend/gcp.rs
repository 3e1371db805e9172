//! Who asks Google Cloud.
//!
//! A plaintext endpoint is an emulator or a test server: it never gets to see a real token. Nothing
//! here touches the network; a key that is revoked shows at the first call.

pub(crate) mod proxy;

use std::path::Path;

use anyhow::{Context as _, bail};
use google_cloud_auth::credentials::{
    self, Credentials, anonymous, external_account, impersonated, service_account, user_account,
};
use serde_json::Value;

/// What all three services are asked with.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Returns the credentials for a backend at the configured ones of `endpoints`.
///
/// `file` holds a service account's key, the configuration of an external account (workload
/// identity federation), an impersonation or a user's login; if it is empty, application default
/// credentials are taken. If any endpoint is plaintext, no credentials are used.
///
/// # Errors
/// When the file cannot be read or holds no credentials, naming it.
pub fn credentials(file: &str, endpoints: &[Option<&str>]) -> anyhow::Result<Credentials> {
    if endpoints.iter().flatten().any(|endpoint| endpoint.starts_with("http://")) {
        return Ok(anonymous::Builder::new().build());
    }
    if file.is_empty() {
        let hint = "no application default credentials: run `gcloud auth application-default \
                    login`, or name a file with gcp.credentials";
        return credentials::Builder::default().with_scopes([SCOPE]).build().context(hint);
    }
    read(Path::new(file)).with_context(|| format!("gcp.credentials: {file}"))
}

/// The universe domain of the Google crates: where it is set it must be that of the credentials.
const UNIVERSE: &str = "GOOGLE_CLOUD_UNIVERSE_DOMAIN";
/// The domain of the public cloud.
const PUBLIC: &str = "googleapis.com";

/// The universe domain of these credentials, where it is another than the public cloud's. All services are
/// at addresses below it.
pub(crate) async fn universe(credentials: &Credentials) -> Option<String> {
    credentials.universe_domain().await.filter(|domain| domain != PUBLIC)
}

/// The address of a service for these credentials: `https://bigquery.googleapis.com`.
///
/// # Errors
/// Words, where the environment names another universe than the credentials are of.
pub(crate) async fn service(name: &str, credentials: &Credentials) -> Result<String, String> {
    let domain = universe(credentials).await.unwrap_or_else(|| PUBLIC.to_owned());
    match std::env::var(UNIVERSE) {
        Ok(set) if !set.is_empty() && set != domain => Err(format!(
            "{UNIVERSE} is {set}, and the credentials are of {domain}: unset it, or take credentials of \
             that universe"
        )),
        _ => Ok(format!("https://{name}.{domain}")),
    }
}

fn read(path: &Path) -> anyhow::Result<Credentials> {
    let text = std::fs::read(path)?;
    // The parser's own words could quote the key.
    let Ok(json) = serde_json::from_slice::<Value>(&text) else {
        bail!("the file is not JSON: download the key or the configuration again");
    };
    let kind = json.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let built = match kind.as_str() {
        "service_account" => service_account::Builder::new(json)
            .with_access_specifier(service_account::AccessSpecifier::from_scopes([SCOPE]))
            .build(),
        "external_account" => external_account::Builder::new(json).with_scopes([SCOPE]).build(),
        "impersonated_service_account" => {
            impersonated::Builder::new(json).with_scopes([SCOPE]).build()
        }
        "authorized_user" => user_account::Builder::new(json).with_scopes([SCOPE]).build(),
        other => bail!(
            "its type is {other:?}: use the key of a service account or the configuration of an \
             external account"
        ),
    };
    Ok(built?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn refusal(path: &str) -> String {
        format!("{:#}", credentials(path, &[None]).unwrap_err())
    }

    #[tokio::test]
    async fn a_plaintext_endpoint_gets_no_token_and_no_file_is_read() {
        let endpoints = [None, Some("http://localhost:1")];
        let nobody = credentials("/no/such/file", &endpoints).unwrap();
        let headers = nobody.headers(http::Extensions::new()).await.unwrap();
        assert!(!format!("{headers:?}").to_lowercase().contains("authorization"), "{headers:?}");
        assert!(refusal("/no/such/file").starts_with("gcp.credentials: /no/such/file: "));
    }

    #[test]
    fn a_file_that_holds_no_credentials_is_named_and_never_quoted() {
        let torn = file("{\"private_key\": \"hush");
        let told = refusal(torn.path().to_str().unwrap());
        assert!(told.contains("is not JSON") && !told.contains("hush"), "{told}");
        let odd = file(r#"{"type": "gdch", "private_key": "hush"}"#);
        let told = refusal(odd.path().to_str().unwrap());
        assert!(told.contains("its type is \"gdch\"") && !told.contains("hush"), "{told}");
    }

    #[tokio::test]
    async fn an_external_account_is_taken() {
        let config = r#"{"type": "external_account", "audience": "//iam.googleapis.com/p",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": "https://sts.googleapis.com/v1/token",
            "credential_source": {"file": "/var/run/token"}}"#;
        let file = file(config);
        assert!(credentials(file.path().to_str().unwrap(), &[None]).is_ok());
    }
}
