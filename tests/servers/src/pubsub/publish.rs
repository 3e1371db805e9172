//! Publishing. The limits: <https://cloud.google.com/pubsub/quotas#resource_limits>. A request past
//! them is an INVALID_ARGUMENT: <https://cloud.google.com/pubsub/docs/reference/error-codes>.

use googleapis_tonic_google_pubsub_v1::google::pubsub::v1 as pb;
use prost::Message as _;
use tonic::{Request, Status};

use super::Shared;
use crate::grpc::{self, Answer, Call, Methods};

const MAX_MESSAGES: usize = 1_000;
const MAX_REQUEST_BYTES: usize = 10_000_000;
const MAX_MESSAGE_BYTES: usize = 10_000_000;
const MAX_ATTRIBUTES: usize = 100;
const MAX_ATTRIBUTE_NAME_BYTES: usize = 256;
const MAX_ATTRIBUTE_VALUE_BYTES: usize = 1_024;
const MAX_ORDERING_KEY_BYTES: usize = 1_024;

#[derive(Clone, Debug)]
pub(super) struct Publisher(pub(super) Shared);

impl Methods for Publisher {
    const NAME: &'static str = "google.pubsub.v1.Publisher";

    async fn call(self, method: String, call: Call) -> Answer {
        let shared = self.0;
        match method.as_str() {
            "Publish" => {
                grpc::unary(call, move |request: Request<pb::PublishRequest>| {
                    std::future::ready(publish(&shared, request.into_inner()))
                })
                .await
            }
            other => grpc::unimplemented(other),
        }
    }
}

fn publish(shared: &Shared, request: pb::PublishRequest) -> Result<pb::PublishResponse, Status> {
    let mut state = shared.state();
    // <https://cloud.google.com/pubsub/docs/access-control>
    if !state.permitted("pubsub.topics.publish", &request.topic) {
        return Err(Status::permission_denied("User not authorized to perform this action."));
    }
    // `Publisher.Publish`, in googleapis: google/pubsub/v1/pubsub.proto.
    if !state.topics.contains_key(&request.topic) {
        let words = format!("Resource not found (resource={}).", request.topic);
        return Err(Status::not_found(words));
    }
    if request.encoded_len() > MAX_REQUEST_BYTES || request.messages.len() > MAX_MESSAGES {
        return Err(Status::invalid_argument("The request is too large."));
    }
    // Messages are required:
    // <https://cloud.google.com/pubsub/docs/reference/rpc/google.pubsub.v1#publishrequest>.
    if request.messages.is_empty() || request.messages.iter().any(unfit) {
        return Err(Status::invalid_argument("A message in the request is invalid."));
    }
    // `orderingKey`: <https://cloud.google.com/pubsub/docs/reference/rest/v1/PubsubMessage>.
    if request.messages.windows(2).any(|two| two[0].ordering_key != two[1].ordering_key) {
        return Err(Status::invalid_argument("All messages must have the same ordering key."));
    }
    if let Some(fault) = &state.refuse_publish
        && fault
            .payload
            .as_ref()
            .is_none_or(|payload| request.messages.iter().any(|message| &message.data == payload))
    {
        return Err(fault.status.clone());
    }
    let message_ids = state.store(&request.topic, request.messages);
    drop(state);
    shared.ring();
    Ok(pb::PublishResponse { message_ids })
}

/// Whether the whole request is refused for this message: beside the limits, data or an attribute
/// is needed, <https://cloud.google.com/pubsub/docs/reference/rest/v1/PubsubMessage>, and no
/// attribute may begin with `goog`, <https://cloud.google.com/pubsub/docs/publisher#using-attributes>.
fn unfit(message: &pb::PubsubMessage) -> bool {
    let attributes = &message.attributes;
    (message.data.is_empty() && attributes.is_empty())
        || message.data.len() > MAX_MESSAGE_BYTES
        || attributes.len() > MAX_ATTRIBUTES
        || message.ordering_key.len() > MAX_ORDERING_KEY_BYTES
        || attributes.iter().any(|(name, value)| {
            name.is_empty()
                || name.starts_with("goog")
                || name.len() > MAX_ATTRIBUTE_NAME_BYTES
                || value.len() > MAX_ATTRIBUTE_VALUE_BYTES
        })
}
