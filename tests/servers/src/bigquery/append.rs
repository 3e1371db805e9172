//! The Storage Write API, `google.cloud.bigquery.storage.v1.BigQueryWrite`.
//!
//! Rules without a page are the comments of googleapis:
//! google/cloud/bigquery/storage/v1/storage.proto, as a page:
//! <https://cloud.google.com/bigquery/docs/reference/storage/rpc/google.cloud.bigquery.storage.v1>.

use std::future::{Ready, ready};
use std::sync::Arc;

use futures::StreamExt;
use googleapis_tonic_google_cloud_bigquery_storage_v1::google::cloud::bigquery::storage::v1 as api;
use googleapis_tonic_google_rpc::google::rpc;
use prost::Message;
use prost_types::DescriptorProto;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::server::StreamingService;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::control::AppendFault;
use super::state::{Refusal, Shared, WriteStream, lock, split_name};
use super::wire::{Misfit, Plan};
use crate::grpc::{Answer, Call, Methods, Replies, unary, unimplemented};
use api::append_rows_request::Rows;
use api::append_rows_response::{AppendResult, Response};
use api::storage_error::StorageErrorCode;
use api::write_stream::Type;

/// Larger requests return INVALID_ARGUMENT: <https://cloud.google.com/bigquery/quotas#write-api-limits>
/// has 20 MB. `AppendRowsRequest` has 10 MB, and 10 MiB were observed with these words:
/// <https://github.com/hafenkran/duckdb-bigquery/issues/134>; see `Control::limit_requests`.
pub(super) const MAX_REQUEST_BYTES: usize = 20_000_000;

/// The service.
#[derive(Clone)]
pub(super) struct Write(pub(super) Shared);

impl Methods for Write {
    const NAME: &'static str = "google.cloud.bigquery.storage.v1.BigQueryWrite";

    async fn call(self, method: String, call: Call) -> Answer {
        let state = self.0;
        let token = call.headers().get("authorization").and_then(|value| value.to_str().ok());
        if lock(&state).accepted.as_deref().is_some_and(|accepted| token != Some(accepted)) {
            return Status::unauthenticated("Request had invalid authentication credentials.")
                .into_http();
        }
        match method.as_str() {
            "AppendRows" => {
                tonic::server::Grpc::new(ProstCodec::default())
                    .max_decoding_message_size(64 << 20)
                    .streaming(Appends(state), call)
                    .await
            }
            "CreateWriteStream" => {
                unary(call, |request: Request<api::CreateWriteStreamRequest>| {
                    let answer = create(&state, request.into_inner());
                    async move { answer }
                })
                .await
            }
            "GetWriteStream" => {
                unary(call, |request: Request<api::GetWriteStreamRequest>| {
                    let answer = get(&state, &request.into_inner().name);
                    async move { answer }
                })
                .await
            }
            "FinalizeWriteStream" => {
                unary(call, |request: Request<api::FinalizeWriteStreamRequest>| {
                    let answer = finalize(&state, &request.into_inner().name);
                    async move { answer }
                })
                .await
            }
            other => unimplemented(other),
        }
    }
}

/// `AppendRows` with its types named: behind a closure the compiler cannot see that the call is
/// `Send`.
struct Appends(Shared);

impl StreamingService<api::AppendRowsRequest> for Appends {
    type Response = api::AppendRowsResponse;
    type ResponseStream = Replies<api::AppendRowsResponse>;
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<api::AppendRowsRequest>>) -> Self::Future {
        let replies = connection(Arc::clone(&self.0), request.into_inner());
        ready(Ok(tonic::Response::new(replies)))
    }
}

fn create(
    state: &Shared,
    request: api::CreateWriteStreamRequest,
) -> Result<api::WriteStream, Status> {
    let mut state = lock(state);
    let Some((table, None)) = split_name(&request.parent) else {
        return Err(Status::invalid_argument(format!(
            "parent {:?} names no table",
            request.parent
        )));
    };
    state.known(&table).map_err(|refusal| Status::new(refusal.code, refusal.message))?;
    let kind = request.write_stream.map_or(0, |stream| stream.r#type);
    // No rule of the service.
    if kind != i32::from(Type::Committed) {
        return Err(Status::invalid_argument("this server creates COMMITTED streams only"));
    }
    state.next_stream += 1;
    let name = format!("{}/streams/s{}", request.parent, state.next_stream);
    state.streams.insert(name.clone(), WriteStream::default());
    Ok(api::WriteStream { name, r#type: kind, ..Default::default() })
}

fn get(state: &Shared, name: &str) -> Result<api::WriteStream, Status> {
    let state = lock(state);
    let found = match split_name(name) {
        Some((table, Some("_default"))) => state.tables.contains_key(&table),
        _ => state.streams.contains_key(name),
    };
    // NOT_FOUND in googleapis: google/rpc/code.proto.
    if !found {
        return Err(Status::not_found(format!("Requested entity was not found: stream {name}")));
    }
    Ok(api::WriteStream { name: name.into(), r#type: Type::Committed.into(), ..Default::default() })
}

fn finalize(state: &Shared, name: &str) -> Result<api::FinalizeWriteStreamResponse, Status> {
    // `FinalizeWriteStream` is not supported on '_default'.
    if name.ends_with("/_default") {
        return Err(Status::invalid_argument("the default stream cannot be finalized"));
    }
    let mut state = lock(state);
    if let Some((table, _)) = split_name(name) {
        state.may_update(&table).map_err(|refusal| Status::new(refusal.code, refusal.message))?;
    }
    if state.hidden && split_name(name).is_none_or(|(table, _)| !state.tables.contains_key(&table))
    {
        return Err(Status::permission_denied(format!("Permission denied on resource {name}")));
    }
    if state.finalize_faults > 0 {
        state.finalize_faults -= 1;
        return Err(Status::unavailable("the stream cannot be finalized now"));
    }
    let stream = state
        .streams
        .get_mut(name)
        .ok_or_else(|| Status::not_found(format!("Requested entity was not found: {name}")))?;
    stream.finalized = true;
    let row_count = i64::try_from(stream.rows.len()).unwrap_or(i64::MAX);
    Ok(api::FinalizeWriteStreamResponse { row_count })
}

type Replying = mpsc::UnboundedSender<(Instant, Result<api::AppendRowsResponse, Status>)>;

/// Counts a connection as open while it lives.
struct Open(Shared);

impl Open {
    fn new(state: Shared) -> Self {
        let connections = &mut lock(&state).connections;
        connections.open += 1;
        connections.opened += 1;
        Self(Arc::clone(&state))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        lock(&self.0).connections.open -= 1;
    }
}

fn connection(
    state: Shared,
    mut requests: Streaming<api::AppendRowsRequest>,
) -> Replies<api::AppendRowsResponse> {
    let (replies, queue) = mpsc::unbounded_channel();
    let open = Open::new(Arc::clone(&state));
    tokio::spawn(async move {
        let _open = open;
        let mut writer =
            Writer { state, name: String::new(), descriptor: None, plan: None, silent: false };
        loop {
            let request = tokio::select! {
                request = requests.next() => request,
                () = replies.closed() => return,
            };
            let Some(Ok(request)) = request else { return };
            if !writer.take(request, &replies) {
                return;
            }
        }
    });
    // Each answer has its own due time: a delay is latency, not throughput.
    UnboundedReceiverStream::new(queue)
        .then(|(due, reply)| async move {
            sleep_until(due).await;
            reply
        })
        .boxed()
}

/// One connection's side of the server.
struct Writer {
    state: Shared,
    name: String,
    descriptor: Option<DescriptorProto>,
    /// With the table's version that it was made for.
    plan: Option<(u64, Arc<Plan>)>,
    /// Once an answer was withheld none may follow: answers belong to requests by their order.
    silent: bool,
}

impl Writer {
    /// Takes one request; `false` ends the connection.
    fn take(&mut self, request: api::AppendRowsRequest, replies: &Replying) -> bool {
        if self.silent {
            return true;
        }
        let (fault, delay) = {
            let mut state = lock(&self.state);
            state.appends += 1;
            (state.append_faults.pop_front(), state.delay)
        };
        let due = Instant::now() + delay;
        let end = |status| {
            let _ = replies.send((due, Err(status)));
            false
        };
        match fault {
            Some(AppendFault::EndsWith(code)) => return end(Status::new(code, "ordered fault")),
            Some(AppendFault::Hangs) => {
                self.silent = true;
                return true;
            }
            Some(AppendFault::Answers(code)) => {
                let name = request.write_stream.clone();
                let refusal = Refusal::new(code, "ordered fault");
                return replies.send((due, Ok(refused(name, refusal)))).is_ok();
            }
            Some(AppendFault::LosesAnswer) | None => {}
        }
        let size = request.encoded_len();
        let most = lock(&self.state).max_request.unwrap_or(MAX_REQUEST_BYTES);
        if size > most {
            let message = format!("AppendRows request too large: {size} limit {most}");
            if size > MAX_REQUEST_BYTES {
                lock(&self.state).violations.push(message.clone());
            }
            return end(Status::invalid_argument(message));
        }
        let (offset, rows) = match self.open(request) {
            Ok(request) => request,
            Err(status) => return end(status),
        };
        let answer = self.append(rows, offset);
        if fault == Some(AppendFault::LosesAnswer) {
            return end(Status::unavailable("the connection was reset"));
        }
        let response = match answer {
            Ok(offset) => api::AppendRowsResponse {
                write_stream: self.name.clone(),
                response: Some(Response::AppendResult(AppendResult { offset })),
                ..Default::default()
            },
            Err(refusal) if lock(&self.state).by_status => {
                return end(Status::new(refusal.code, refusal.message));
            }
            Err(refusal) => refused(self.name.clone(), refusal),
        };
        replies.send((due, Ok(response))).is_ok()
    }

    /// Reads destination and schema; both are required in the first request and may be left out
    /// behind it.
    fn open(
        &mut self,
        request: api::AppendRowsRequest,
    ) -> Result<(Option<i64>, Vec<Vec<u8>>), Status> {
        // No rule of the service.
        let Some(Rows::ProtoRows(data)) = request.rows else {
            return Err(Status::invalid_argument("only protobuf rows are taken here"));
        };
        let switched = !request.write_stream.is_empty() && request.write_stream != self.name;
        if switched {
            if !matches!(split_name(&request.write_stream), Some((_, Some(_)))) {
                let message = format!("write_stream {:?} names no stream", request.write_stream);
                return Err(Status::invalid_argument(message));
            }
            self.name = request.write_stream;
            self.descriptor = None;
            self.plan = None;
        }
        if self.name.is_empty() {
            return Err(Status::invalid_argument("the first request must have a write_stream"));
        }
        if let Some(descriptor) = data.writer_schema.and_then(|schema| schema.proto_descriptor)
            && self.descriptor.as_ref() != Some(&descriptor)
        {
            self.descriptor = Some(descriptor);
            self.plan = None;
        }
        if self.descriptor.is_none() {
            let message = "the first request to a destination must have a writer_schema";
            return Err(Status::invalid_argument(message));
        }
        Ok((request.offset, data.rows.unwrap_or_default().serialized_rows))
    }

    fn append(&mut self, rows: Vec<Vec<u8>>, offset: Option<i64>) -> Result<Option<i64>, Refusal> {
        let mut state = lock(&self.state);
        let (table_name, _) = split_name(&self.name).unwrap_or_default();
        let (table, version) = state.known(&table_name)?;
        let plan = match &self.plan {
            Some((made, plan)) if *made == version => Arc::clone(plan),
            _ => {
                let descriptor = self.descriptor.clone().unwrap_or_default();
                let plan = Plan::compile(&descriptor, &table.columns[..table.known]);
                let plan = Arc::new(plan.map_err(|misfit| misfit_refusal(&self.name, misfit))?);
                self.plan = Some((version, Arc::clone(&plan)));
                plan
            }
        };
        state.append(&self.name, &plan, rows, offset)
    }
}

/// `StorageErrorCode.SCHEMA_MISMATCH_EXTRA_FIELDS`, or malformed as described at `AppendRowsResponse.error`.
fn misfit_refusal(name: &str, misfit: Misfit) -> Refusal {
    match misfit {
        Misfit::Extra(fields) => Refusal {
            storage: Some(StorageErrorCode::SchemaMismatchExtraFields),
            ..Refusal::new(
                Code::InvalidArgument,
                format!(
                    "Input schema has more fields than BigQuery schema, extra fields: '{}' Entity: {name}",
                    fields.join(",")
                ),
            )
        },
        Misfit::Other(message) => Refusal::new(Code::InvalidArgument, message),
    }
}

/// The response that refuses a request; its details hold the `StorageError`, if there is one.
fn refused(name: String, refusal: Refusal) -> api::AppendRowsResponse {
    let details = refusal.storage.map(|code| {
        let error = api::StorageError {
            code: code.into(),
            entity: name.clone(),
            error_message: refusal.message.clone(),
        };
        prost_types::Any {
            type_url: "type.googleapis.com/google.cloud.bigquery.storage.v1.StorageError".into(),
            value: error.encode_to_vec(),
        }
    });
    let status = rpc::Status {
        code: refusal.code.into(),
        message: refusal.message,
        details: details.into_iter().collect(),
    };
    api::AppendRowsResponse {
        row_errors: refusal.rows,
        write_stream: name,
        response: Some(Response::Error(status)),
        ..Default::default()
    }
}
