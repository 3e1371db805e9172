//! Pub/Sub: gRPC for publishing and pulling, REST for administration.
