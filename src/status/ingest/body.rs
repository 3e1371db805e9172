//! Reads request bodies in bounded memory and time.

use std::future::poll_fn;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use axum::http::header::{ACCEPT_ENCODING, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use kappa_actors::archive::Compression;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::RETRY_SECONDS;
use super::content::Encoding;
use crate::framing::{Means, Mistake};
use crate::status::connections::Hold;
use crate::status::routes::problem;

/// The largest body, unless a single event may be larger.
const BODY_BYTES: u64 = 8 * 1024 * 1024;

/// A body must be complete this long after its head.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The next bytes of a body must come within this time.
const PAUSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bodies decoded at once: each decoder has a window of its own, which no permit counts.
const DECODERS: usize = 2;

/// The largest window of a zstd decoder: 8 MiB, the most that HTTP allows.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Bytes decoded at a time.
const DECODED_BYTES: usize = 64 * 1024;

/// The memory for bodies under way, and the most that one may take.
#[derive(Debug)]
pub(super) struct Bodies {
    limit: u32,
    /// A permit is a byte of a body; there are two bodies' worth.
    memory: Arc<Semaphore>,
    decoders: Semaphore,
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
        Self { limit, memory, decoders: Semaphore::new(DECODERS) }
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

    /// Decodes a body, within the limit and the memory of all bodies.
    pub(super) async fn decode(
        self: &Arc<Self>,
        received: Received,
        encoding: Encoding,
    ) -> Result<Received, Rejection> {
        if encoding == Encoding::Identity {
            return Ok(received);
        }
        let _decoder = self.decoders.acquire().await.map_err(|_| Rejection::Busy)?;
        let bodies = Arc::clone(self);
        let decoded = spawn_blocking(move || bodies.decode_now(&received, encoding));
        // A decoder that panics is a body that cannot be decoded.
        decoded.await.unwrap_or_else(|error| Err(Rejection::Undecodable(error.to_string())))
    }

    fn decode_now(&self, received: &Received, encoding: Encoding) -> Result<Received, Rejection> {
        let broken = |error: io::Error| Rejection::Undecodable(error.to_string());
        let mut decoder: Box<dyn Read + '_> = match encoding {
            Encoding::Identity => Box::new(&received.bytes[..]),
            Encoding::Gzip => Compression::Gzip.reader(&received.bytes[..]).map_err(broken)?,
            Encoding::Zstd => {
                let mut decoder = zstd::Decoder::new(&received.bytes[..]).map_err(broken)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(broken)?;
                Box::new(decoder)
            }
        };
        let (mut whole, mut memory) = (Vec::new(), None);
        let mut piece = vec![0; DECODED_BYTES];
        loop {
            match decoder.read(&mut piece) {
                Ok(0) => return Ok(Received { bytes: whole.into(), _memory: memory }),
                Ok(read) => self.append(&piece[..read], &mut whole, &mut memory)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
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
    /// It has an encoding other than gzip or zstd, or several.
    Encoding,
    /// It has a character set other than UTF-8.
    Charset,
    /// It does not have the encoding that its header names.
    Undecodable(String),
    /// It holds no events as it is framed.
    Misframed(Mistake),
    /// The query holds something unknown.
    Query,
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
            Self::Encoding => {
                let text = "Content-Encoding must be gzip, zstd or none";
                let answer = problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
                ([(ACCEPT_ENCODING, "gzip, zstd")], answer).into_response()
            }
            Self::Charset => {
                problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be UTF-8: convert it")
            }
            Self::Undecodable(why) => {
                let text = format!("the body has another encoding than Content-Encoding: {why}");
                problem(StatusCode::BAD_REQUEST, &text)
            }
            Self::Misframed(mistake) => {
                let (error, hint) = (mistake.to_string(), mistake.hint(Means::Http));
                let text = serde_json::json!({ "error": error, "hint": hint, "published": 0 });
                (StatusCode::BAD_REQUEST, Json(text)).into_response()
            }
            Self::Query => problem(
                StatusCode::BAD_REQUEST,
                "the query is unknown: POST /v1/events takes ?strict=true and nothing else",
            ),
            Self::Slow => problem(StatusCode::REQUEST_TIMEOUT, "the body came too slowly"),
            Self::Broken(error) => {
                problem(StatusCode::BAD_REQUEST, &format!("the body broke off: {error}"))
            }
        }
    }
}
