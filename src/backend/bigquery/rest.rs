//! BigQuery's REST interface, asked with bodies of our own: the crate's model of a table knows
//! neither primary keys nor `maxStaleness`.

use std::fmt;

use google_cloud_auth::credentials::{CacheableResource, Credentials};
use http::{Extensions, HeaderMap};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::BigQueryOptions;
use super::fault::missing_role;
use crate::backend::gcp;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum RestError {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// There is such a thing already, or it was changed meanwhile.
    #[error("{0}")]
    Conflict(String),
    /// The service rejects the request as invalid.
    #[error("{0}")]
    Invalid(String),
    /// The caller may not.
    #[error("{0}")]
    Forbidden(String),
    /// Later it may work.
    #[error("{0}")]
    Unavailable(String),
}

/// A value of a query parameter. Page tokens are opaque, and may hold `+`, `/` and `=`.
pub(super) fn escaped(value: &str) -> impl fmt::Display {
    percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC)
}

/// A client of one dataset.
#[derive(Clone)]
pub(super) struct Rest {
    http: Client,
    credentials: Credentials,
    /// The configured address; `None` is the service's own.
    endpoint: Option<String>,
    project: String,
    dataset: String,
    location: String,
}

impl Rest {
    pub(super) fn new(options: &BigQueryOptions) -> Result<Self, RestError> {
        let http = Client::builder()
            .timeout(options.request_timeout)
            .build()
            .map_err(|error| RestError::Invalid(format!("no client can be made: {error}")))?;
        let endpoint = options.endpoint.as_deref().map(|endpoint| {
            endpoint.trim_end_matches('/').trim_end_matches("/bigquery/v2").to_owned()
        });
        Ok(Self {
            http,
            credentials: options.credentials.clone(),
            endpoint,
            project: options.project.clone(),
            dataset: options.dataset.clone(),
            location: options.location.clone(),
        })
    }

    /// The dataset's resource.
    pub(super) async fn dataset(&self) -> Result<Value, RestError> {
        self.send(Method::GET, &format!("/datasets/{}", self.dataset), None, None).await
    }

    pub(super) async fn create_dataset(&self) -> Result<Value, RestError> {
        let body = json!({
            "datasetReference": { "projectId": self.project, "datasetId": self.dataset },
            "location": self.location,
        });
        self.send(Method::POST, "/datasets", Some(&body), None).await
    }

    /// A table's or a view's resource.
    pub(super) async fn table(&self, name: &str) -> Result<Value, RestError> {
        self.send(Method::GET, &self.table_path(name), None, None).await
    }

    /// Makes a table or a view; the reference is filled in here.
    pub(super) async fn create_table(
        &self,
        name: &str,
        mut body: Value,
    ) -> Result<Value, RestError> {
        body["tableReference"] =
            json!({ "projectId": self.project, "datasetId": self.dataset, "tableId": name });
        self.send(Method::POST, &format!("/datasets/{}/tables", self.dataset), Some(&body), None)
            .await
    }

    /// Changes a table that is still as `etag` names it.
    pub(super) async fn patch_table(
        &self,
        name: &str,
        body: &Value,
        etag: Option<&str>,
    ) -> Result<Value, RestError> {
        self.send(Method::PATCH, &self.table_path(name), Some(body), etag).await
    }

    /// Returns those of `permissions` that the caller has on a table.
    pub(super) async fn permitted(
        &self,
        table: &str,
        permissions: &[&str],
    ) -> Result<Vec<String>, RestError> {
        let path = format!("{}:testIamPermissions", self.table_path(table));
        let body = json!({ "permissions": permissions });
        let answer = self.send(Method::POST, &path, Some(&body), None).await?;
        let permitted = answer["permissions"].as_array().into_iter().flatten();
        Ok(permitted.filter_map(|one| one.as_str().map(str::to_owned)).collect())
    }

    /// Deletes a table; whether there was one.
    pub(super) async fn delete_table(&self, name: &str) -> Result<bool, RestError> {
        match self.send(Method::DELETE, &self.table_path(name), None, None).await {
            Ok(_) => Ok(true),
            Err(RestError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The names of all tables and views.
    pub(super) async fn table_names(&self) -> Result<Vec<String>, RestError> {
        let mut names = Vec::new();
        let mut page = String::new();
        loop {
            let path = format!(
                "/datasets/{}/tables?maxResults=1000&pageToken={}",
                self.dataset,
                escaped(&page)
            );
            let answer = self.send(Method::GET, &path, None, None).await?;
            let tables = answer["tables"].as_array().into_iter().flatten();
            names.extend(tables.map(|table| text(&table["tableReference"]["tableId"])));
            page = text(&answer["nextPageToken"]);
            if page.is_empty() {
                return Ok(names);
            }
        }
    }

    /// Where queries run.
    pub(super) fn location(&self) -> &str {
        &self.location
    }

    /// The name by which SQL knows a table.
    pub(super) fn sql_name(&self, table: &str) -> String {
        format!("`{}.{}.{table}`", self.project, self.dataset)
    }

    /// The name by which people know a table.
    pub(super) fn full_name(&self, table: &str) -> String {
        format!("{}.{}.{table}", self.project, self.dataset)
    }

    /// The name by which people know the dataset.
    pub(super) fn dataset_name(&self) -> String {
        format!("{}.{}", self.project, self.dataset)
    }

    fn table_path(&self, name: &str) -> String {
        format!("/datasets/{}/tables/{name}", self.dataset)
    }

    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> Result<Value, RestError> {
        let headers = headers(&self.credentials).await.map_err(RestError::Unavailable)?;
        let base = match &self.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => {
                let own = gcp::service("bigquery", &self.credentials).await;
                own.map_err(RestError::Invalid)?
            }
        };
        let url = format!("{base}/bigquery/v2/projects/{}{path}", self.project);
        let mut request = self.http.request(method, url);
        request = request.headers(headers);
        if let Some(etag) = etag {
            request = request.header(http::header::IF_MATCH, etag);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let unreachable = |error: reqwest::Error| RestError::Unavailable(told(&error));
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.map_err(unreachable)?;
        match serde_json::from_slice(&bytes) {
            Ok(value) if status < 300 => Ok(value),
            // A deletion answers nothing.
            Err(_) if status < 300 && bytes.is_empty() => Ok(Value::Null),
            Err(_) if status < 300 => {
                Err(RestError::Unavailable(format!("{base} answered no JSON")))
            }
            answer => Err(self.refusal(status, &answer.unwrap_or_default())),
        }
    }

    /// Translates an error: <https://cloud.google.com/bigquery/docs/error-messages>
    fn refusal(&self, status: u16, answer: &Value) -> RestError {
        let error = &answer["error"];
        let reason = text(&error["errors"][0]["reason"]);
        let mut message = text(&error["message"]);
        if message.is_empty() {
            message = format!("HTTP status {status}");
        }
        match (status, &*reason) {
            (404, _) => RestError::NotFound(message),
            (409 | 412, _) => RestError::Conflict(message),
            (403, "quotaExceeded" | "rateLimitExceeded" | "backendError")
            | (408 | 429 | 500.., _) => RestError::Unavailable(message),
            (401, _) => {
                RestError::Forbidden(format!("the credentials were not accepted: {message}"))
            }
            (403, _) => RestError::Forbidden(missing_role(&self.dataset_name(), &message)),
            _ => RestError::Invalid(message),
        }
    }
}

/// Returns the headers that authenticate a request.
pub(super) async fn headers(credentials: &Credentials) -> Result<HeaderMap, String> {
    match credentials.headers(Extensions::new()).await {
        Ok(CacheableResource::New { data, .. }) => Ok(data),
        Ok(CacheableResource::NotModified) => Ok(HeaderMap::new()),
        Err(error) => Err(format!("no credentials could be had: {error}")),
    }
}

/// Formats an error with all its causes: the outermost alone has little information.
fn told(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
