//! Translates the answers of the Storage Write API.

use gcp_bigquery_client::google::cloud::bigquery::storage::v1::storage_error::StorageErrorCode;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::{RowError, StorageError};
use gcp_bigquery_client::google::rpc;
use kappa_actors::port::WriteError;
use prost::Message as _;
use tonic::{Code, Status};

/// The role that writing needs.
const ROLE: &str = "roles/bigquery.dataEditor";
/// Error details name their type by this path.
const STORAGE_ERROR: &str = "google.cloud.bigquery.storage.v1.StorageError";

/// Why a request was not answered with success.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// It is unknown whether the rows are stored; the connection cannot be used any more.
    Broken(String),
    /// Nothing is stored; the same request may be taken later.
    Later(String),
    /// Nothing is stored, and asking soon again makes it worse.
    Quota(String),
    /// Nothing is stored, because these rows are none of the table's; the others are good.
    Rows(Vec<RowError>),
    /// Nothing is stored: the writer's schema and the table's differ.
    Schema(String),
    /// The request was refused as invalid, and none of its rows was named.
    Unnamed(String),
    /// The account may not write to the table, or the table does not exist: the service answers
    /// both with the same code.
    Denied(String),
    /// Nothing is stored: the table is not there.
    NoTable(String),
    /// The stream takes no more rows, or does not exist.
    StreamEnded(String),
    /// The stream has rows at this offset already.
    AlreadyThere,
    /// Nothing is stored: rows before these are missing.
    Gap(String),
}

impl Fault {
    /// Whether the stream may be gone for good: then its length, or the missing table, shows which rows
    /// it holds.
    pub(super) const fn may_end_the_stream(&self) -> bool {
        matches!(
            self,
            Self::StreamEnded(_)
                | Self::NoTable(_)
                | Self::Gap(_)
                | Self::AlreadyThere
                | Self::Denied(_)
        )
    }

    /// Returns the error for the caller of a write, after all retries.
    pub(super) fn told(self, table: &str) -> WriteError {
        match self {
            Self::Schema(message) | Self::NoTable(message) => {
                WriteError::Gone(format!("{table}: {message}"))
            }
            Self::Broken(message)
            | Self::Later(message)
            | Self::Quota(message)
            | Self::Unnamed(message)
            | Self::Denied(message)
            | Self::StreamEnded(message)
            | Self::Gap(message) => WriteError::Unavailable(format!("{table}: {message}")),
            Self::AlreadyThere => WriteError::Unavailable(format!(
                "{table}: the stream has rows at this offset already"
            )),
            Self::Rows(rows) => {
                WriteError::Unavailable(format!("{table}: {} rows were refused", rows.len()))
            }
        }
    }
}

/// Returns the fault of the requests that a connection left unanswered at its end.
pub(super) fn ended(table: &str, status: &Status) -> Fault {
    sort(table, status.code(), status.message(), storage_code(status.details()))
}

/// Returns the fault of an answer with an error.
pub(super) fn answered(table: &str, status: &rpc::Status, rows: Vec<RowError>) -> Fault {
    if !rows.is_empty() {
        return Fault::Rows(rows);
    }
    let storage = status.details.iter().find(|detail| detail.type_url.ends_with(STORAGE_ERROR));
    let storage = storage.and_then(|detail| StorageError::decode(&*detail.value).ok());
    sort(table, Code::from(status.code), &status.message, storage.map(|error| error.code()))
}

/// The storage error in the details of a status, which are an `rpc::Status` themselves.
fn storage_code(details: &[u8]) -> Option<StorageErrorCode> {
    let status = rpc::Status::decode(details).ok()?;
    let detail = status.details.iter().find(|detail| detail.type_url.ends_with(STORAGE_ERROR))?;
    Some(StorageError::decode(&*detail.value).ok()?.code())
}

fn sort(table: &str, code: Code, message: &str, storage: Option<StorageErrorCode>) -> Fault {
    let told = format!("{message} ({code:?})");
    match storage {
        Some(StorageErrorCode::TableNotFound) => return Fault::NoTable(told),
        Some(
            StorageErrorCode::StreamFinalized
            | StorageErrorCode::StreamNotFound
            | StorageErrorCode::InvalidStreamState,
        ) => return Fault::StreamEnded(told),
        Some(StorageErrorCode::SchemaMismatchExtraFields) => return Fault::Schema(told),
        Some(StorageErrorCode::OffsetAlreadyExists) => return Fault::AlreadyThere,
        Some(StorageErrorCode::OffsetOutOfRange) => return Fault::Gap(told),
        _ => {}
    }
    match code {
        Code::ResourceExhausted => Fault::Quota(told),
        Code::PermissionDenied => Fault::Denied(missing_role(table, message)),
        // They may have run out with a connection that lived for long.
        Code::Unauthenticated => {
            Fault::Broken(format!("the credentials were not accepted: {message}"))
        }
        Code::NotFound => Fault::NoTable(told),
        Code::AlreadyExists => Fault::AlreadyThere,
        Code::OutOfRange => Fault::Gap(told),
        Code::InvalidArgument => Fault::Unnamed(told),
        // A stream in a state that takes no rows, such as a finalized one.
        Code::FailedPrecondition => Fault::StreamEnded(told),
        _ => Fault::Broken(told),
    }
}

/// Names the role to grant for a missing permission on the table or dataset `on`. The service's
/// message may name the permission: <https://cloud.google.com/bigquery/docs/access-control>.
pub(super) fn missing_role(on: &str, message: &str) -> String {
    let project = on.split('.').next().unwrap_or(on);
    let (role, on) = if message.contains("bigquery.jobs.create") {
        ("roles/bigquery.jobUser", format!("the project {project}"))
    } else if message.contains("bigquery.datasets.create") {
        ("roles/bigquery.user", format!("the project {project}"))
    } else {
        (ROLE, on.to_owned())
    };
    format!("grant {role} on {on} to the account kappa runs as: {message}")
}
