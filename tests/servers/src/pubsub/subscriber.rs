//! Reading over gRPC: streams, acknowledgements and deadlines.

use std::collections::HashMap;

use futures::future::BoxFuture;
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1 as pb;
use googleapis_tonic_google_rpc::google::rpc;
use prost::Message as _;
use tonic::{Code, Request, Status, Streaming};

use super::{Shared, stream};
use crate::grpc::{self, Answer, Call, Methods};

/// The longest deadline, in seconds:
/// <https://cloud.google.com/pubsub/docs/reference/rpc/google.pubsub.v1#modifyackdeadlinerequest>.
const MAX_DEADLINE: i32 = 600;

/// The largest request that answers for messages. The words, and that the code is
/// INVALID_ARGUMENT, are observed: <https://github.com/googleapis/nodejs-pubsub/issues/1864>; that
/// it is a quota of 512 KB: <https://github.com/googleapis/google-cloud-cpp/pull/10032>.
const MAX_ANSWER_BYTES: usize = 524_288;

#[derive(Clone, Debug)]
pub(super) struct Subscriber(pub(super) Shared);

impl Methods for Subscriber {
    const NAME: &'static str = "google.pubsub.v1.Subscriber";

    // No `async fn`: the compiler cannot prove one `Send` that holds a boxed stream.
    fn call(self, method: String, call: Call) -> impl Future<Output = Answer> + Send {
        let shared = self.0;
        let answer: BoxFuture<'static, Answer> = match method.as_str() {
            "StreamingPull" => Box::pin(grpc::streaming(
                call,
                move |request: Request<Streaming<pb::StreamingPullRequest>>| {
                    stream::open(shared.clone(), request.into_inner())
                },
            )),
            "Acknowledge" => {
                Box::pin(grpc::unary(call, move |request: Request<pb::AcknowledgeRequest>| {
                    acknowledge(shared.clone(), request.into_inner())
                }))
            }
            "ModifyAckDeadline" => Box::pin(grpc::unary(
                call,
                move |request: Request<pb::ModifyAckDeadlineRequest>| {
                    std::future::ready(extend(&shared, &request.into_inner()))
                },
            )),
            other => Box::pin(std::future::ready(grpc::unimplemented(other))),
        };
        answer
    }
}

fn fits(request: &impl prost::Message) -> Result<(), Status> {
    if request.encoded_len() > MAX_ANSWER_BYTES {
        let words = format!("Request payload size exceeds the limit: {MAX_ANSWER_BYTES} bytes.");
        return Err(Status::invalid_argument(words));
    }
    Ok(())
}

async fn acknowledge(shared: Shared, request: pb::AcknowledgeRequest) -> Result<(), Status> {
    fits(&request)?;
    let delay = shared.state().delay_acks;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let result = {
        let mut state = shared.state();
        if state.lose_acks {
            return Ok(());
        }
        let exactly_once = state.readable(&request.subscription)?.exactly_once();
        let mut failed = Vec::new();
        let mut ack_ids = request.ack_ids;
        if exactly_once && !state.ack_failures.is_empty() {
            let count = state.ack_failures.len().min(ack_ids.len());
            let spared = ack_ids.split_off(count);
            failed.extend(ack_ids.into_iter().zip(state.ack_failures.drain(..count)));
            ack_ids = spared;
        }
        failed.extend(state.readable(&request.subscription)?.acknowledge(&ack_ids));
        confirmed(exactly_once, failed)
    };
    shared.ring();
    result
}

fn extend(shared: &Shared, request: &pb::ModifyAckDeadlineRequest) -> Result<(), Status> {
    fits(request)?;
    let by = request.ack_deadline_seconds;
    if !(0..=MAX_DEADLINE).contains(&by) {
        return Err(Status::invalid_argument(format!("a deadline of {by} seconds")));
    }
    let result = {
        let mut state = shared.state();
        let subscription = state.readable(&request.subscription)?;
        let failed = subscription.extend(&request.ack_ids, by);
        confirmed(subscription.exactly_once(), failed)
    };
    shared.ring();
    result
}

/// Failures are reported with exactly-once delivery only, as an INVALID_ARGUMENT:
/// <https://cloud.google.com/pubsub/docs/exactly-once-delivery>. The report by id, in an `ErrorInfo`, is observed, not
/// documented: <https://github.com/googleapis/google-cloud-cpp/issues/9327>; its reason too:
/// <https://github.com/googleapis/nodejs-pubsub/issues/1951>.
fn confirmed(exactly_once: bool, failed: Vec<(String, String)>) -> Result<(), Status> {
    if !exactly_once || failed.is_empty() {
        return Ok(());
    }
    let metadata: HashMap<_, _> = failed.into_iter().collect();
    let message = "Some acknowledgement ids in the request were invalid.".to_owned();
    let info = rpc::ErrorInfo {
        reason: "EXACTLY_ONCE_ACKID_FAILURE".into(),
        domain: "pubsub.googleapis.com".into(),
        metadata: metadata.into_iter().collect(),
    };
    let details = vec![prost_types::Any {
        type_url: "type.googleapis.com/google.rpc.ErrorInfo".into(),
        value: info.encode_to_vec(),
    }];
    let code = Code::InvalidArgument;
    let status = rpc::Status { code: code.into(), message: message.clone(), details };
    Err(Status::with_details(code, message, status.encode_to_vec().into()))
}
