//! In memory: warehouse.
