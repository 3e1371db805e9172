//! The three ports, and the shelf of dead letters beside them: all that the actors know of the world.
//!
//! Errors are sorted by what the caller does next. Where a fault lasts, the port says so and the
//! actor waits; no backend waits on the actor's behalf for longer than one attempt takes.

mod archive_store;
mod auditable;
mod dead_letter_store;
mod event_log;
mod reprocessing;
mod warehouse;

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
