//! JSON/HTTP: uploads and downloads.
//! <https://cloud.google.com/storage/docs/json_api/v1/objects/insert>,
//! <https://cloud.google.com/storage/docs/json_api/v1/objects/get>.

use std::collections::HashMap;
use std::io;
use std::sync::MutexGuard;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, State as Shared};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::{Value, json};

use super::control::ReadFault;
use super::state::{Refusal, SharedState, State, Stored, Wanted};
use super::upload::{self, Progress, RESUME_INCOMPLETE};

pub(super) fn app(state: SharedState) -> Router {
    Router::new()
        .route("/upload/storage/v1/b/{bucket}/o", post(start_upload))
        .route("/upload/sessions/{number}", put(continue_upload))
        .route("/storage/v1/b/{bucket}/o/{*name}", get(download))
        .route("/storage/v1/b/{bucket}", delete(delete_bucket))
        .layer(DefaultBodyLimit::disable())
        .with_state(state)
}

fn lock(state: &SharedState) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Waits as long as uploads are to wait; those that come together wait side by side.
async fn delay(state: &SharedState) {
    let delay = lock(state).upload_delay;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

async fn start_upload(
    Shared(state): Shared<SharedState>,
    Path(bucket): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    delay(&state).await;
    let mut state = lock(&state);
    let name = query.get("name").cloned().unwrap_or_default();
    let kind = query.get("uploadType").map(String::as_str).unwrap_or_default();
    state.admit(format!("{kind} {name}"), true)?;
    let if_generation_match = match query.get("ifGenerationMatch") {
        Some(text) => Some(
            text.parse().map_err(|_| Refusal::Invalid(format!("ifGenerationMatch {text:?}")))?,
        ),
        None => None,
    };
    state.allow("storage.objects.create", &bucket)?;
    let wanted = Wanted { bucket, name, storage_class: None, if_generation_match };
    match kind {
        "multipart" => {
            let stored = upload::multipart(&mut state, wanted, &headers, &body)?;
            answer(&mut state, &stored)
        }
        "resumable" => {
            let number = upload::begin(&mut state, wanted, &body)?;
            let location = format!("{}/upload/sessions/{number}", state.url);
            Ok(([("location", location)], Json(json!({}))).into_response())
        }
        // The service has `media` too.
        other => Err(Refusal::Invalid(format!("uploadType {other:?} is not served"))),
    }
}

async fn continue_upload(
    Shared(state): Shared<SharedState>,
    Path(number): Path<u64>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    delay(&state).await;
    let mut state = lock(&state);
    state.admit(format!("chunk {number}"), true)?;
    match upload::go_on(&mut state, number, &headers, &body)? {
        Progress::Done(stored) => answer(&mut state, &stored),
        Progress::Kept(0) => Ok(RESUME_INCOMPLETE.into_response()),
        Progress::Kept(bytes) => {
            let range = format!("bytes=0-{}", bytes - 1);
            Ok((RESUME_INCOMPLETE, [("range", range)]).into_response())
        }
    }
}

/// Answers with the stored object, unless the answer is to be lost.
fn answer(state: &mut State, stored: &Stored) -> Result<Response, Refusal> {
    if state.loses_answer() {
        return Err(Refusal::Fault(503));
    }
    Ok(Json(resource(stored)).into_response())
}

async fn download(
    Shared(state): Shared<SharedState>,
    Path((bucket, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (stored, fault) = {
        let mut state = lock(&state);
        state.admit(format!("download {name}"), true)?;
        state.allow("storage.objects.get", &bucket)?;
        let stored = state.find(&bucket, &name)?.clone();
        (stored, state.read_faults.pop_front())
    };
    let total = stored.body.len();
    let range = headers.get("range").and_then(|value| value.to_str().ok());
    let from: usize = match range {
        Some(range) => {
            let first = range.strip_prefix("bytes=").and_then(|it| it.split('-').next());
            first.and_then(|first| first.parse().ok()).unwrap_or(0)
        }
        None => 0,
    };
    // https://cloud.google.com/storage/docs/json_api/v1/status-codes: 416.
    if range.is_some() && from >= total {
        return Ok(StatusCode::RANGE_NOT_SATISFIABLE.into_response());
    }
    let status = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let body = stored.body.slice(from..);
    let length = body.len();
    let mut response = Response::builder()
        .status(status)
        .header("content-length", length)
        .header("x-goog-generation", stored.generation)
        .header("x-goog-metageneration", 1)
        .header("x-goog-stored-content-length", total)
        .header("x-goog-storage-class", &stored.storage_class)
        .header("x-goog-hash", format!("crc32c={}", encode_crc32c(stored.crc32c)));
    if range.is_some() {
        let last = total - 1;
        response = response.header("content-range", format!("bytes {from}-{last}/{total}"));
    }
    response
        .body(faulty(body, fault))
        .map_err(|error| Refusal::Invalid(format!("no response: {error}")))
}

/// <https://cloud.google.com/storage/docs/json_api/v1/buckets/delete>: only an empty one.
async fn delete_bucket(
    Shared(state): Shared<SharedState>,
    Path(bucket): Path<String>,
) -> Result<StatusCode, Refusal> {
    let mut state = lock(&state);
    state.admit(format!("delete bucket {bucket}"), true)?;
    state.allow("storage.buckets.delete", &bucket)?;
    state.class_of(&bucket)?;
    if state.objects.values().any(|object| object.bucket == bucket) {
        return Err(Refusal::NotEmpty);
    }
    state.buckets.remove(&bucket);
    state.made_buckets.remove(&bucket);
    Ok(StatusCode::NO_CONTENT)
}

fn faulty(body: Bytes, fault: Option<ReadFault>) -> Body {
    let half = body.slice(..body.len() / 2);
    match fault {
        None => Body::from(body),
        Some(ReadFault::Corrupt) => {
            let mut bytes = body.to_vec();
            if let Some(byte) = bytes.last_mut() {
                *byte ^= 1;
            }
            Body::from(bytes)
        }
        Some(ReadFault::Cut) => {
            let cut = Err(io::Error::new(io::ErrorKind::ConnectionReset, "cut"));
            Body::from_stream(futures::stream::iter([Ok(half), cut]))
        }
        Some(ReadFault::Stall) => {
            let half = futures::stream::iter([Ok::<_, io::Error>(half)]);
            Body::from_stream(half.chain(futures::stream::pending()))
        }
    }
}

/// <https://cloud.google.com/storage/docs/json_api/v1/objects#resource-representations>
fn resource(stored: &Stored) -> Value {
    json!({
        "kind": "storage#object",
        "id": format!("{}/{}/{}", stored.bucket, stored.name, stored.generation),
        "name": stored.name,
        "bucket": stored.bucket,
        "generation": stored.generation.to_string(),
        "metageneration": "1",
        "size": stored.body.len().to_string(),
        "storageClass": stored.storage_class,
        "crc32c": encode_crc32c(stored.crc32c),
    })
}

fn encode_crc32c(crc32c: u32) -> String {
    BASE64_STANDARD.encode(crc32c.to_be_bytes())
}

/// <https://cloud.google.com/storage/docs/json_api/v1/status-codes>; which permissions are needed:
/// <https://cloud.google.com/storage/docs/access-control/iam-json>.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (code, message) = match self {
            Self::Invalid(why) => (400, why),
            Self::Forbidden(permission) => (403, format!("does not have {permission} access")),
            Self::NoBucket => (404, "The specified bucket does not exist.".to_owned()),
            Self::NoObject(name) => (404, format!("No such object: {name}")),
            Self::Precondition => {
                (412, "At least one of the pre-conditions you specified did not hold.".to_owned())
            }
            Self::NotEmpty => (409, "The bucket you tried to delete is not empty.".to_owned()),
            Self::Fault(status) => (status, "backendError".to_owned()),
        };
        let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let error = json!({ "error": { "code": code, "message": message } });
        (status, Json(error)).into_response()
    }
}
