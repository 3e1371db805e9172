//! Accepts connections and serves HTTP/1 on them, with a deadline for each step that a client may delay.
//!
//! HTTP/2 is not spoken: one of its connections holds hundreds of requests, and none of these
//! bounds would count them.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::connections::{Place, Places};

/// Connections open at once: with their buffers and an unread answer each, some 20 MiB.
pub(super) const MAX_CONNECTIONS: usize = 256;

/// A request's head must be complete this long after the connection began to wait for it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// An answer must be taken by the client's system this long after the first byte that was not.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest head, and the most that is read ahead of a body or kept of an unread answer.
const BUFFER_BYTES: usize = 16 * 1024;

/// The pause after the system refused a connection, for want of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` until `stop`, then finishes the requests under way.
///
/// Dropping it cuts all connections.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    stop: CancellationToken,
) {
    let tls = tls.map(TlsAcceptor::from);
    let places = Places::new(MAX_CONNECTIONS);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Without a place the connection is closed: requests that work hold them all.
                    if let Some(place) = places.enter() {
                        let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
                        connections.spawn(connection(stream, tls, place, router, stop));
                    }
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection until it ends, breaks a deadline, or loses its place.
///
/// An error ends it without a word: it concerns this client alone, whose own system reports it.
async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    place: Arc<Place>,
    router: Router,
    stop: CancellationToken,
) {
    let Some(tls) = tls else { return requests(stream, place, router, stop).await };
    let shaken = tokio::select! {
        shaken = timeout(HEAD_TIMEOUT, tls.accept(stream)) => shaken,
        () = place.evicted() => return,
        () = stop.cancelled() => return,
    };
    if let Ok(Ok(stream)) = shaken {
        requests(stream, place, router, stop).await;
    }
}

async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    place: Arc<Place>,
    router: Router,
    stop: CancellationToken,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Arc::clone(&place));
        router.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(BUFFER_BYTES);
    let mut serving = pin!(http.serve_connection(TokioIo::new(Timed::new(stream)), service));
    tokio::select! {
        _ = serving.as_mut() => return,
        () = place.evicted() => return,
        () = stop.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

/// A stream that fails when its client does not read the answer.
#[derive(Debug)]
pub(super) struct Timed<S> {
    stream: S,
    /// Runs while something written is not yet flushed.
    unread: Option<Pin<Box<Sleep>>>,
}

impl<S> Timed<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, unread: None }
    }

    /// Passes on the result of a write or flush, unless the deadline is over.
    fn within_deadline<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_pending() {
            let unread = self.unread.get_or_insert_with(|| Box::pin(sleep(ANSWER_TIMEOUT)));
            ready!(unread.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.within_deadline(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        if polled.is_ready() {
            self.unread = None;
        }
        self.within_deadline(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.within_deadline(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        self.within_deadline(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
