//! BigQuery as the warehouse.
