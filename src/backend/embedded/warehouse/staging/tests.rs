//! Staging beside the live file.
