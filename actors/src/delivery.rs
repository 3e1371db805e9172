//! Deliveries and claims.
