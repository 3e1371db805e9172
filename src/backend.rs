//! The backends: implementations of the ports.

#[cfg(feature = "gcp")]
pub mod bigquery;
pub mod embedded;
pub mod faulty;
#[cfg(feature = "gcp")]
pub mod gcp;
#[cfg(feature = "gcp")]
pub mod gcs;
mod object_name;
#[cfg(feature = "gcp")]
pub mod pubsub;
#[cfg(feature = "gcp")]
pub mod setup;
