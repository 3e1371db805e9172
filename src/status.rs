//! The status endpoint.
