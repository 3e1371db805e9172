//! Snapshots: <https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.snapshots>. When none
//! is made: <https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.snapshots/create>.
//!
//! Permissions and codes are of the same pages as those in `rest.rs`.

use axum::Json;
use axum::http::{Method, StatusCode};
use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};

use super::rest::{Answer, project_of, refusal};
use super::state::State;

/// How long one lives at most, and how long it must live to be made at all.
const DAYS: i64 = 7;
const HOURS: i64 = 1;

/// PUT creates, DELETE removes; what else the service has is not served.
pub(super) fn answer(state: &mut State, method: &Method, name: &str, asked: &Value) -> Answer {
    let verb = if *method == Method::PUT { "create" } else { "delete" };
    // Creating is a matter of the project.
    let on = if verb == "create" { project_of(name) } else { name };
    if !state.permitted(&format!("pubsub.snapshots.{verb}"), on) {
        return refusal(StatusCode::FORBIDDEN, "PERMISSION_DENIED", name);
    }
    match (method, state.snapshots.contains_key(name)) {
        (&Method::PUT, true) => refusal(StatusCode::CONFLICT, "ALREADY_EXISTS", name),
        (&Method::PUT, false) => create(state, name, asked),
        (&Method::DELETE, true) => {
            state.snapshots.remove(name);
            (StatusCode::OK, Json(json!({})))
        }
        (&Method::DELETE, false) => refusal(StatusCode::NOT_FOUND, "NOT_FOUND", name),
        _ => refusal(StatusCode::NOT_IMPLEMENTED, "UNIMPLEMENTED", name),
    }
}

fn create(state: &mut State, name: &str, asked: &Value) -> Answer {
    let subscription = asked["subscription"].as_str().unwrap_or_default();
    // On the source, besides `pubsub.snapshots.create` on the project.
    if !state.permitted("pubsub.subscriptions.consume", subscription) {
        return refusal(StatusCode::FORBIDDEN, "PERMISSION_DENIED", subscription);
    }
    let Some(of) = state.subscriptions.get(subscription) else {
        return refusal(StatusCode::NOT_FOUND, "NOT_FOUND", subscription);
    };
    // "7 days - (age of oldest unacked message in the subscription)"
    let now = Utc::now();
    let oldest = of.oldest_unacknowledged().and_then(DateTime::from_timestamp_micros);
    let expires = oldest.unwrap_or(now) + Duration::days(DAYS);
    if expires - now < Duration::hours(HOURS) {
        return refusal(StatusCode::BAD_REQUEST, "FAILED_PRECONDITION", name);
    }
    let expires = expires.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let snapshot = json!({ "name": name, "topic": of.topic(), "expireTime": expires });
    state.snapshots.insert(name.to_owned(), snapshot.clone());
    (StatusCode::OK, Json(snapshot))
}
