//! What each path answers.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use kappa_actors::port::EventLog;
use kappa_actors::vitals::{Board, DaemonState, Snapshot};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::access::{self, Access, Bearer, Denied, Purpose};
use super::connections::Place;
use super::ingest::{self, Incoming, Ingest};
use super::metrics;

/// The page at `/`, whole: it asks for nothing but `/status`.
const PAGE: &str = include_str!("page.html");

/// The page may load only itself and `/status`, whatever text an event contains.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
    script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// How long an answer waits for the log. A log that is read from files answers in a millisecond, unless
/// the machine is overloaded.
const LOG_TIMEOUT: Duration = Duration::from_secs(1);

/// The shared state of the handlers.
#[derive(Clone)]
struct Endpoint {
    board: Arc<Board>,
    log: Arc<dyn EventLog>,
    /// Held while the log is asked for its backlog: by one request at a time.
    asking: Arc<Mutex<()>>,
    /// `None` where the configuration has it off.
    ingest: Option<Arc<Ingest>>,
    faults: bool,
}

impl Endpoint {
    /// The board at this moment. The log is asked for its backlog after the counters are read, so that
    /// no message that they call acknowledged is in it. While the log does not answer, the backlog is
    /// the one that was noted last, and its age is shown.
    async fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.board.snapshot();
        let ask = async {
            let _turn = self.asking.lock().await;
            self.log.backlog().await
        };
        if let Ok(Ok(backlog)) = timeout(LOG_TIMEOUT, ask).await {
            snapshot.with_backlog(backlog);
        }
        snapshot
    }
}

/// All paths, behind `access`.
pub(super) fn router(
    board: Arc<Board>,
    log: Arc<dyn EventLog>,
    access: Access,
    ingest: Option<Arc<Ingest>>,
    faults: bool,
) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/status", get(status))
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .route("/v1/events", post(events))
        .route("/faults/kill", post(kill))
        .fallback(async || problem(StatusCode::NOT_FOUND, "no such path"))
        .layer(from_fn_with_state(Arc::new(access), guard))
        .with_state(Endpoint { board, log, asking: Arc::default(), ingest, faults })
}

/// An answer that describes a failure in words.
pub(super) fn problem(status: StatusCode, text: &str) -> Response {
    (status, Json(serde_json::json!({ "error": text }))).into_response()
}

/// Whether the request's sender may read, where a probe answers anyone.
#[derive(Clone, Copy)]
struct MayRead(bool);

/// Lets through the requests that the rule allows: a path added later is guarded too.
async fn guard(State(access): State<Arc<Access>>, mut request: Request, next: Next) -> Response {
    let allowed = access::is_plain(&request).and_then(|()| {
        match access::purpose(&request) {
            Some(purpose) => {
                let bearer = access.check(purpose, request.headers())?;
                request.extensions_mut().insert(bearer);
            }
            None => {
                let may_read = access.check(Purpose::Read, request.headers()).is_ok();
                request.extensions_mut().insert(MayRead(may_read));
            }
        }
        Ok(())
    });
    let mut answer = match allowed {
        Ok(()) => next.run(request).await,
        Err(Denied::Ambiguous(text)) => problem(StatusCode::BAD_REQUEST, text),
        Err(Denied::Unauthorized) => {
            let text = "this needs the header \"Authorization: Bearer TOKEN\" with status.token, \
                        or with a sender's token for POST /v1/events";
            let challenge = [(WWW_AUTHENTICATE, "Bearer")];
            (challenge, problem(StatusCode::UNAUTHORIZED, text)).into_response()
        }
        Err(Denied::PublishOnly) => {
            let text = "a sender's token is good for POST /v1/events only: use status.token";
            problem(StatusCode::FORBIDDEN, text)
        }
        Err(Denied::ForeignSite) => problem(
            StatusCode::FORBIDDEN,
            "the request comes by a name that is not local, or from a web page of another site",
        ),
    };
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, const { axum::http::HeaderValue::from_static("no-store") });
    headers
        .insert(X_CONTENT_TYPE_OPTIONS, const { axum::http::HeaderValue::from_static("nosniff") });
    answer
}

async fn page() -> impl IntoResponse {
    ([(CONTENT_SECURITY_POLICY, PAGE_POLICY)], Html(PAGE))
}

async fn status(State(endpoint): State<Endpoint>) -> Json<Snapshot> {
    Json(endpoint.snapshot().await)
}

async fn ready(
    State(endpoint): State<Endpoint>,
    Extension(MayRead(may_read)): Extension<MayRead>,
) -> (StatusCode, String) {
    let mut snapshot = endpoint.board.snapshot();
    if !may_read {
        snapshot.reasons.clear();
    }
    if snapshot.state == DaemonState::Running {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let reasons = snapshot.reasons.iter().map(|reason| format!("{reason}\n"));
    let text = std::iter::once(format!("{}\n", snapshot.state)).chain(reasons).collect();
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

async fn scrape(State(endpoint): State<Endpoint>) -> impl IntoResponse {
    let snapshot = endpoint.snapshot().await;
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render(&snapshot, &endpoint.board))
}

async fn events(
    State(endpoint): State<Endpoint>,
    Extension(place): Extension<Arc<Place>>,
    Extension(bearer): Extension<Bearer>,
    query: Result<Query<ingest::Options>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let options = query.ok().map(|Query(options)| options);
    let (place, bearer, headers) = (&place, &bearer, &headers);
    match endpoint.ingest {
        Some(ingest) => ingest.take(Incoming { place, bearer, headers, options }, body).await,
        None => {
            problem(StatusCode::FORBIDDEN, "ingest is off: it is turned on by status.ingest = true")
        }
    }
}

/// The query of `POST /faults/kill`.
#[derive(Deserialize)]
struct Kill {
    actor: String,
}

async fn kill(
    State(endpoint): State<Endpoint>,
    query: Result<Query<Kill>, QueryRejection>,
) -> Response {
    if !endpoint.faults {
        let text = "fault injection is off: it is turned on by faults.enabled = true";
        return problem(StatusCode::FORBIDDEN, text);
    }
    let Ok(Query(kill)) = query else {
        let text = "no actor is named: POST /faults/kill?actor=PATH, with a path from /status";
        return problem(StatusCode::BAD_REQUEST, text);
    };
    let Some(vitals) = endpoint.board.find(&kill.actor) else {
        let known = endpoint.board.paths().join(", ");
        let text = format!("no actor {}; there are: {known}", kill.actor);
        return problem(StatusCode::NOT_FOUND, &text);
    };
    vitals.kill();
    (StatusCode::ACCEPTED, format!("{} panics at its next message\n", kill.actor)).into_response()
}
