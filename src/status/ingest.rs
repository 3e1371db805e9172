//! Takes events over HTTP into the log: one event a line, as it is.
//!
//! Answered only after the log has made them durable. Bodies under way hold no more memory than
//! `Ingest::memory` has permits; who finds none is told to come back.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use kappa_actors::message::NewMessage;
use kappa_actors::port::{EventLog, PublishError};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::routes::problem;

/// The largest body, unless a single event may be larger.
const BODY_BYTES: u64 = 8 * 1024 * 1024;

/// A client that sends its body slower than this is cut off: it holds memory that others want.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Events published in one call: what is made of the lines stays small beside the body.
const CHUNK_EVENTS: usize = 2_000;

/// Refused lines named in an answer; the others are only counted.
const MAX_NAMED: usize = 1_000;

/// Seconds after which to try again.
const RETRY_SECONDS: &str = "1";

/// The way into the log.
pub(super) struct Ingest {
    log: Arc<dyn EventLog>,
    max_event_bytes: u64,
    body_limit: u32,
    /// A permit is a byte of a body under way; there are two bodies' worth.
    memory: Arc<Semaphore>,
}

/// What became of the lines.
#[derive(Debug, Default, Serialize)]
struct Receipt {
    published: u64,
    refused: u64,
    /// The first of the refused.
    refused_lines: Vec<RefusedLine>,
    /// Where the log stopped taking; send the lines from here again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_from_line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip)]
    status: StatusCode,
}

/// A line that will never be taken.
#[derive(Debug, Serialize)]
struct RefusedLine {
    /// Its number, from 1, blank lines counted.
    line: u64,
    reason: String,
}

impl Ingest {
    /// Publishes to `log` what is at most `max_event_bytes` long.
    pub(super) fn new(log: Arc<dyn EventLog>, max_event_bytes: u64) -> Self {
        // Twice, so that an event a little too large is refused by its line and not by its body.
        let body_limit = max_event_bytes.saturating_mul(2).max(BODY_BYTES);
        let body_limit = u32::try_from(body_limit).unwrap_or(u32::MAX);
        let memory = Arc::new(Semaphore::new((body_limit as usize).saturating_mul(2)));
        Self { log, max_event_bytes, body_limit, memory }
    }

    /// Publishes the lines of `body` and says what became of each.
    pub(super) async fn take(&self, mut body: Body) -> Response {
        let received = tokio::time::timeout(BODY_TIMEOUT, self.receive(&mut body));
        match received.await.unwrap_or(Err(Rejection::Slow)) {
            Ok((lines, _memory)) => self.publish(lines).await.into_response(),
            Err(rejection) => {
                // A client that is still sending when the answer comes does not get to read it.
                let _ = tokio::time::timeout(rejection.patience(), discard(&mut body)).await;
                rejection.into_response()
            }
        }
    }

    /// The whole body, and the permits for its memory.
    async fn receive(&self, body: &mut Body) -> Result<(Bytes, OwnedSemaphorePermit), Rejection> {
        let exact = body.size_hint().exact();
        // A body that does not say its length may have any.
        let length = exact.unwrap_or(u64::from(self.body_limit));
        let too_large = Rejection::TooLarge { limit: self.body_limit };
        let Some(length) = u32::try_from(length).ok().filter(|n| *n <= self.body_limit) else {
            return Err(too_large);
        };
        let memory =
            Arc::clone(&self.memory).try_acquire_many_owned(length).map_err(|_| Rejection::Busy)?;
        let mut whole = Vec::with_capacity(exact.map_or(0, |_| length as usize));
        while let Some(data) = next_data(body).await {
            let data = data.map_err(Rejection::Broken)?;
            if whole.len() + data.len() > length as usize {
                return Err(too_large);
            }
            whole.extend_from_slice(&data);
        }
        Ok((whole.into(), memory))
    }

    async fn publish(&self, body: Bytes) -> Receipt {
        let mut receipt = Receipt::default();
        let mut lines = body
            .split(|byte| *byte == b'\n')
            .zip(1..)
            .filter(|(line, _)| !line.trim_ascii().is_empty());
        while receipt.retry_from_line.is_none() {
            let chunk: Vec<(&[u8], u64)> = lines.by_ref().take(CHUNK_EVENTS).collect();
            if chunk.is_empty() {
                break;
            }
            let (fitting, oversized): (Vec<_>, Vec<_>) =
                chunk.into_iter().partition(|(line, _)| line.len() as u64 <= self.max_event_bytes);
            for (line, number) in oversized {
                receipt.oversized(number, line.len(), self.max_event_bytes);
            }
            let messages = fitting
                .iter()
                .map(|(line, _)| NewMessage::from_payload(body.slice_ref(line)))
                .collect();
            let outcomes = self.log.publish(messages).await;
            for ((_, number), outcome) in fitting.into_iter().zip(outcomes) {
                receipt.note(number, outcome);
            }
        }
        receipt
    }
}

/// Why a body is not even looked at.
enum Rejection {
    /// It is longer than `limit` bytes.
    TooLarge { limit: u32 },
    /// Other bodies hold all the memory there is.
    Busy,
    /// It did not come in time.
    Slow,
    /// The connection failed in the middle of it.
    Broken(axum::Error),
}

impl Rejection {
    /// How long to go on reading what is thrown away.
    fn patience(&self) -> Duration {
        match self {
            Self::TooLarge { .. } | Self::Busy => BODY_TIMEOUT,
            Self::Slow | Self::Broken(_) => Duration::ZERO,
        }
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        match self {
            Self::TooLarge { limit } => problem(
                StatusCode::PAYLOAD_TOO_LARGE,
                &format!("the body is larger than {limit} bytes: send fewer lines"),
            ),
            Self::Busy => {
                let text = "too much is being sent at once: try again shortly";
                let answer = problem(StatusCode::TOO_MANY_REQUESTS, text);
                ([(RETRY_AFTER, RETRY_SECONDS)], answer).into_response()
            }
            Self::Slow => problem(StatusCode::REQUEST_TIMEOUT, "the body came too slowly"),
            Self::Broken(error) => {
                problem(StatusCode::BAD_REQUEST, &format!("the body broke off: {error}"))
            }
        }
    }
}

/// The body's next bytes; none of them where a trailer came.
async fn next_data(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
}

async fn discard(body: &mut Body) {
    while let Some(Ok(_)) = next_data(body).await {}
}

impl Receipt {
    fn oversized(&mut self, line: u64, bytes: usize, max: u64) {
        self.refuse(line, format!("{bytes} bytes: larger than max_event_bytes, {max}"));
        self.status = StatusCode::PAYLOAD_TOO_LARGE;
    }

    fn note(&mut self, line: u64, outcome: Result<String, PublishError>) {
        match outcome {
            Ok(_) => self.published += 1,
            Err(PublishError::Refused(reason)) => {
                self.refuse(line, reason);
                if self.status.is_success() {
                    self.status = StatusCode::UNPROCESSABLE_ENTITY;
                }
            }
            Err(error @ PublishError::Full(_)) => {
                self.stop(line, &error, StatusCode::TOO_MANY_REQUESTS);
            }
            Err(error @ PublishError::Unavailable(_)) => {
                self.stop(line, &error, StatusCode::SERVICE_UNAVAILABLE);
            }
        }
    }

    fn refuse(&mut self, line: u64, reason: String) {
        self.refused += 1;
        if self.refused_lines.len() < MAX_NAMED {
            self.refused_lines.push(RefusedLine { line, reason });
        }
    }

    fn stop(&mut self, line: u64, error: &PublishError, status: StatusCode) {
        if self.retry_from_line.is_none() {
            self.retry_from_line = Some(line);
            self.error = Some(error.to_string());
            self.status = status;
        }
    }
}

impl IntoResponse for Receipt {
    fn into_response(self) -> Response {
        let status = self.status;
        let retry = self.retry_from_line.map(|_| [(RETRY_AFTER, RETRY_SECONDS)]);
        match retry {
            Some(retry) => (status, retry, Json(self)).into_response(),
            None => (status, Json(self)).into_response(),
        }
    }
}
