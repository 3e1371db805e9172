//! Conformance: warehouse.
