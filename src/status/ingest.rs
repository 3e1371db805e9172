//! Takes events over HTTP into the log: one event a line, as it is.
//!
//! Answered only after the log has made them durable. Bodies under way hold bounded memory, and so
//! do the requests; a sender that finds none free is asked to come back.

mod body;
mod receipt;

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use kappa_actors::message::{Attributes, NewMessage};
use kappa_actors::port::EventLog;
use tokio::sync::Semaphore;

use super::access::Bearer;
use super::connections::Place;
use super::sender;
use super::server::MAX_CONNECTIONS;
use body::{Bodies, Rejection};
use receipt::Receipt;

/// Requests under way: half of the connections stay free for others.
const MAX_REQUESTS: usize = MAX_CONNECTIONS / 2;

/// Events published in one call: what is made of the lines stays small beside the body.
const CHUNK_EVENTS: usize = 2_000;

/// Seconds after which to try again.
const RETRY_SECONDS: &str = "1";

/// The way into the log.
pub(super) struct Ingest {
    log: Arc<dyn EventLog>,
    max_event_bytes: u64,
    bodies: Bodies,
    requests: Semaphore,
}

impl Ingest {
    /// Publishes to `log` what is at most `max_event_bytes` long.
    pub(super) fn new(log: Arc<dyn EventLog>, max_event_bytes: u64) -> Self {
        let (bodies, requests) = (Bodies::new(max_event_bytes), Semaphore::new(MAX_REQUESTS));
        Self { log, max_event_bytes, bodies, requests }
    }

    /// Publishes the lines of `body` and reports what became of each.
    pub(super) async fn take(&self, place: &Arc<Place>, bearer: &Bearer, body: Body) -> Response {
        match self.try_take(place, bearer, body).await {
            Ok(receipt) => receipt.into_response(),
            Err(rejection) => rejection.into_response(),
        }
    }

    async fn try_take(
        &self,
        place: &Arc<Place>,
        bearer: &Bearer,
        mut body: Body,
    ) -> Result<Receipt, Rejection> {
        let _request = self.requests.try_acquire().map_err(|_| Rejection::Busy)?;
        // A connection without its place is about to be closed.
        let hold = place.hold().ok_or(Rejection::Busy)?;
        let (received, _hold) = self.bodies.receive(&mut body, hold).await?;
        let events = events(&received.bytes).count() as u64;
        let Bearer::Sender(sender) = bearer else {
            return Ok(self.publish(received.bytes.clone(), Attributes::new()).await);
        };
        sender.charge(events).map_err(Rejection::OverRate)?;
        let named = Attributes::from([(sender::ATTRIBUTE.to_owned(), sender.name.clone())]);
        let receipt = self.publish(received.bytes.clone(), named).await;
        sender.give_back(events.saturating_sub(receipt.published));
        Ok(receipt)
    }

    async fn publish(&self, body: Bytes, attributes: Attributes) -> Receipt {
        let mut receipt = Receipt::default();
        let mut lines = events(&body);
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
                .map(|(line, _)| NewMessage {
                    payload: body.slice_ref(line),
                    attributes: attributes.clone(),
                    ..NewMessage::default()
                })
                .collect();
            let outcomes = self.log.publish(messages).await;
            for ((_, number), outcome) in fitting.into_iter().zip(outcomes) {
                receipt.note(number, outcome);
            }
        }
        receipt
    }
}

/// The lines that are not blank, with their numbers.
fn events(body: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    body.split(|byte| *byte == b'\n').zip(1..).filter(|(line, _)| !line.trim_ascii().is_empty())
}
