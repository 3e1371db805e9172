//! Pub/Sub, BigQuery and Cloud Storage on loopback: the real protocols, the services' own rules,
//! and faults on demand.
//!
//! Each server refuses what the real service refuses, and every such rule names the page of the
//! service's documentation that it comes from. State is in memory and ends with the server.

pub mod bigquery;
pub mod grpc;
mod permission;
pub mod proxy;
pub mod pubsub;
pub mod storage;
