//! REST v2: datasets, tables, tabledata and queries.
//!
//! The shapes are those of <https://cloud.google.com/bigquery/docs/reference/rest>, the codes and reasons of refusals
//! those of <https://cloud.google.com/bigquery/docs/error-messages>. That page has `invalid` for a missing field, and no
//! reason `required`.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State as Held};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::access::OWNED;
use super::query;
use super::schema;
use super::state::{Shared, State, lock, path_of};

/// <https://cloud.google.com/bigquery/quotas#query_jobs>
const MAX_REQUEST_BYTES: usize = 10_000_000;

/// An answer that is an error, in BigQuery's form.
pub(super) struct Refused {
    status: u16,
    reason: &'static str,
    message: String,
}

impl Refused {
    pub(super) fn new(status: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into() }
    }

    /// <https://cloud.google.com/bigquery/docs/error-messages>.
    fn body(&self) -> Value {
        json!({ "error": {
            "code": self.status,
            "message": self.message,
            "errors": [{ "message": self.message, "domain": "global", "reason": self.reason }],
        }})
    }
}

/// The REST service.
pub(super) fn app(state: Shared) -> Router {
    let limit = DefaultBodyLimit::max(MAX_REQUEST_BYTES);
    Router::new().fallback(answer).layer(limit).with_state(state)
}

async fn answer(
    Held(state): Held<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut state = lock(&state);
    state.requests.push(format!("{method} {}", uri.path()));
    if let Some(token) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok())
        && state.tokens.last().is_none_or(|last| last != token)
    {
        state.tokens.push(token.to_owned());
    }
    if let Some(fault) = state.rest_faults.pop_front() {
        let status = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::BAD_REQUEST);
        return (status, fault.body).into_response();
    }
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let path = uri.path().strip_prefix("/bigquery/v2").unwrap_or(uri.path());
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let if_match = headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok());
    match state.route(method.as_str(), &parts, uri.query().unwrap_or_default(), body, if_match) {
        Ok(value) => axum::Json(value).into_response(),
        Err(refused) => {
            let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::BAD_REQUEST);
            (status, axum::Json(refused.body())).into_response()
        }
    }
}

fn not_found(what: &str, name: &str) -> Refused {
    Refused::new(404, "notFound", format!("Not found: {what} {name}"))
}

impl State {
    /// Deletes a table, its rows and its streams.
    pub(super) fn drop_table(&mut self, table: &str) -> bool {
        self.streams
            .retain(|name, _| super::state::split_name(name).is_none_or(|(of, _)| of != table));
        if self.loaded.as_mut().is_some_and(|loaded| loaded.forget(table).is_err()) {
            self.loaded = None;
        }
        self.tables.remove(table).is_some()
    }

    fn route(
        &mut self,
        method: &str,
        parts: &[&str],
        parameters: &str,
        body: Value,
        if_match: Option<&str>,
    ) -> Result<Value, Refused> {
        if self.revoked {
            return Err(Refused::new(403, "accessDenied", "Access Denied: permission was revoked"));
        }
        self.permitted(method, parts)?;
        match (method, parts) {
            ("POST", ["projects", p, "datasets"]) => self.insert_dataset(p, body),
            ("DELETE", ["projects", p, "datasets", d]) => {
                self.delete_dataset(&format!("{p}.{d}"), parameters)
            }
            (_, ["projects", p, "datasets", d]) => self.dataset(method, &format!("{p}.{d}"), &body),
            ("POST", ["projects", p, "datasets", d, "tables"]) => self.insert_table(p, d, body),
            ("GET", ["projects", p, "datasets", d, "tables"]) => {
                let prefix = format!("{p}.{d}.");
                let tables: Vec<Value> = self
                    .tables
                    .iter()
                    .filter(|(name, _)| name.starts_with(&prefix))
                    .map(|(_, table)| table.resource.clone())
                    .collect();
                Ok(
                    json!({ "kind": "bigquery#tableList", "totalItems": tables.len(), "tables": tables }),
                )
            }
            // https://cloud.google.com/bigquery/docs/reference/rest/v2/tables/testIamPermissions
            ("POST", ["projects", p, "datasets", d, "tables", t]) => {
                let name = t.strip_suffix(":testIamPermissions");
                let name = name.map(|name| format!("{p}.{d}.{name}")).unwrap_or_default();
                if !self.tables.contains_key(&name) {
                    // An empty set, and no error.
                    return Ok(json!({}));
                }
                let mut held = body["permissions"].as_array().cloned().unwrap_or_default();
                let path = path_of(&name);
                held.retain(|one| one.as_str().is_some_and(|one| self.granted.has(one, &path)));
                Ok(json!({ "permissions": held }))
            }
            (_, ["projects", p, "datasets", d, "tables", t]) => {
                self.table(method, &format!("{p}.{d}.{t}"), &body, if_match)
            }
            ("GET", ["projects", p, "datasets", d, "tables", t, "data"]) => {
                let name = format!("{p}.{d}.{t}");
                let table = self.tables.get(&name).ok_or_else(|| not_found("Table", &name))?;
                Ok(query::data(table))
            }
            ("POST", ["projects", _, "queries"]) => {
                let text = body["query"].as_str().unwrap_or_default();
                if body["dryRun"] == json!(true) {
                    return query::run(self, &body);
                }
                self.statements.push(text.to_owned());
                let lost = self.lost.take_if(|word| text.starts_with(word.as_str()));
                let answer = query::run(self, &body);
                match lost {
                    Some(_) => Err(Refused::new(503, "backendError", "the connection was reset")),
                    None => answer,
                }
            }
            ("GET", ["projects", _, "queries", job]) => {
                let parameter = |name: &str| -> Option<String> {
                    let pairs = parameters.split('&').filter_map(|pair| pair.split_once('='));
                    let value =
                        pairs.into_iter().find(|(key, _)| *key == name)?.1.replace('+', " ");
                    Some(percent_decode_str(&value).decode_utf8_lossy().into_owned())
                };
                let most = parameter("maxResults").and_then(|most| most.parse().ok());
                query::page(self, job, &parameter("pageToken").unwrap_or_default(), most)
            }
            _ => Err(not_found("URL", &parts.join("/"))),
        }
    }

    /// Refuses a change of a table that is not as `If-Match` names it. That the header counts:
    /// <https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#Table>, `etag`; the words:
    /// <https://cloud.google.com/bigquery/docs/error-messages>.
    fn check_etag(&mut self, name: &str, if_match: Option<&str>) -> Result<(), Refused> {
        if let Some(at) = self.overtaken.iter().position(|table| table == name) {
            self.overtaken.remove(at);
            self.etag += 1;
            let etag = json!(format!("etag{}", self.etag));
            if let Some(table) = self.tables.get_mut(name) {
                table.resource["etag"] = etag;
            }
        }
        let Some(wanted) = if_match.filter(|wanted| *wanted != "*") else { return Ok(()) };
        match self.tables.get(name) {
            Some(table) if table.resource["etag"] != json!(wanted) => {
                Err(Refused::new(412, "conditionNotMet", "Precondition Failed"))
            }
            _ => Ok(()),
        }
    }

    fn stamp(&mut self, resource: &mut Value) {
        self.etag += 1;
        resource["etag"] = json!(format!("etag{}", self.etag));
    }

    /// <https://cloud.google.com/bigquery/docs/reference/rest/v2/datasets#DatasetReference>: its id
    /// is required.
    fn insert_dataset(&mut self, project: &str, mut body: Value) -> Result<Value, Refused> {
        let id = body["datasetReference"]["datasetId"].as_str().unwrap_or_default();
        let name = format!("{project}.{id}");
        if id.is_empty() {
            return Err(Refused::new(400, "required", "Required parameter is missing: datasetId"));
        }
        if self.datasets.contains_key(&name) {
            return Err(Refused::new(409, "duplicate", format!("Already Exists: Dataset {name}")));
        }
        body["id"] = json!(format!("{project}:{id}"));
        body["kind"] = json!("bigquery#dataset");
        self.stamp(&mut body);
        // https://cloud.google.com/bigquery/docs/datasets#required_permissions: its owner.
        self.granted.add(&path_of(&name), &OWNED);
        self.datasets.insert(name, body.clone());
        Ok(body)
    }

    fn dataset(&mut self, method: &str, name: &str, body: &Value) -> Result<Value, Refused> {
        let mut found =
            self.datasets.get(name).cloned().ok_or_else(|| not_found("Dataset", name))?;
        if method == "PATCH" {
            merge(&mut found, body);
            self.stamp(&mut found);
            self.datasets.insert(name.to_owned(), found.clone());
        }
        Ok(found)
    }

    /// <https://cloud.google.com/bigquery/docs/reference/rest/v2/datasets/delete>: only an empty
    /// one, unless its contents are to go too.
    fn delete_dataset(&mut self, name: &str, parameters: &str) -> Result<Value, Refused> {
        if !self.datasets.contains_key(name) {
            return Err(not_found("Dataset", name));
        }
        let within = format!("{name}.");
        let tables = self.tables.keys().filter(|table| table.starts_with(&within));
        let tables: Vec<String> = tables.cloned().collect();
        if !tables.is_empty() && !parameters.split('&').any(|one| one == "deleteContents=true") {
            let message = format!("Dataset {name} is still in use");
            return Err(Refused::new(400, "resourceInUse", message));
        }
        for table in tables {
            self.drop_table(&table);
        }
        self.datasets.remove(name);
        Ok(json!({}))
    }

    /// <https://cloud.google.com/bigquery/docs/reference/rest/v2/TableReference>: its id is required.
    fn insert_table(
        &mut self,
        project: &str,
        dataset: &str,
        mut body: Value,
    ) -> Result<Value, Refused> {
        let parent = format!("{project}.{dataset}");
        if !self.datasets.contains_key(&parent) {
            return Err(not_found("Dataset", &parent));
        }
        let id = body["tableReference"]["tableId"].as_str().unwrap_or_default();
        let name = format!("{parent}.{id}");
        if id.is_empty() {
            return Err(Refused::new(400, "required", "Required parameter is missing: tableId"));
        }
        if self.tables.contains_key(&name) {
            return Err(Refused::new(409, "duplicate", format!("Already Exists: Table {name}")));
        }
        body["id"] = json!(format!("{project}:{dataset}.{id}"));
        body["kind"] = json!("bigquery#table");
        body["type"] = json!(if body["view"].is_object() { "VIEW" } else { "TABLE" });
        check_key(&body)?;
        // https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#Table: in milliseconds.
        body["creationTime"] = json!(chrono::Utc::now().timestamp_millis().to_string());
        self.stamp(&mut body);
        let table = self.tables.entry(name).or_default();
        table.adopt(body.clone());
        table.spread();
        Ok(body)
    }

    fn table(
        &mut self,
        method: &str,
        name: &str,
        body: &Value,
        if_match: Option<&str>,
    ) -> Result<Value, Refused> {
        if method == "PATCH" {
            self.check_etag(name, if_match)?;
        }
        let table = self.tables.get(name).ok_or_else(|| not_found("Table", name))?;
        let mut resource = table.resource.clone();
        match method {
            // What changes are not applied yet is in the streaming buffer:
            // https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#Streamingbuffer.
            "GET" => {
                if table.is_held() {
                    resource["streamingBuffer"] = json!({ "estimatedRows": "1" });
                }
                Ok(resource)
            }
            "DELETE" => {
                self.drop_table(name);
                Ok(json!({}))
            }
            "PATCH" => {
                let before = resource["schema"]["fields"].as_array().cloned().unwrap_or_default();
                merge(&mut resource, body);
                check_key(&resource)?;
                let asked = resource["schema"]["fields"].as_array().cloned().unwrap_or_default();
                if !asked.is_empty() || !before.is_empty() {
                    let fields = schema::changed(name, &before, asked)
                        .map_err(|why| Refused::new(400, "invalid", why))?;
                    resource["schema"]["fields"] = fields.into();
                }
                self.stamp(&mut resource);
                let late = self.spread_late;
                if let Some(table) = self.tables.get_mut(name) {
                    table.adopt(resource.clone());
                    if !late {
                        table.spread();
                    }
                }
                Ok(resource)
            }
            // No rule of the service.
            other => Err(Refused::new(405, "invalid", format!("method {other}"))),
        }
    }
}

/// <https://cloud.google.com/bigquery/docs/change-data-capture#prerequisites>: up to 16 columns.
fn check_key(resource: &Value) -> Result<(), Refused> {
    let key = resource["tableConstraints"]["primaryKey"]["columns"].as_array();
    match key.map_or(0, Vec::len) {
        0..=16 => Ok(()),
        many => Err(Refused::new(
            400,
            "invalid",
            format!("a primary key of {many} columns: at most 16"),
        )),
    }
}

/// Lays `patch` over `resource`: objects merge, everything else replaces, null removes.
fn merge(resource: &mut Value, patch: &Value) {
    match (resource, patch) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in new {
                if value.is_null() {
                    old.remove(name);
                } else {
                    merge(old.entry(name.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (old, new) => *old = new.clone(),
    }
}
