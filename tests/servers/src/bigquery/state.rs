//! The state of the server, behind one lock that is never held over an await.
//!
//! Rules of appends without a page are from the comments of googleapis:
//! google/cloud/bigquery/storage/v1/storage.proto.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use googleapis_tonic_google_cloud_bigquery_storage_v1::google::cloud::bigquery::storage::v1 as api;
use serde_json::Value;
use tonic::Code;

use super::bounds;
use super::control::{AppendFault, RestFault};
use super::query::{Found, Loaded};
use super::table::Table;
use super::wire::Plan;
use crate::permission::Granted;
use api::storage_error::StorageErrorCode;

/// How many queries the pages are kept of. The service keeps them for a day:
/// <https://cloud.google.com/bigquery/docs/cached-results>.
const MAX_JOBS: usize = 16;

/// The state shared by both protocols and the control handle.
pub(super) type Shared = Arc<Mutex<State>>;

/// Locks `state`, also after a panic elsewhere, so that a test can still read it.
pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A created write stream.
#[derive(Clone, Debug)]
pub struct StreamSeen {
    /// Its full name.
    pub name: String,
    /// How many rows it holds.
    pub rows: i64,
    /// Whether it takes no more.
    pub finalized: bool,
}

/// Connections of the write API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Open now.
    pub open: usize,
    /// Ever opened.
    pub opened: usize,
}

#[derive(Default)]
pub(super) struct WriteStream {
    /// A hash of each row, to distinguish a retry from different rows at a used offset.
    pub(super) rows: Vec<u64>,
    pub(super) finalized: bool,
}

/// Why an append is refused.
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) storage: Option<StorageErrorCode>,
    pub(super) rows: Vec<api::RowError>,
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), storage: None, rows: Vec::new() }
    }

    fn storage(code: Code, storage: StorageErrorCode, message: impl Into<String>) -> Self {
        Self { storage: Some(storage), ..Self::new(code, message) }
    }
}

#[derive(Default)]
pub(super) struct State {
    /// Resources by `project.dataset`.
    pub(super) datasets: BTreeMap<String, Value>,
    /// By `project.dataset.table`.
    pub(super) tables: BTreeMap<String, Table>,
    /// By full name.
    pub(super) streams: HashMap<String, WriteStream>,
    pub(super) next_stream: u64,
    pub(super) append_faults: VecDeque<AppendFault>,
    /// How many calls that finalize a stream are refused from now on.
    pub(super) finalize_faults: usize,
    pub(super) rest_faults: VecDeque<RestFault>,
    pub(super) delay: Duration,
    pub(super) spread_late: bool,
    /// The only column of a row that is kept.
    pub(super) keep_only: Option<String>,
    pub(super) revoked: bool,
    /// Table, column and text of rows to refuse.
    pub(super) refused: Vec<(String, String, String)>,
    /// Refused requests do not say which rows are at fault.
    pub(super) unnamed: bool,
    /// Refusals end the call, without details.
    pub(super) by_status: bool,
    /// A table that is not there is answered like one that the caller may not write to.
    pub(super) hidden: bool,
    pub(super) connections: Connections,
    pub(super) appends: usize,
    pub(super) requests: Vec<String>,
    pub(super) tokens: Vec<String>,
    /// The one authorization that calls of the write API are taken with; `None` takes any.
    pub(super) accepted: Option<String>,
    pub(super) granted: Granted,
    /// The largest request that is taken, where it is not the documented one.
    pub(super) max_request: Option<usize>,
    /// Tables that another changes just before their next PATCH.
    pub(super) overtaken: Vec<String>,
    pub(super) violations: Vec<String>,
    pub(super) etag: u64,
    /// How many queries were answered.
    jobs_so_far: u64,
    /// The results of the last queries, by the name of the job; `None` for statements without rows.
    pub(super) jobs: VecDeque<(String, Option<Found>)>,
    /// The rows that queries read, if there was a query.
    pub(super) loaded: Option<Loaded>,
    /// The queries so far.
    pub(super) statements: Vec<String>,
    /// The beginning of the query whose answer is lost.
    pub(super) lost: Option<String>,
    /// Rows on a page of results, at most.
    pub(super) page_rows: Option<usize>,
}

/// Splits `projects/P/datasets/D/tables/T[/streams/S]` into the table's name and the stream.
pub(super) fn split_name(name: &str) -> Option<(String, Option<&str>)> {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        ["projects", p, "datasets", d, "tables", t] => Some((format!("{p}.{d}.{t}"), None)),
        ["projects", p, "datasets", d, "tables", t, "streams", s] => {
            Some((format!("{p}.{d}.{t}"), Some(s)))
        }
        _ => None,
    }
}

/// The path of a project, a dataset or a table, whose name has dots: `projects/P/datasets/D/tables/T`.
pub(super) fn path_of(name: &str) -> String {
    let kinds = ["projects", "datasets", "tables"];
    let parts = kinds.iter().zip(name.splitn(3, '.')).map(|(kind, part)| format!("{kind}/{part}"));
    parts.collect::<Vec<_>>().join("/")
}

impl State {
    /// Keeps the result of a query, and returns its job's name.
    pub(super) fn job(&mut self, found: Option<Found>) -> String {
        let name = format!("job{}", self.jobs_so_far);
        self.jobs_so_far += 1;
        self.jobs.push_back((name.clone(), found));
        if self.jobs.len() > MAX_JOBS {
            self.jobs.pop_front();
        }
        name
    }

    /// The table's columns as the write API knows them, with the version of that knowledge.
    ///
    /// The permission is `bigquery.tables.updateData`:
    /// <https://cloud.google.com/bigquery/docs/change-data-capture>.
    pub(super) fn known(&self, table: &str) -> Result<(&Table, u64), Refusal> {
        self.may_update(table)?;
        // `StorageErrorCode.TABLE_NOT_FOUND`.
        let found = self.tables.get(table).ok_or_else(|| {
            let message = format!("Requested entity was not found: table {table}");
            Refusal::storage(Code::NotFound, StorageErrorCode::TableNotFound, message)
        })?;
        Ok((found, found.version))
    }

    /// Refuses a caller that may not write to the table.
    pub(super) fn may_update(&self, table: &str) -> Result<(), Refusal> {
        let granted = self.granted.has("bigquery.tables.updateData", &path_of(table));
        if self.revoked || !granted || (self.hidden && !self.tables.contains_key(table)) {
            let message = format!(
                "Permission 'TABLES_UPDATE_DATA' denied on resource '{table}' (or it may not exist)."
            );
            return Err(Refusal::new(Code::PermissionDenied, message));
        }
        Ok(())
    }

    /// Stores all `rows` or none, and answers the offset of the first on a created stream.
    pub(super) fn append(
        &mut self,
        name: &str,
        plan: &Arc<Plan>,
        rows: Vec<Vec<u8>>,
        offset: Option<i64>,
    ) -> Result<Option<i64>, Refusal> {
        let (table_name, stream) = split_name(name).unwrap_or_default();
        let by_default = stream == Some("_default");
        self.check_stream(name, by_default, &rows, offset)?;
        let (table, _) = self.known(&table_name)?;
        // https://cloud.google.com/bigquery/docs/change-data-capture#prerequisites
        if plan.changes && (!by_default || table.key.is_empty()) {
            let message = "_CHANGE_TYPE needs the default stream and a table with a primary key";
            return Err(Refusal::new(Code::InvalidArgument, message));
        }
        let errors = self.row_errors(&table_name, plan, &rows);
        if self.unnamed && !errors.is_empty() {
            let mut words = errors.iter().map(|error| &error.message);
            let words = words.find(|words| words.contains(bounds::WORDS));
            let words = words.map_or("Invalid value", String::as_str);
            return Err(Refusal::new(Code::InvalidArgument, words));
        }
        if !errors.is_empty() {
            // `AppendRowsResponse.row_errors`: no row of the request is appended.
            let message = "Errors found while processing rows. Please refer to the row_errors \
                           field for details. The list may not be complete because of the size \
                           limitations.";
            return Err(Refusal { rows: errors, ..Refusal::new(Code::InvalidArgument, message) });
        }
        let at = self.streams.get_mut(name).map(|stream| {
            let at = stream.rows.len();
            stream.rows.extend(rows.iter().map(|row| hash(row)));
            i64::try_from(at).unwrap_or(i64::MAX)
        });
        let visible = SystemTime::now() + self.delay;
        if let Some(table) = self.tables.get_mut(&table_name) {
            let mut cells = Vec::new();
            for row in &rows {
                if plan.read(row, &mut cells).is_err() {
                    continue;
                }
                match &self.keep_only {
                    Some(column) => table.note(plan, &cells, column, visible),
                    None => table.store(plan, &cells, row),
                }
            }
        }
        Ok(at)
    }

    fn check_stream(
        &mut self,
        name: &str,
        by_default: bool,
        rows: &[Vec<u8>],
        offset: Option<i64>,
    ) -> Result<(), Refusal> {
        if by_default {
            // `AppendRowsRequest.offset`: not allowed on '_default'.
            return match offset {
                None => Ok(()),
                Some(_) => {
                    self.violations.push(format!("an offset on {name}"));
                    let message = "Offset must not be set on the default stream.";
                    Err(Refusal::new(Code::InvalidArgument, message))
                }
            };
        }
        // `StorageErrorCode.STREAM_NOT_FOUND`.
        let Some(stream) = self.streams.get(name) else {
            let message = format!("Requested entity was not found: stream {name}");
            return Err(Refusal::storage(
                Code::NotFound,
                StorageErrorCode::StreamNotFound,
                message,
            ));
        };
        // `StorageErrorCode.STREAM_FINALIZED`.
        if stream.finalized {
            return Err(Refusal::storage(
                Code::FailedPrecondition,
                StorageErrorCode::StreamFinalized,
                format!("Stream has been finalized and cannot be appended: {name}"),
            ));
        }
        let Some(offset) = offset else { return Ok(()) };
        let end = i64::try_from(stream.rows.len()).unwrap_or(i64::MAX);
        // `AppendRowsResponse.response.error`: INVALID_ARGUMENT.
        let at = usize::try_from(offset)
            .map_err(|_| Refusal::new(Code::InvalidArgument, "Offset must not be negative."))?;
        // `AppendRowsResponse.response.error`: ALREADY_EXISTS and OUT_OF_RANGE.
        if offset > end {
            return Err(Refusal::storage(
                Code::OutOfRange,
                StorageErrorCode::OffsetOutOfRange,
                format!("The offset is beyond stream, expected offset {end}, received {offset}"),
            ));
        }
        if offset < end {
            let stored = stream.rows.get(at..at + rows.len());
            if !stored.is_some_and(|stored| stored.iter().copied().eq(rows.iter().map(|r| hash(r))))
            {
                let count = rows.len();
                self.violations.push(format!(
                    "different rows at the used offset {offset} of {name} ({count})"
                ));
            }
            return Err(Refusal::storage(
                Code::AlreadyExists,
                StorageErrorCode::OffsetAlreadyExists,
                format!("The offset is within stream, expected offset {end}, received {offset}"),
            ));
        }
        Ok(())
    }

    fn row_errors(&self, table: &str, plan: &Plan, rows: &[Vec<u8>]) -> Vec<api::RowError> {
        let key = self.tables.get(table).map(|table| table.key.as_slice()).unwrap_or_default();
        let refused: Vec<(usize, &str)> = self
            .refused
            .iter()
            .filter(|(name, ..)| name == table)
            .filter_map(|(_, column, text)| {
                let at = plan.columns().iter().position(|known| known.name == *column)?;
                Some((at, text.as_str()))
            })
            .collect();
        let mut errors = Vec::new();
        let mut cells = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let mut fault = match plan.read(row, &mut cells) {
                Ok(()) => plan.fault(&cells, key),
                Err(fault) => Some(fault),
            };
            if fault.is_none()
                && let Some(found) = self.tables.get(table)
            {
                fault = bounds::fault(table, &found.resource, plan.columns(), &cells);
            }
            if fault.is_none() {
                fault = refused.iter().find_map(|&(at, text)| {
                    let hit =
                        matches!(cells[at], super::cell::Cell::Text(cell) if cell.contains(text));
                    hit.then(|| format!("column {} is refused", plan.columns()[at].name))
                });
            }
            if let Some(message) = fault {
                let code = api::row_error::RowErrorCode::FieldsError.into();
                let index = i64::try_from(index).unwrap_or(i64::MAX);
                errors.push(api::RowError { index, code, message });
            }
        }
        errors
    }
}

fn hash(row: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    row.hash(&mut hasher);
    hasher.finish()
}
