//! BigQuery: REST v2 for datasets, tables and queries, gRPC for the Storage Write API.
//!
//! - Rows that are answered as appended are stored, unless a fault is ordered.
//! - A request is stored whole or not at all.
//! - Different rows at a used offset are recorded as a violation: the service would answer
//!   ALREADY_EXISTS and the rows would be lost without a report.
//!
//! Source: the comments of googleapis: google/cloud/bigquery/storage/v1/storage.proto.

mod access;
mod append;
mod bounds;
mod cell;
mod control;
mod dialect;
mod merge;
mod query;
mod rest;
mod schema;
mod state;
mod table;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;

pub use control::{AppendFault, Control, RestFault};
pub use state::{Connections, StreamSeen};
pub use table::Arrival;

use crate::grpc::{Served, incoming, listen};
use state::State;

/// A BigQuery on two free ports of the loopback; it ends when dropped.
#[derive(Debug)]
pub struct BigQueryServer {
    rest: SocketAddr,
    grpc: SocketAddr,
    control: Control,
    tasks: Vec<JoinHandle<()>>,
}

impl BigQueryServer {
    /// Starts a server without any dataset.
    ///
    /// # Errors
    /// No free port.
    pub async fn start() -> io::Result<Self> {
        let state = Arc::new(Mutex::new(State::default()));
        let (rest_listener, rest) = listen().await?;
        let (grpc_listener, grpc) = listen().await?;
        let service = Served(append::Write(Arc::clone(&state)));
        let grpc_task = tokio::spawn(async move {
            let _ = tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming(grpc_listener))
                .await;
        });
        let app = rest::app(Arc::clone(&state));
        let rest_task = tokio::spawn(async move {
            let _ = axum::serve(rest_listener, app).await;
        });
        Ok(Self { rest, grpc, control: Control::new(state), tasks: vec![grpc_task, rest_task] })
    }

    /// Where REST is served: `http://127.0.0.1:PORT`, with or without `/bigquery/v2` behind.
    #[must_use]
    pub fn rest_endpoint(&self) -> String {
        format!("http://{}", self.rest)
    }

    /// Where the Storage Write API is served: `http://127.0.0.1:PORT`.
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

impl Drop for BigQueryServer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
