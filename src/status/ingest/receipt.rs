//! The answer to a request with events.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use kappa_actors::port::PublishError;
use serde::Serialize;

use super::RETRY_SECONDS;

/// Refused lines named in an answer; the others are only counted.
const MAX_NAMED: usize = 1_000;

/// What became of the lines.
#[derive(Debug, Default, Serialize)]
pub(super) struct Receipt {
    pub(super) published: u64,
    refused: u64,
    /// Events that are no JSON objects: published, and dead letters soon.
    not_json_objects: u64,
    /// The first of the refused.
    refused_lines: Vec<RefusedLine>,
    /// Where the log stopped taking; send the lines from here again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry_from_line: Option<u64>,
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

impl Receipt {
    /// The receipt of a body with so many events that are no JSON objects.
    pub(super) fn with(not_json_objects: u64) -> Self {
        Self { not_json_objects, ..Self::default() }
    }

    pub(super) fn oversized(&mut self, line: u64, max: u64) {
        self.refuse(line, format!("larger than max_event_bytes, {max}"));
        self.status = StatusCode::PAYLOAD_TOO_LARGE;
    }

    /// Whether anything is refused.
    pub(super) fn is_refused(&self) -> bool {
        self.refused > 0
    }

    /// Refuses an event that strictness does not take.
    pub(super) fn no_object(&mut self, line: u64) {
        self.refuse(line, "no JSON object".to_owned());
        if self.status.is_success() {
            self.status = StatusCode::UNPROCESSABLE_ENTITY;
        }
    }

    /// Notes that nothing was published, since some lines are refused.
    pub(super) fn published_nothing(mut self) -> Self {
        self.error =
            Some("nothing is published, since strict=true and lines are refused".to_owned());
        self
    }

    pub(super) fn note(&mut self, line: u64, outcome: Result<String, PublishError>) {
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
