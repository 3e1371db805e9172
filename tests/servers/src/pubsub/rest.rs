//! Topics and subscriptions: <https://cloud.google.com/pubsub/docs/reference/rest>.
//!
//! Which permission a method needs: <https://cloud.google.com/pubsub/docs/access-control>. With which
//! code it refuses: <https://cloud.google.com/pubsub/docs/reference/error-codes>.

use axum::extract::{Path, State as Shares};
use axum::http::{Method, StatusCode};
use axum::{Json, Router};
use chrono::DateTime;
use serde_json::{Value, json};

use super::filter::Filter;
use super::state::State;
use super::subscription::Subscription;
use super::{Shared, snapshot};

pub(super) type Answer = (StatusCode, Json<Value>);

pub(super) fn app(shared: Shared) -> Router {
    Router::new().route("/v1/{*path}", axum::routing::any(answer)).with_state(shared)
}

pub(super) fn refusal(code: StatusCode, status: &str, about: &str) -> Answer {
    let error = json!({ "code": code.as_u16(), "message": about, "status": status });
    (code, Json(json!({ "error": error })))
}

async fn answer(
    method: Method,
    Path(path): Path<String>,
    Shares(shared): Shares<Shared>,
    body: String,
) -> Answer {
    let asked: Value = serde_json::from_str(&body).unwrap_or_default();
    let answer = {
        let mut state = shared.state();
        if let Some(code) = state.rest_fault.and_then(|code| StatusCode::from_u16(code).ok()) {
            return refusal(code, "UNAVAILABLE", &path);
        }
        match path.rsplit_once(':') {
            Some((name, "testIamPermissions")) => permissions(&state, name, &asked),
            Some((name, "seek")) => seek(&mut state, name, &asked),
            _ if path.contains("/snapshots/") => {
                snapshot::answer(&mut state, &method, &path, &asked)
            }
            _ => resource(&mut state, &method, &path, asked),
        }
    };
    shared.ring();
    answer
}

/// The project of a topic, a subscription or a snapshot: `projects/P`.
pub(super) fn project_of(name: &str) -> &str {
    let end = name.match_indices('/').nth(1).map_or(name.len(), |(at, _)| at);
    &name[..end]
}

fn exists(state: &State, name: &str) -> bool {
    state.topics.contains_key(name) || state.subscriptions.contains_key(name)
}

/// An empty answer, not an error, for a missing resource:
/// <https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.topics/testIamPermissions>.
fn permissions(state: &State, name: &str, asked: &Value) -> Answer {
    let asked = asked["permissions"].as_array().cloned().unwrap_or_default();
    let held = asked.into_iter().filter(|one| {
        exists(state, name)
            && one.as_str().is_some_and(|permission| state.permitted(permission, name))
    });
    (StatusCode::OK, Json(json!({ "permissions": held.collect::<Vec<_>>() })))
}

/// <https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.subscriptions/seek>; to a time
/// only; this server has no seek to a snapshot.
fn seek(state: &mut State, name: &str, asked: &Value) -> Answer {
    if !state.permitted("pubsub.subscriptions.consume", name) {
        return refusal(StatusCode::FORBIDDEN, "PERMISSION_DENIED", name);
    }
    let time = asked["time"].as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    let Some(time) = time else {
        return refusal(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", "time");
    };
    let topic = state.subscriptions.get(name).map(|found| found.topic().to_owned());
    let kept = topic.is_some_and(|topic| state.topic_retention(&topic).is_some());
    let Some(subscription) = state.subscriptions.get_mut(name) else {
        return refusal(StatusCode::NOT_FOUND, "NOT_FOUND", name);
    };
    let acknowledged = subscription.acknowledged_count();
    subscription.seek(time.timestamp_micros(), kept);
    state.acknowledged_at_seek = Some(acknowledged);
    (StatusCode::OK, Json(json!({})))
}

/// GET describes, PUT creates, DELETE removes; other methods are not served. An existing resource and a missing topic
/// are errors:
/// <https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.subscriptions/create>.
fn resource(state: &mut State, method: &Method, name: &str, mut asked: Value) -> Answer {
    let of_topics = name.contains("/topics/");
    let kind = if of_topics { "topics" } else { "subscriptions" };
    let verb = match *method {
        Method::GET => "get",
        Method::PUT => "create",
        Method::DELETE => "delete",
        _ => return refusal(StatusCode::NOT_IMPLEMENTED, "UNIMPLEMENTED", name),
    };
    // Creating is a matter of the project.
    let on = if verb == "create" { project_of(name) } else { name };
    if !state.permitted(&format!("pubsub.{kind}.{verb}"), on) {
        return refusal(StatusCode::FORBIDDEN, "PERMISSION_DENIED", name);
    }
    let found = state
        .topics
        .get(name)
        .or_else(|| state.subscriptions.get(name).map(|subscription| &subscription.resource));
    match (method, found) {
        (&Method::GET, Some(found)) => (StatusCode::OK, Json(described(state, found))),
        (&Method::PUT, Some(_)) => refusal(StatusCode::CONFLICT, "ALREADY_EXISTS", name),
        (&Method::PUT, None) => {
            let topic = asked["topic"].as_str().unwrap_or_default();
            if !of_topics && !state.permitted("pubsub.topics.attachSubscription", topic) {
                return refusal(StatusCode::FORBIDDEN, "PERMISSION_DENIED", topic);
            }
            if !of_topics && !state.topics.contains_key(topic) {
                return refusal(StatusCode::NOT_FOUND, "NOT_FOUND", topic);
            }
            if let Err(why) = Filter::read(asked["filter"].as_str().unwrap_or_default()) {
                return refusal(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", &why);
            }
            asked["name"] = json!(name);
            create(state, name, asked.clone());
            (StatusCode::OK, Json(asked))
        }
        (_, None) => refusal(StatusCode::NOT_FOUND, "NOT_FOUND", name),
        (_, Some(_)) => {
            state.topics.remove(name);
            state.subscriptions.remove(name);
            (StatusCode::OK, Json(json!({})))
        }
    }
}

/// Adds the fields that the service fills in:
/// <https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.subscriptions#resource:-subscription>.
fn described(state: &State, resource: &Value) -> Value {
    let mut described = resource.clone();
    if let Some(topic) = resource["topic"].as_str() {
        if let Some(kept) = state.topic_retention(topic) {
            described["topicMessageRetentionDuration"] = kept.clone();
        }
        if resource["messageRetentionDuration"].is_null() {
            described["messageRetentionDuration"] = json!("604800s");
        }
    }
    described
}

/// Makes a topic or a subscription of what describes it.
pub(super) fn create(state: &mut State, name: &str, resource: Value) {
    if name.contains("/topics/") {
        state.topics.insert(name.to_owned(), resource);
    } else {
        let history = state.kept(resource["topic"].as_str().unwrap_or_default()).to_vec();
        let subscription = Subscription::new(resource).with_history(history);
        state.subscriptions.insert(name.to_owned(), subscription);
    }
}
