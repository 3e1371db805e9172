//! Takes events over HTTP into the log, each as it is.
//!
//! Answered only after the log has made them durable. Bodies under way hold bounded memory, and so
//! do the requests; a sender that finds none free is asked to come back.

mod body;
mod content;
mod receipt;

use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use bytes::{Buf as _, Bytes};
use kappa_actors::message::{Attributes, NewMessage};
use kappa_actors::port::EventLog;
use tokio::sync::Semaphore;

use super::access::Bearer;
use super::connections::Place;
use super::sender;
use super::server::MAX_CONNECTIONS;
use crate::framing::{self, Events, Format, Line, Survey, check_start};
use body::{Bodies, Rejection};
pub(super) use content::Options;
use content::{Encoding, Framing};
use receipt::Receipt;

/// Requests under way: half of the connections stay free for others.
const MAX_REQUESTS: usize = MAX_CONNECTIONS / 2;

/// Events published in one call, so that their memory stays small compared with the body.
const CHUNK_EVENTS: usize = 2_000;

/// Small events share allocations of this size.
const ARENA_BYTES: usize = 64 * 1024;

/// Seconds after which to try again.
const RETRY_SECONDS: &str = "1";

/// The way into the log.
pub(super) struct Ingest {
    log: Arc<dyn EventLog>,
    max_event_bytes: u64,
    bodies: Arc<Bodies>,
    requests: Semaphore,
}

impl Ingest {
    /// Publishes to `log` events of at most `max_event_bytes`.
    pub(super) fn new(log: Arc<dyn EventLog>, max_event_bytes: u64) -> Self {
        let (bodies, requests) =
            (Arc::new(Bodies::new(max_event_bytes)), Semaphore::new(MAX_REQUESTS));
        Self { log, max_event_bytes, bodies, requests }
    }

    /// Publishes the events of `body` and reports what became of each.
    pub(super) async fn take(&self, request: Incoming<'_>, body: Body) -> Response {
        match self.try_take(request, body).await {
            Ok(receipt) => receipt.into_response(),
            Err(rejection) => rejection.into_response(),
        }
    }

    async fn try_take(&self, from: Incoming<'_>, mut body: Body) -> Result<Receipt, Rejection> {
        let _request = self.requests.try_acquire().map_err(|_| Rejection::Busy)?;
        let (encoding, framing) = (Encoding::of(from.headers)?, Framing::of(from.headers)?);
        let options = from.options.ok_or(Rejection::Query)?;
        // A connection without its place is about to be closed.
        let hold = from.place.hold().ok_or(Rejection::Busy)?;
        let (received, _hold) = self.bodies.receive(&mut body, hold).await?;
        let received = self.bodies.decode(received, encoding).await?;
        let mut text = received.bytes.clone();
        let mark = check_start(&text).map_err(Rejection::Misframed)?;
        text.advance(mark);
        let format = framing.format(&text);
        let (survey, receipt) = self.survey(format, &text)?;
        if options.strict && receipt.is_refused() {
            return Ok(receipt.published_nothing());
        }
        let mut attributes = Attributes::new();
        let Bearer::Sender(sender) = from.bearer else {
            return Ok(self.publish(format, text, attributes, survey.no_objects).await);
        };
        sender.charge(survey.events).map_err(Rejection::OverRate)?;
        attributes.insert(sender::ATTRIBUTE.to_owned(), sender.name.clone());
        let receipt = self.publish(format, text, attributes, survey.no_objects).await;
        sender.give_back(survey.events.saturating_sub(receipt.published));
        Ok(receipt)
    }

    /// The contents of the text, and the receipt of a strict request.
    fn survey(&self, format: Format, text: &Bytes) -> Result<(Survey, Receipt), Rejection> {
        let mut strict = Receipt::default();
        let report = |line: &Line| match line {
            Line::Event { number, .. } => strict.no_object(*number),
            Line::TooLong { number } => strict.oversized(*number, self.max_event_bytes),
        };
        let survey = framing::survey(format, text, self.max_event_bytes, report);
        Ok((survey.map_err(Rejection::Misframed)?, strict))
    }

    async fn publish(
        &self,
        format: Format,
        text: Bytes,
        attributes: Attributes,
        not_json_objects: u64,
    ) -> Receipt {
        let mut receipt = Receipt::with(not_json_objects);
        let mut events = Events::new(format, &text[..], self.max_event_bytes, ARENA_BYTES);
        while receipt.retry_from_line.is_none() {
            let (mut messages, mut numbers) = (Vec::new(), Vec::new());
            // The survey has read all of it without an error.
            while messages.len() < CHUNK_EVENTS
                && let Ok(Some(line)) = events.next()
            {
                match line {
                    Line::Event { number, payload } => {
                        let (attributes, ordering_key) = (attributes.clone(), String::new());
                        messages.push(NewMessage { payload, attributes, ordering_key });
                        numbers.push(number);
                    }
                    Line::TooLong { number } => receipt.oversized(number, self.max_event_bytes),
                }
            }
            if messages.is_empty() {
                break;
            }
            let outcomes = self.log.publish(messages).await;
            for (number, outcome) in numbers.into_iter().zip(outcomes) {
                receipt.note(number, outcome);
            }
        }
        receipt
    }
}

/// The parts of a request that arrive before its body.
pub(super) struct Incoming<'a> {
    pub(super) place: &'a Arc<Place>,
    pub(super) bearer: &'a Bearer,
    pub(super) headers: &'a HeaderMap,
    /// `None` for a query that is unknown.
    pub(super) options: Option<Options>,
}
