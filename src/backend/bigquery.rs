//! BigQuery as the warehouse.

mod options;

pub use options::{BigQueryOptions, TableOptions, WriteMode};
