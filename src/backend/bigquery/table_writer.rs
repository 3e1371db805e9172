//! Writes the rows of one table.
//!
//! - No request is larger than the service takes; a row that is too large by itself is refused
//!   before it is sent.
//! - A refusal names rows by their index in the request it answers, and is read against that
//!   request alone.
//! - A broken connection is replaced once without a report: connections end as a matter of routine.
//!   After a second failure the caller waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gcp_bigquery_client::google::cloud::bigquery::storage::v1 as api;
use kappa_actors::port::{Refusal, RefusalKind, WriteError};
use kappa_actors::row::{Row, TableSpec};

use super::append::AppendLog;
use super::connection::{Answer, Connection, Ticket, outcome};
use super::encode::{Change, descriptor, encode};
use super::fault::{Fault, answered, ended};
use super::isolate::Unexplained;
use super::pause::Pause;
use super::rest::{Rest, RestError};
use super::{BigQueryOptions, WriteMode, bounds, tables};
use api::append_rows_request::{ProtoData, Rows};

/// The service takes 20 MB in one request: <https://cloud.google.com/bigquery/quotas#write-api-limits>
const MAX_ROW_BYTES: usize = 20_000_000 - 64 * 1024;
/// Rows gather into requests of this size: large enough to cost little each, small enough that a
/// large batch has several in flight.
const REQUEST_BYTES: usize = 1 << 20;

/// What became of one request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Its rows are stored.
    Stored,
    /// The service refused it.
    Refused(Fault),
    /// The outcome is unknown.
    Lost(Fault),
}

/// The writer of one table in one shape.
pub(super) struct TableWriter {
    pub(super) table: Arc<TableSpec>,
    pub(super) mode: WriteMode,
    options: Arc<BigQueryOptions>,
    rest: Rest,
    /// `projects/P/datasets/D/tables/T`
    pub(super) path: String,
    pause: Mutex<Pause>,
    unexplained: Mutex<Unexplained>,
    connection: tokio::sync::Mutex<Option<Arc<Connection>>>,
    log: tokio::sync::Mutex<AppendLog>,
}

impl TableWriter {
    pub(super) fn new(
        table: Arc<TableSpec>,
        mode: WriteMode,
        options: Arc<BigQueryOptions>,
        rest: Rest,
    ) -> Self {
        let (project, dataset, name) = (&options.project, &options.dataset, &table.name);
        let path = format!("projects/{project}/datasets/{dataset}/tables/{name}");
        let pause = Pause::new(options.quota_backoff, options.max_quota_backoff);
        let unexplained = Unexplained::new(options.schema_spread);
        Self {
            table,
            mode,
            options,
            rest,
            path,
            pause: Mutex::new(pause),
            unexplained: Mutex::new(unexplained),
            connection: tokio::sync::Mutex::default(),
            log: tokio::sync::Mutex::default(),
        }
    }

    /// Writes rows; see [`Warehouse::write`](kappa_actors::port::Warehouse::write).
    pub(super) async fn write(
        &self,
        rows: &Arc<Vec<Row>>,
        change: Change,
    ) -> Result<Vec<Refusal>, WriteError> {
        let mut log = match self.mode {
            WriteMode::Upsert => None,
            WriteMode::Append => Some(self.log.lock().await),
        };
        // The write that held the log may have met a quota.
        self.refuse_in_pause()?;
        let all: Vec<_> = (0..rows.len()).collect();
        let mut written = self.send(rows, &all, change, log.as_deref_mut()).await;
        if let Err(Fault::Unnamed(why)) = written {
            written = match self.schema_fault(why).await {
                Fault::Unnamed(why) => {
                    let left = self.left(&why);
                    self.isolate(rows, change, log.as_deref_mut(), left, why).await
                }
                other => Err(other),
            };
        }
        drop(log);
        match written {
            Ok(mut refusals) => {
                self.pause().end();
                refusals.sort_by_key(|refusal| refusal.row);
                Ok(refusals)
            }
            Err(fault) => Err(self.told(fault).await),
        }
    }

    /// Sends the picked rows, in a table that is appended to through its log.
    pub(super) async fn send(
        &self,
        rows: &Arc<Vec<Row>>,
        picked: &[usize],
        change: Change,
        log: Option<&mut AppendLog>,
    ) -> Result<Vec<Refusal>, Fault> {
        match log {
            Some(log) => log.write(self, rows, picked).await,
            None => self.upsert(rows, picked, change).await,
        }
    }

    /// How long a row may wait that was refused alone, and unnamed, for these reasons.
    fn left(&self, why: &str) -> Duration {
        if bounds::explained(why).is_some() {
            self.options.schema_spread
        } else {
            self.unexplained().note()
        }
    }

    /// A writer of the same table on a connection of its own: what ends that connection is about the
    /// rows that this writer sends. Streams of a table that is appended to belong to one writer at a time
    /// already.
    pub(super) fn apart(&self) -> Option<Self> {
        let (options, rest) = (Arc::clone(&self.options), self.rest.clone());
        let is_shared = self.mode == WriteMode::Upsert;
        is_shared.then(|| Self::new(Arc::clone(&self.table), self.mode, options, rest))
    }

    fn refuse_in_pause(&self) -> Result<(), WriteError> {
        let Some(why) = self.pause().holds() else { return Ok(()) };
        Err(Fault::Quota(why).told(&self.table.name))
    }

    /// Ends the streams that were made for this table.
    pub(super) async fn close(&self) {
        let mut log = self.log.lock().await;
        log.close(self).await;
        *self.connection.lock().await = None;
    }

    /// The error that the caller receives.
    async fn told(&self, fault: Fault) -> WriteError {
        let fault = match fault {
            Fault::Quota(why) => {
                self.pause().start(&why);
                Fault::Quota(why)
            }
            Fault::Schema(message) => match self.schema_fault(message).await {
                Fault::Unnamed(message) => {
                    Fault::Later(format!("the table's new schema still spreads: {message}"))
                }
                other => other,
            },
            Fault::Denied(message) if self.table_is_gone().await => Fault::NoTable(message),
            other => other,
        };
        if matches!(fault, Fault::Schema(_) | Fault::NoTable(_)) {
            self.unexplained().forget();
        }
        fault.told(&self.table.name)
    }

    /// Asks the table whether the writer's schema is at fault: [`Fault::Unnamed`] where it has every
    /// column. Then a change of the columns may still spread, or a row is at fault.
    async fn schema_fault(&self, message: String) -> Fault {
        match tables::fits(&self.rest, &self.table, self.mode).await {
            Ok(true) => Fault::Unnamed(message),
            Ok(false) => Fault::Schema(message),
            Err(error) => {
                Fault::Later(format!("{message}; the table cannot be looked at: {error}"))
            }
        }
    }

    /// Whether the table does not exist, as far as REST answers.
    pub(super) async fn table_is_gone(&self) -> bool {
        matches!(self.rest.table(&self.table.name).await, Err(RestError::NotFound(_)))
    }

    fn unexplained(&self) -> MutexGuard<'_, Unexplained> {
        self.unexplained.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pause(&self) -> MutexGuard<'_, Pause> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn upsert(
        &self,
        rows: &[Row],
        picked: &[usize],
        change: Change,
    ) -> Result<Vec<Refusal>, Fault> {
        let mut refusals = Vec::new();
        let mut open = picked.to_vec();
        let mut broken = false;
        while !open.is_empty() {
            let connection = self.connection(&self.default_stream()).await?;
            let mut sent = Vec::new();
            for request in self.requests(rows, &open, change, &mut refusals) {
                let body = self.request(&self.default_stream(), None, request.encoded);
                sent.push((request.picked, connection.send(body).await));
            }
            open.clear();
            let mut fault = None;
            for (picked, ticket) in sent {
                match self.outcome(ticket).await {
                    Outcome::Stored => {}
                    Outcome::Refused(Fault::Rows(errors)) => {
                        let good = refuse(&picked, errors, &mut refusals)?;
                        open.extend(good);
                    }
                    Outcome::Refused(new) | Outcome::Lost(new) => {
                        fault.get_or_insert(new);
                        open.extend(picked);
                    }
                }
            }
            match fault {
                Some(fault) => {
                    self.disconnect_from(&connection).await;
                    if broken || !matches!(fault, Fault::Broken(_)) {
                        return Err(fault);
                    }
                    broken = true;
                }
                None => broken = false,
            }
        }
        Ok(refusals)
    }

    /// Encodes `picked` into requests; a row that is too large by itself is refused.
    pub(super) fn requests(
        &self,
        rows: &[Row],
        picked: &[usize],
        change: Change,
        refusals: &mut Vec<Refusal>,
    ) -> Vec<Encoded> {
        let mut requests = Vec::new();
        let mut last = Encoded::default();
        for &at in picked {
            let Some(row) = rows.get(at) else { continue };
            let bytes = encode(&self.table, self.mode, row, change);
            if bytes.len() > MAX_ROW_BYTES {
                let (len, most) = (bytes.len(), MAX_ROW_BYTES);
                let reason = format!("the row has {len} bytes: BigQuery takes {most} at most");
                refusals.push(Refusal { row: at, kind: RefusalKind::TooLarge, reason });
                continue;
            }
            if last.bytes + bytes.len() > REQUEST_BYTES && !last.picked.is_empty() {
                requests.push(std::mem::take(&mut last));
            }
            last.bytes += bytes.len();
            last.picked.push(at);
            last.encoded.push(bytes);
        }
        if !last.picked.is_empty() {
            requests.push(last);
        }
        requests
    }

    pub(super) fn request(
        &self,
        stream: &str,
        offset: Option<i64>,
        rows: Vec<Vec<u8>>,
    ) -> api::AppendRowsRequest {
        let schema =
            api::ProtoSchema { proto_descriptor: Some(descriptor(&self.table, self.mode)) };
        api::AppendRowsRequest {
            write_stream: stream.to_owned(),
            offset,
            trace_id: concat!("kappa:", env!("CARGO_PKG_VERSION")).to_owned(),
            rows: Some(Rows::ProtoRows(ProtoData {
                writer_schema: Some(schema),
                rows: Some(api::ProtoRows { serialized_rows: rows }),
            })),
            ..api::AppendRowsRequest::default()
        }
    }

    pub(super) async fn outcome(&self, ticket: Ticket) -> Outcome {
        match ticket.answer().await {
            Answer::Lost(status) => Outcome::Lost(ended(&self.table.name, &status)),
            Answer::Came(response) => match outcome(*response) {
                Ok(()) => Outcome::Stored,
                Err((status, rows)) => match answered(&self.table.name, &status, rows) {
                    fault @ Fault::Broken(_) => Outcome::Lost(fault),
                    fault => Outcome::Refused(fault),
                },
            },
        }
    }

    /// Returns the open connection, or a new one.
    pub(super) async fn connection(&self, stream: &str) -> Result<Arc<Connection>, Fault> {
        let mut standing = self.connection.lock().await;
        if let Some(connection) = standing.as_ref().filter(|standing| !standing.has_ended()) {
            return Ok(Arc::clone(connection));
        }
        let opened = Connection::open(&self.options, stream).await.map_err(Fault::Later)?;
        let opened = Arc::new(opened);
        *standing = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Gives up the connection: the next write opens another, on another TCP connection.
    pub(super) async fn disconnect(&self) {
        *self.connection.lock().await = None;
    }

    /// Gives up this connection. Another write that met the same may have opened the next already:
    /// that stays.
    async fn disconnect_from(&self, broken: &Arc<Connection>) {
        let mut standing = self.connection.lock().await;
        standing.take_if(|standing| Arc::ptr_eq(standing, broken));
    }

    fn default_stream(&self) -> String {
        format!("{}/streams/_default", self.path)
    }
}

/// Some rows of a call, encoded.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    /// Their indexes in the call's rows.
    pub(super) picked: Vec<usize>,
    pub(super) encoded: Vec<Vec<u8>>,
    bytes: usize,
}

/// Notes the refused rows of one request, and answers the others.
///
/// # Errors
/// When the refusal names no row of the request: nothing would change by sending it again.
pub(super) fn refuse(
    picked: &[usize],
    errors: Vec<api::RowError>,
    refusals: &mut Vec<Refusal>,
) -> Result<Vec<usize>, Fault> {
    let mut refused = vec![false; picked.len()];
    for error in errors {
        let at = usize::try_from(error.index).unwrap_or(usize::MAX);
        if let (Some(&row), Some(mark)) = (picked.get(at), refused.get_mut(at))
            && !std::mem::replace(mark, true)
        {
            let kind = bounds::explained(&error.message).unwrap_or(RefusalKind::Value);
            refusals.push(Refusal { row, kind, reason: error.message });
        }
    }
    if !refused.contains(&true) {
        return Err(Fault::Later("rows were refused that were not sent".to_owned()));
    }
    let good = picked.iter().zip(refused).filter(|(_, refused)| !refused);
    Ok(good.map(|(&row, _)| row).collect())
}
