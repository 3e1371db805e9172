//! BigQuery: REST v2 for datasets, tables and jobs, gRPC for the Storage Write API.
