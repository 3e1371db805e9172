//! One long-lived `AppendRows` connection.
//!
//! - Answers come in the order of the requests, so the waiting are a queue.
//! - A connection that ends answers all waiting requests with an error; their rows may or may not be stored.
//! - A connection that owes an answer for too long is given up: its TCP connection may be half
//!   open, which shows in no other way.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gcp_bigquery_client::google::cloud::bigquery::storage::v1 as api;
use google_cloud_auth::credentials::Credentials;
use http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use super::BigQueryOptions;
use super::rest::headers;
use crate::backend::gcp;
use api::append_rows_response::Response;
use api::big_query_write_client::BigQueryWriteClient;

/// A connection without traffic is asked whether it lives: an end that vanished shows by itself.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// What became of a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// The service answered.
    Came(Box<api::AppendRowsResponse>),
    /// The connection ended before the answer.
    Lost(Status),
}

type Waiter = (oneshot::Sender<Answer>, OwnedSemaphorePermit);

#[derive(Default)]
struct Waiting {
    queue: VecDeque<Waiter>,
    ended: Option<Status>,
}

/// The connection.
pub(super) struct Connection {
    client: BigQueryWriteClient<Channel>,
    credentials: Credentials,
    requests: mpsc::UnboundedSender<api::AppendRowsRequest>,
    waiting: Arc<Mutex<Waiting>>,
    in_flight: Arc<Semaphore>,
    patience: Duration,
    task: JoinHandle<()>,
}

/// A request on its way.
pub(super) struct Ticket {
    answer: oneshot::Receiver<Answer>,
    waiting: Arc<Mutex<Waiting>>,
    patience: Duration,
}

impl Connection {
    /// A connection for appends to `stream`. Nothing is asked before the first request.
    ///
    /// # Errors
    /// Words, where no connection can be made of the options or no credentials are to be had.
    pub(super) async fn open(options: &BigQueryOptions, stream: &str) -> Result<Self, String> {
        let credentials = options.credentials.clone();
        let headers = headers(&credentials).await?;
        let client = BigQueryWriteClient::new(channel(options).await?);
        let (requests, queue) = mpsc::unbounded_channel();
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let mut call = Request::new(UnboundedReceiverStream::new(queue));
        *call.metadata_mut() = metadata(&headers, "write_stream", stream);
        let task = tokio::spawn(run(client.clone(), call, Arc::clone(&waiting)));
        Ok(Self {
            client,
            credentials,
            requests,
            waiting,
            in_flight: Arc::new(Semaphore::new(options.max_requests_in_flight)),
            patience: options.request_timeout,
            task,
        })
    }

    /// Whether it takes no more requests.
    pub(super) fn has_ended(&self) -> bool {
        lock(&self.waiting).ended.is_some()
    }

    /// Sends a request as soon as fewer than the maximum are in flight. Their senders may not be waiting for
    /// answers yet, so this method too notices when none comes.
    pub(super) async fn send(&self, request: api::AppendRowsRequest) -> Ticket {
        let (tell, answer) = oneshot::channel();
        let place = Arc::clone(&self.in_flight).acquire_owned();
        let permit = tokio::time::timeout(self.patience, place).await;
        if permit.is_err() {
            end(&self.waiting, &silence(self.patience));
        }
        let mut waiting = lock(&self.waiting);
        match (permit, waiting.ended.clone()) {
            // Under one lock with the queue, so that requests and waiters have one order.
            (Ok(Ok(permit)), None) => {
                waiting.queue.push_back((tell, permit));
                let _ = self.requests.send(request);
            }
            (_, ended) => {
                let status = ended.unwrap_or_else(|| Status::cancelled("closed"));
                let _ = tell.send(Answer::Lost(status));
            }
        }
        drop(waiting);
        Ticket { answer, waiting: Arc::clone(&self.waiting), patience: self.patience }
    }

    /// Makes a committed stream of the table `parent` (`projects/…/tables/…`).
    pub(super) async fn create_stream(&self, parent: &str) -> Result<String, Status> {
        let kind = api::write_stream::Type::Committed.into();
        let mut request = Request::new(api::CreateWriteStreamRequest {
            parent: parent.to_owned(),
            write_stream: Some(api::WriteStream { r#type: kind, ..Default::default() }),
        });
        *request.metadata_mut() = self.metadata("parent", parent).await?;
        let call = self.client.clone();
        let answer = within(self.patience, async move {
            let mut call = call;
            call.create_write_stream(request).await
        });
        Ok(answer.await?.name)
    }

    /// The metadata of one call. A token lives for an hour, and a connection may live longer: each call
    /// takes the present one.
    async fn metadata(&self, what: &str, name: &str) -> Result<MetadataMap, Status> {
        let headers = headers(&self.credentials).await.map_err(Status::unavailable)?;
        Ok(metadata(&headers, what, name))
    }

    /// Closes a stream and returns its number of rows.
    pub(super) async fn finalize_stream(&self, name: &str) -> Result<i64, Status> {
        let body = api::FinalizeWriteStreamRequest { name: name.to_owned() };
        let mut request = Request::new(body);
        *request.metadata_mut() = self.metadata("name", name).await?;
        let call = self.client.clone();
        let answer = within(self.patience, async move {
            let mut call = call;
            call.finalize_write_stream(request).await
        });
        Ok(answer.await?.row_count)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ticket {
    /// What became of the request.
    pub(super) async fn answer(self) -> Answer {
        let closed = || Answer::Lost(Status::cancelled("the connection was given up"));
        match tokio::time::timeout(self.patience, self.answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| closed()),
            Err(_) => {
                let status = silence(self.patience);
                end(&self.waiting, &status);
                Answer::Lost(status)
            }
        }
    }
}

/// Whether the rows are stored, for an answer that came.
pub(super) fn outcome(
    response: api::AppendRowsResponse,
) -> Result<(), (gcp_bigquery_client::google::rpc::Status, Vec<api::RowError>)> {
    match response.response {
        Some(Response::Error(status)) => Err((status, response.row_errors)),
        Some(Response::AppendResult(_)) | None => Ok(()),
    }
}

async fn run(
    mut client: BigQueryWriteClient<Channel>,
    call: Request<UnboundedReceiverStream<api::AppendRowsRequest>>,
    waiting: Arc<Mutex<Waiting>>,
) {
    let status = match client.append_rows(call).await {
        Err(status) => status,
        Ok(answers) => {
            let mut answers = answers.into_inner();
            loop {
                match answers.message().await {
                    Ok(Some(answer)) => {
                        let first = lock(&waiting).queue.pop_front();
                        let Some((tell, _permit)) = first else {
                            break Status::internal("an answer came that no request asked for");
                        };
                        let _ = tell.send(Answer::Came(Box::new(answer)));
                    }
                    Ok(None) => break Status::unavailable("the service closed the connection"),
                    Err(status) => break status,
                }
            }
        }
    };
    end(&waiting, &status);
}

fn silence(patience: Duration) -> Status {
    let patience = humantime::format_duration(patience);
    Status::deadline_exceeded(format!("no answer within {patience}"))
}

fn end(waiting: &Mutex<Waiting>, status: &Status) {
    let mut waiting = lock(waiting);
    waiting.ended.get_or_insert_with(|| status.clone());
    for (tell, _permit) in waiting.queue.drain(..) {
        let _ = tell.send(Answer::Lost(status.clone()));
    }
}

async fn within<T>(
    patience: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(patience, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(silence(patience)),
    }
}

async fn channel(options: &BigQueryOptions) -> Result<Channel, String> {
    let address = match &options.write_endpoint {
        Some(address) => address.clone(),
        None => gcp::service("bigquerystorage", &options.credentials).await?,
    };
    let wrong = |error: tonic::transport::Error| format!("`{address}` is no address: {error}");
    let mut endpoint = Endpoint::from_shared(address.clone())
        .map_err(wrong)?
        .connect_timeout(options.request_timeout)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .user_agent(concat!("kappa/", env!("CARGO_PKG_VERSION")))
        .map_err(wrong)?;
    if address.starts_with("https://") {
        endpoint =
            endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(wrong)?;
    }
    Ok(gcp::proxy::channel(&endpoint))
}

/// Who asks, and for what: the service routes a call by this header.
fn metadata(headers: &HeaderMap, what: &str, name: &str) -> MetadataMap {
    let mut headers = headers.clone();
    let routing = format!("{what}={}", name.replace('/', "%2F"));
    if let Ok(routing) = routing.parse() {
        headers.insert("x-goog-request-params", routing);
    }
    MetadataMap::from_headers(headers)
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
