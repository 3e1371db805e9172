//! The ports: event log, warehouse and archive store, and the store of dead letters. The actors reach the world through
//! these traits only.
//!
//! Errors are divided by the caller's next step. A lasting fault is returned, and the actor waits; no backend waits
//! for longer than one attempt takes.

mod archive_store;
mod auditable;
mod dead_letter_store;
mod event_log;
mod reprocessing;
mod warehouse;
mod watched;

pub use archive_store::{ArchiveStore, ByteStream, ObjectInfo, ObjectRef, Put, StoreError};
pub use auditable::{
    Age, AuditError, Auditable, Current, CurrentRows, KeyCount, LetterMark, LetterQuery,
};
pub use dead_letter_store::{
    DeadLetterFilter, DeadLetterStore, DeadLettersUnavailable, LetterGroup, read_payload,
};
pub use event_log::{
    Acknowledged, Backlog, EventLog, LogError, LogFault, PublishError, Pulled, Room, Sought,
};
pub use reprocessing::{
    ColumnDiff, Comparison, Diff, Example, Manner, MergeOptions, Merged, ReprocessError,
    Reprocessing, Scope, Shown, Staged, StagingTables, replayed_events, staging_name,
};
pub use warehouse::{EnsureError, Ensured, Refusal, RefusalKind, Warehouse, WriteError, Written};
pub use watched::watched_log;
pub(crate) use watched::{watched_archive, watched_pulls, watched_warehouse};
