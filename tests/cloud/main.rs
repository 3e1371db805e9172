//! The cloud backends against servers on loopback that speak the real protocols.
#![cfg(feature = "gcp")]

mod bigquery;
mod gcs;
mod pubsub;
