//! Cloud Storage: JSON/HTTP for reading and writing, gRPC storage.v2 for the rest.
