//! Pub/Sub: gRPC for publishing and reading, REST for the administration.
//!
//! - Only a valid lease acknowledges a message; a message whose lease expired comes again:
//!   <https://cloud.google.com/pubsub/docs/lease-management>.
//! - A stream gets no more than it asked for: its messages on loan count until they are answered,
//!   <https://cloud.google.com/pubsub/docs/reference/rpc/google.pubsub.v1#streamingpullrequest>.
//! - A message with an ordering key is held while another of its key is on loan, where the
//!   subscription orders. <https://cloud.google.com/pubsub/docs/ordering> promises the order; this server keeps it by
//!   sending one at a time.

mod control;
mod filter;
mod publish;
mod rest;
mod snapshot;
mod state;
mod stream;
mod subscriber;
mod subscription;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use control::Control;

use crate::grpc::{Served, incoming, listen};
use state::State;

/// How often leases are looked at.
const TICK: Duration = Duration::from_millis(50);

/// The state, and what rings when there may be something to send.
#[derive(Clone, Debug)]
struct Shared {
    state: Arc<Mutex<State>>,
    /// How often streams were cut.
    bell: watch::Sender<u64>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        self.bell.send_modify(|_| {});
    }

    fn cut(&self) {
        self.bell.send_modify(|cuts| *cuts += 1);
    }
}

/// A Pub/Sub on two free ports of the loopback; it ends when dropped.
#[derive(Debug)]
pub struct PubSubServer {
    grpc: SocketAddr,
    rest: SocketAddr,
    control: Control,
    tasks: Vec<JoinHandle<()>>,
}

impl PubSubServer {
    /// Starts a server without any topic.
    ///
    /// # Errors
    /// No free port.
    pub async fn start() -> io::Result<Self> {
        let (grpc_listener, grpc) = listen().await?;
        let (rest_listener, rest) = listen().await?;
        let shared =
            Shared { state: Arc::new(Mutex::new(State::default())), bell: watch::channel(0).0 };
        let publisher = Served(publish::Publisher(shared.clone()));
        let subscriber = Served(subscriber::Subscriber(shared.clone()));
        let grpc_task = tokio::spawn(async move {
            let _ = tonic::transport::Server::builder()
                .add_service(publisher)
                .add_service(subscriber)
                .serve_with_incoming(incoming(grpc_listener))
                .await;
        });
        let app = rest::app(shared.clone());
        let rest_task = tokio::spawn(async move {
            let _ = axum::serve(rest_listener, app).await;
        });
        let clock = shared.clone();
        let clock_task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            loop {
                ticks.tick().await;
                let expired = clock.state().expire();
                if expired {
                    clock.ring();
                }
            }
        });
        let tasks = vec![grpc_task, rest_task, clock_task];
        Ok(Self { grpc, rest, control: Control::new(shared), tasks })
    }

    /// Where messages are published and read: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn grpc_endpoint(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// Where topics and subscriptions are administered: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn rest_endpoint(&self) -> String {
        format!("http://{}", self.rest)
    }

    /// Faults and inspection, while the server runs.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }
}

impl Drop for PubSubServer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
