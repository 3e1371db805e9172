//! Pub/Sub, BigQuery and Cloud Storage on loopback: the real protocols, the services' own rules,
//! and faults on demand.
//!
//! Each server refuses the same requests as the real service, and every such rule names its page of the
//! service's documentation. State is in memory and ends with the server.

pub mod bigquery;
pub mod grpc;
mod permission;
pub mod proxy;
pub mod pubsub;
pub mod storage;
