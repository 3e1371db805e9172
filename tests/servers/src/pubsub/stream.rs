//! One streaming pull.
//!
//! What its requests may hold, and that the stream is aborted with INVALID_ARGUMENT otherwise:
//! <https://cloud.google.com/pubsub/docs/reference/rpc/google.pubsub.v1#streamingpullrequest>.

use std::ops::RangeInclusive;

use futures::StreamExt as _;
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1 as pb;
use pb::streaming_pull_response::SubscriptionProperties;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::Shared;
use super::subscription::lease_number;
use crate::grpc::Replies;

type Sender = mpsc::Sender<Result<pb::StreamingPullResponse, Status>>;

struct Pull {
    shared: Shared,
    subscription: String,
    number: u64,
}

impl Drop for Pull {
    fn drop(&mut self) {
        if let Some(subscription) = self.shared.state().subscriptions.get_mut(&self.subscription) {
            subscription.close(self.number);
        }
    }
}

/// The deadlines that a stream may ask for, in seconds: `stream_ack_deadline_seconds`.
const DEADLINES: RangeInclusive<i32> = 10..=600;

/// Opens a stream. Its first request names the subscription and the limits of messages on loan.
pub(super) async fn open(
    shared: Shared,
    mut requests: Streaming<pb::StreamingPullRequest>,
) -> Result<Replies<pb::StreamingPullResponse>, Status> {
    let Some(first) = requests.message().await? else {
        return Err(Status::invalid_argument("no first request"));
    };
    let seconds = first.stream_ack_deadline_seconds;
    if !DEADLINES.contains(&seconds) {
        return Err(Status::invalid_argument(format!("stream_ack_deadline_seconds {seconds}")));
    }
    if first.subscription.is_empty() {
        return Err(Status::invalid_argument("the first request names no subscription"));
    }
    let subscription = first.subscription.clone();
    let number = {
        let mut state = shared.state();
        if let Some(status) = &state.refuse_streams {
            return Err(status.clone());
        }
        let found = state.readable(&subscription)?;
        found.open(&first)
    };
    let (replies, received) = mpsc::channel(1);
    let bell = shared.bell.subscribe();
    let pull = Pull { shared, subscription, number };
    tokio::spawn(pull.run(requests, replies, bell));
    Ok(ReceiverStream::new(received).boxed())
}

impl Pull {
    async fn run(
        self,
        mut requests: Streaming<pb::StreamingPullRequest>,
        replies: Sender,
        mut bell: watch::Receiver<u64>,
    ) {
        let cuts = *bell.borrow();
        let mut listening = true;
        loop {
            // One permit first: a message is lent only if it can be sent.
            let Ok(permit) = replies.reserve().await else { return };
            if *bell.borrow_and_update() != cuts {
                let refusal = self.shared.state().refuse_streams.clone();
                permit.send(Err(refusal.unwrap_or_else(|| Status::unavailable("cut"))));
                return;
            }
            match self.lend() {
                Err(status) => {
                    permit.send(Err(status));
                    return;
                }
                Ok(Some(response)) => {
                    permit.send(Ok(response));
                    continue;
                }
                Ok(None) => drop(permit),
            }
            tokio::select! {
                _ = bell.changed() => {}
                () = replies.closed() => return,
                request = requests.message(), if listening => match request {
                    Ok(Some(request)) => {
                        if let Err(why) = self.take(&request) {
                            let _ = replies.send(Err(Status::invalid_argument(why))).await;
                            return;
                        }
                    }
                    Ok(None) => listening = false,
                    Err(_) => return,
                },
            }
        }
    }

    fn lend(&self) -> Result<Option<pb::StreamingPullResponse>, Status> {
        let mut state = self.shared.state();
        let subscription = state.readable(&self.subscription)?;
        let received_messages = subscription.lend(self.number);
        if received_messages.is_empty() {
            return Ok(None);
        }
        let properties = SubscriptionProperties {
            exactly_once_delivery_enabled: subscription.exactly_once(),
            message_ordering_enabled: subscription.ordering(),
        };
        Ok(Some(pb::StreamingPullResponse {
            received_messages,
            subscription_properties: Some(properties),
            ..Default::default()
        }))
    }

    /// A later request answers for messages on loan; an empty one keeps the stream alive.
    fn take(&self, request: &pb::StreamingPullRequest) -> Result<(), &'static str> {
        check(request)?;
        let mut state = self.shared.state();
        let Ok(subscription) = state.readable(&self.subscription) else { return Ok(()) };
        if request.stream_ack_deadline_seconds != 0 {
            subscription.set_deadline(self.number, request.stream_ack_deadline_seconds);
        }
        subscription.acknowledge(&request.ack_ids);
        let deadlines = &request.modify_deadline_seconds;
        for (id, by) in request.modify_deadline_ack_ids.iter().zip(deadlines) {
            subscription.extend(std::slice::from_ref(id), *by);
        }
        Ok(())
    }
}

/// Why a request that is not the first is none.
fn check(request: &pb::StreamingPullRequest) -> Result<(), &'static str> {
    let seconds = request.stream_ack_deadline_seconds;
    let mut ids = request.ack_ids.iter().chain(&request.modify_deadline_ack_ids);
    if !request.subscription.is_empty() {
        Err("the subscription is named in the first request alone")
    } else if request.max_outstanding_messages != 0 || request.max_outstanding_bytes != 0 {
        Err("the limits of outstanding messages belong in the first request only")
    } else if seconds != 0 && !DEADLINES.contains(&seconds) {
        Err("stream_ack_deadline_seconds is 10 to 600")
    } else if request.modify_deadline_ack_ids.len() != request.modify_deadline_seconds.len() {
        Err("modify_deadline_seconds is as long as modify_deadline_ack_ids")
    } else if request.modify_deadline_seconds.iter().any(|seconds| *seconds < 0) {
        Err("modify_deadline_seconds is not negative")
    } else if ids.any(|id| lease_number(id).is_none()) {
        Err("an acknowledgement id is malformed")
    } else {
        Ok(())
    }
}
