//! Cloud Storage: JSON/HTTP for reading and writing, gRPC storage.v2 for the rest.
//!
//! - An object is stored whole or not at all, and a name has one live generation:
//!   <https://cloud.google.com/storage/docs/objects>.
//! - Every precondition that a request names is checked before anything is done:
//!   <https://cloud.google.com/storage/docs/request-preconditions>.
//! - A checksum that came with an object is compared with its bytes; a mismatch stores nothing:
//!   <https://cloud.google.com/storage/docs/data-validation>.

mod control;
mod grpc;
mod http;
mod names;
mod policies;
mod state;
mod upload;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::serve::ListenerExt as _;
use tokio::task::JoinHandle;

pub use control::{Control, ReadFault};

use crate::grpc::{Served, incoming, listen};
use state::State;

/// A Cloud Storage on two free ports of the loopback; it ends when dropped.
#[derive(Debug)]
pub struct StorageServer {
    http: SocketAddr,
    grpc: SocketAddr,
    control: Control,
    tasks: Vec<JoinHandle<()>>,
}

impl StorageServer {
    /// Starts a server without any bucket.
    ///
    /// # Errors
    /// No free port.
    pub async fn start() -> io::Result<Self> {
        let (http_listener, http) = listen().await?;
        let (grpc_listener, grpc) = listen().await?;
        let state = Arc::new(Mutex::new(State::new(format!("http://{http}"))));
        let service = Served(grpc::Storage(Arc::clone(&state)));
        let control = Served(grpc::StorageControl(Arc::clone(&state)));
        let grpc_task = tokio::spawn(async move {
            let _ = tonic::transport::Server::builder()
                .add_service(service)
                .add_service(control)
                .serve_with_incoming(incoming(grpc_listener))
                .await;
        });
        let app = http::app(Arc::clone(&state));
        let http_listener = http_listener.tap_io(|connection| {
            let _ = connection.set_nodelay(true);
        });
        let http_task = tokio::spawn(async move {
            let _ = axum::serve(http_listener, app).await;
        });
        Ok(Self { http, grpc, control: Control::new(state), tasks: vec![grpc_task, http_task] })
    }

    /// Where JSON/HTTP is served: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn rest_endpoint(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Where storage.v2 is served: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn grpc_endpoint(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// Faults and inspection, while the server runs.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }
}

impl Drop for StorageServer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
