//! gRPC services on tonic's own codec, without generated server traits.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use futures::stream::BoxStream;
use prost::Message;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, StreamingService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// The HTTP request of a call.
pub type Call = http::Request<Body>;
/// The HTTP response of a call.
pub type Answer = http::Response<Body>;
/// A stream of messages to the client.
pub type Replies<T> = BoxStream<'static, Result<T, Status>>;

/// The methods of one service.
pub trait Methods: Clone + Send + Sync + 'static {
    /// The service's full name, as in `google.pubsub.v1.Subscriber`.
    const NAME: &'static str;

    /// Answers the call of `method`, by [`unary`], [`streaming`] or [`unimplemented()`].
    fn call(self, method: String, call: Call) -> impl Future<Output = Answer> + Send;
}

/// [`Methods`] as tonic wants them.
#[derive(Clone, Debug)]
pub struct Served<M>(pub M);

impl<M: Methods> NamedService for Served<M> {
    const NAME: &'static str = M::NAME;
}

impl<M: Methods> Service<Call> for Served<M> {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let method = call.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let answer = self.0.clone().call(method, call);
        Box::pin(async move { Ok(answer.await) })
    }
}

fn grpc<Req, Res>() -> Grpc<ProstCodec<Res, Req>>
where
    Req: Message + Default + 'static,
    Res: Message + Default + 'static,
{
    Grpc::new(ProstCodec::default())
        .max_decoding_message_size(64 << 20)
        .max_encoding_message_size(64 << 20)
        .accept_compressed(CompressionEncoding::Gzip)
}

struct Handler<F>(F);

impl<F, Fut, Req, Res> UnaryService<Req> for Handler<F>
where
    F: FnMut(Request<Req>) -> Fut,
    Fut: Future<Output = Result<Res, Status>> + Send + 'static,
{
    type Response = Res;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Res>, Status>> + Send>>;

    fn call(&mut self, request: Request<Req>) -> Self::Future {
        let answer = (self.0)(request);
        Box::pin(async move { answer.await.map(Response::new) })
    }
}

impl<F, Fut, Req, Res> StreamingService<Req> for Handler<F>
where
    F: FnMut(Request<Streaming<Req>>) -> Fut,
    Fut: Future<Output = Result<Replies<Res>, Status>> + Send + 'static,
{
    type Response = Res;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Res, Status>> + Send>>;
    type Future =
        Pin<Box<dyn Future<Output = Result<Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Req>>) -> Self::Future {
        let answer = (self.0)(request);
        Box::pin(async move { answer.await.map(|replies| Response::new(replies as _)) })
    }
}

/// Answers a call of one request with one reply.
pub async fn unary<Req, Res, F, Fut>(call: Call, handle: F) -> Answer
where
    Req: Message + Default + 'static,
    Res: Message + Default + 'static,
    F: FnMut(Request<Req>) -> Fut,
    Fut: Future<Output = Result<Res, Status>> + Send + 'static,
{
    grpc::<Req, Res>().unary(Handler(handle), call).await
}

/// Answers a call of many requests with many replies.
pub async fn streaming<Req, Res, F, Fut>(call: Call, handle: F) -> Answer
where
    Req: Message + Default + 'static,
    Res: Message + Default + 'static,
    F: FnMut(Request<Streaming<Req>>) -> Fut + Send,
    Fut: Future<Output = Result<Replies<Res>, Status>> + Send + 'static,
{
    grpc::<Req, Res>().streaming(Handler(handle), call).await
}

/// Answers the call of a method that the server lacks.
#[must_use]
pub fn unimplemented(method: &str) -> Answer {
    Status::unimplemented(format!("no method {method}")).into_http()
}

/// The connections that `listener` takes. Small frames are not held back for larger ones: each would
/// wait for the other side's acknowledgement, which is 40 ms late.
#[must_use]
pub fn incoming(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}

/// A listener on a free port of the loopback, with its address.
///
/// # Errors
/// The operating system's.
pub async fn listen() -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
