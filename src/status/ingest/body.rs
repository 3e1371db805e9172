//! Reads request bodies in bounded memory and time.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::RETRY_SECONDS;
use crate::status::connections::Hold;
use crate::status::routes::problem;

/// The largest body, unless a single event may be larger.
const BODY_BYTES: u64 = 8 * 1024 * 1024;

/// A body must be complete this long after its head.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The next bytes of a body must come within this time.
const PAUSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The memory for bodies under way, and what one of them may take.
#[derive(Debug)]
pub(super) struct Bodies {
    limit: u32,
    /// A permit is a byte of a body; there are two bodies' worth.
    memory: Arc<Semaphore>,
}

/// A whole body.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) bytes: Bytes,
    _memory: Memory,
}

/// Permits for bytes that are in memory.
type Memory = Option<OwnedSemaphorePermit>;

impl Bodies {
    /// For events of at most `max_event_bytes`.
    pub(super) fn new(max_event_bytes: u64) -> Self {
        // Twice, so that an event a little too large is refused by its line and not by its body.
        let limit = max_event_bytes.saturating_mul(2).max(BODY_BYTES);
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let memory = Arc::new(Semaphore::new((limit as usize).saturating_mul(2)));
        Self { limit, memory }
    }

    /// Reads the body; `hold` keeps the connection's place until it fails.
    pub(super) async fn receive(
        &self,
        body: &mut Body,
        hold: Hold,
    ) -> Result<(Received, Hold), Rejection> {
        let received = timeout(BODY_TIMEOUT, self.read(body));
        match received.await.unwrap_or(Err(Rejection::Slow)) {
            Ok(received) => Ok((received, hold)),
            Err(rejection) => {
                drop(hold);
                // A client that is still sending when the answer comes does not get to read it.
                if rejection.leaves_a_sender() {
                    let _ = timeout(BODY_TIMEOUT, discard(body, self.limit)).await;
                }
                Err(rejection)
            }
        }
    }

    /// Takes permits as bytes arrive: a body that is only announced holds no memory.
    async fn read(&self, body: &mut Body) -> Result<Received, Rejection> {
        if body.size_hint().lower() > u64::from(self.limit) {
            return Err(Rejection::TooLarge { limit: self.limit });
        }
        let mut whole = Vec::new();
        let mut memory = None;
        while let Some(data) =
            timeout(PAUSE_TIMEOUT, next_data(body)).await.map_err(|_| Rejection::Slow)?
        {
            self.append(&data.map_err(Rejection::Broken)?, &mut whole, &mut memory)?;
        }
        Ok(Received { bytes: whole.into(), _memory: memory })
    }

    fn append(
        &self,
        data: &[u8],
        whole: &mut Vec<u8>,
        memory: &mut Memory,
    ) -> Result<(), Rejection> {
        let more = u32::try_from(data.len()).unwrap_or(u32::MAX);
        if whole.len() + data.len() > self.limit as usize {
            return Err(Rejection::TooLarge { limit: self.limit });
        }
        let permits = Arc::clone(&self.memory).try_acquire_many_owned(more);
        let permits = permits.map_err(|_| Rejection::Busy)?;
        match memory {
            Some(memory) => memory.merge(permits),
            None => *memory = Some(permits),
        }
        whole.extend_from_slice(data);
        Ok(())
    }
}

/// The body's next bytes; no bytes for a trailer.
async fn next_data(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
}

/// Reads on, and throws away at most `most` bytes.
async fn discard(body: &mut Body, most: u32) {
    let mut left = most as usize;
    while let Some(Ok(data)) = next_data(body).await
        && data.len() <= left
    {
        left -= data.len();
    }
}

/// Why a body is refused as a whole.
#[derive(Debug)]
pub(super) enum Rejection {
    /// It is longer than `limit` bytes.
    TooLarge { limit: u32 },
    /// Other bodies hold all the memory, or all places for requests.
    Busy,
    /// The sender published more than its rate, and has to wait this long.
    OverRate(Duration),
    /// It did not come in time.
    Slow,
    /// The connection failed in the middle of it.
    Broken(axum::Error),
}

impl Rejection {
    fn leaves_a_sender(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::Busy)
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
            Self::OverRate(wait) => {
                let seconds = wait.as_secs().saturating_add(1).to_string();
                let text = "the sender's rate is used up: send fewer events a second";
                let answer = problem(StatusCode::TOO_MANY_REQUESTS, text);
                ([(RETRY_AFTER, seconds)], answer).into_response()
            }
            Self::Slow => problem(StatusCode::REQUEST_TIMEOUT, "the body came too slowly"),
            Self::Broken(error) => {
                problem(StatusCode::BAD_REQUEST, &format!("the body broke off: {error}"))
            }
        }
    }
}
