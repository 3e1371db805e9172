//! The status endpoint: the state of the daemon over HTTP.
//!
//! It reads the [`Board`], and the pipeline never waits for it. Only two requests change
//! anything, `POST /v1/events` and `POST /faults/kill`. Every request but a probe passes `access`
//! first, whatever its path. Connections, their deadlines and the memory for bodies are bounded.

mod access;
pub mod client;
mod connections;
mod ingest;
mod metrics;
mod routes;
mod sender;
mod server;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use kappa_actors::port::EventLog;
use kappa_actors::vitals::Board;
use tokio::net::TcpListener;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use crate::settings::{SenderSettings, Settings, Token};
use access::Access;
use ingest::Ingest;
use sender::Sender;
pub use tls::{TlsError, TlsFiles};

/// How long requests that are under way may still take after the shutdown was asked for.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// What `status` and `faults` say in the configuration.
#[derive(Clone, Debug)]
pub struct StatusOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The bearer token; `None` for none.
    pub token: Option<Token>,
    /// Senders that publish with their own token, by name.
    pub senders: BTreeMap<String, SenderSettings>,
    /// The certificate and its key; `None` for plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Whether `POST /v1/events` takes events.
    pub ingest: bool,
    /// An event larger than this is refused.
    pub max_event_bytes: u64,
    /// Whether `POST /faults/kill` kills actors.
    pub faults: bool,
}

impl StatusOptions {
    /// Reads the options from a configuration.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let tls = &settings.status.tls;
        Self {
            listen: settings.status.listen,
            token: Some(settings.status.token.clone()).filter(|token| !token.0.is_empty()),
            senders: settings.status.senders.clone(),
            tls: (!tls.certificate.as_os_str().is_empty())
                .then(|| TlsFiles { certificate: tls.certificate.clone(), key: tls.key.clone() }),
            ingest: settings.status.ingest,
            max_event_bytes: settings.max_event_bytes,
            faults: settings.faults.enabled,
        }
    }

    /// Changes the address to any free port.
    #[must_use]
    pub fn on_a_free_port(mut self) -> Self {
        self.listen.set_port(0);
        self
    }
}

/// Why the endpoint cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Everyone on the network could change the daemon.
    #[error(
        "status.listen is {0}, which others can reach, and status.token is empty\n\
         hint: set status.token, or listen on 127.0.0.1"
    )]
    TokenMissing(SocketAddr),
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Someone else listens there.
    #[error(
        "status.listen: {0} is in use\n\
         hint: another daemon may be running; choose another port, or port 0 for a free one"
    )]
    InUse(SocketAddr),
    /// The system's own answer.
    #[error("status.listen: {address}: {source}")]
    Io {
        /// Where it was to listen.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
}

/// The endpoint, bound and ready to be served.
#[derive(Debug)]
pub struct StatusServer {
    listener: TcpListener,
    address: SocketAddr,
    router: axum::Router,
    tls: Option<Arc<ServerConfig>>,
}

impl StatusServer {
    /// Binds the address; connections wait until [`StatusServer::serve`].
    ///
    /// # Errors
    /// [`BindError`], with a way out.
    pub async fn bind(
        options: StatusOptions,
        board: Arc<Board>,
        log: Arc<dyn EventLog>,
    ) -> Result<Self, BindError> {
        let sender = |(name, sender): (&String, &SenderSettings)| {
            Arc::new(Sender::new(name, &sender.token.0, sender.rate))
        };
        let senders = options.senders.iter().map(sender).collect();
        let token = options.token.as_ref().map(|token| token.0.as_str());
        let access = Access::new(options.listen, token, senders)
            .ok_or(BindError::TokenMissing(options.listen))?;
        let tls = options.tls.as_ref().map(tls::config).transpose()?;
        let failure = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse(options.listen),
            _ => BindError::Io { address: options.listen, source },
        };
        let listener = TcpListener::bind(options.listen).await.map_err(failure)?;
        let address = listener.local_addr().map_err(failure)?;
        if options.faults {
            board.warn("fault injection is on (faults.enabled): not for production");
        }
        let ingest = || Arc::new(Ingest::new(Arc::clone(&log), options.max_event_bytes));
        let ingest = options.ingest.then(ingest);
        let router = routes::router(board, log, access, ingest, options.faults);
        Ok(Self { listener, address, router, tls })
    }

    /// Where it listens: the port is the real one where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is ready, then finishes the requests under way; what takes longer
    /// than two seconds is cut off.
    ///
    /// # Errors
    /// None in practice: a failing connection ends alone.
    pub async fn serve(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let stop = CancellationToken::new();
        let mut serving = pin!(server::serve(self.listener, self.tls, self.router, stop.clone()));
        tokio::select! {
            () = &mut serving => return Ok(()),
            () = shutdown => stop.cancel(),
        }
        // Requests that take longer are cut off.
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, serving).await;
        Ok(())
    }
}
