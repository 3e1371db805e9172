//! A small Pub/Sub over gRPC alone, like the third-party emulators: no REST, no flow control. Leases
//! do not run out by themselves; a test ends them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1 as pb;
use kappa_test_servers::grpc::{self, Answer, Call, Methods, Replies, Served};
use pb::streaming_pull_response::SubscriptionProperties;
use tokio::sync::{mpsc, watch};
use tonic::{Request, Status, Streaming};

#[derive(Default)]
pub(super) struct Books {
    stored: Vec<pb::PubsubMessage>,
    /// By ack id: the place in `stored`.
    leased: HashMap<String, usize>,
    to_send: Vec<usize>,
    pub(super) acked: Vec<String>,
    pub(super) extended: usize,
    pub(super) sent: usize,
    hand_outs: usize,
    /// What opening a stream answers instead of a stream.
    pub(super) refuse_streams: Option<Status>,
    /// What publishing answers, by the payload that must be in the request.
    pub(super) refuse_publish: Option<(Vec<u8>, Status)>,
    pub(super) lose_acks: bool,
    pub(super) exactly_once: bool,
}

#[derive(Clone)]
pub(super) struct Server {
    pub(super) books: Arc<Mutex<Books>>,
    /// Raised when there may be something to send; the second counts the cuts.
    bell: Arc<watch::Sender<(u64, u64)>>,
    pub(super) endpoint: String,
}

impl Server {
    pub(super) async fn start() -> Self {
        let (listener, address) = grpc::listen().await.unwrap();
        let server = Self {
            books: Arc::default(),
            bell: Arc::new(watch::channel((0, 0)).0),
            endpoint: format!("http://{address}"),
        };
        let router = tonic::transport::Server::builder()
            .add_service(Served(Subscriber(server.clone())))
            .add_service(Served(Publisher(server.clone())));
        tokio::spawn(router.serve_with_incoming(futures::stream::unfold(
            listener,
            |listener| async move {
                let accepted = listener.accept().await.map(|(socket, _)| socket);
                Some((accepted, listener))
            },
        )));
        server
    }

    pub(super) fn store(&self, mut message: pb::PubsubMessage) -> String {
        let mut books = self.books.lock().unwrap();
        let place = books.stored.len();
        message.message_id = format!("m{place}");
        let seconds = 1_700_000_000 + place as i64;
        message.publish_time = Some(prost_types::Timestamp { seconds, nanos: 0 });
        let id = message.message_id.clone();
        books.stored.push(message);
        books.to_send.push(place);
        drop(books);
        self.ring();
        id
    }

    fn ring(&self) {
        self.bell.send_modify(|(rings, _)| *rings += 1);
    }

    /// Ends every open stream with `UNAVAILABLE`, or as `refuse_streams` says.
    pub(super) fn cut(&self) {
        self.bell.send_modify(|(_, cuts)| *cuts += 1);
    }

    /// Sends all that is leased once more, as when their leases ran out.
    pub(super) fn expire_leases(&self) {
        let mut books = self.books.lock().unwrap();
        let places: Vec<_> = books.leased.drain().map(|(_, place)| place).collect();
        books.to_send.extend(places);
        drop(books);
        self.ring();
    }

    fn next_response(&self) -> Option<pb::StreamingPullResponse> {
        let mut books = self.books.lock().unwrap();
        let count = books.to_send.len().min(10);
        let places: Vec<_> = books.to_send.drain(..count).collect();
        let mut received_messages = Vec::new();
        for place in places {
            books.hand_outs += 1;
            books.sent += 1;
            let ack_id = format!("a{}", books.hand_outs);
            books.leased.insert(ack_id.clone(), place);
            let message = Some(books.stored[place].clone());
            received_messages.push(pb::ReceivedMessage { ack_id, message, delivery_attempt: 0 });
        }
        let subscription_properties = Some(SubscriptionProperties {
            exactly_once_delivery_enabled: books.exactly_once,
            message_ordering_enabled: false,
        });
        (!received_messages.is_empty()).then(|| pb::StreamingPullResponse {
            received_messages,
            subscription_properties,
            ..Default::default()
        })
    }

    fn open(&self) -> Result<Replies<pb::StreamingPullResponse>, Status> {
        if let Some(status) = self.books.lock().unwrap().refuse_streams.clone() {
            return Err(status);
        }
        let (replies, received) = mpsc::channel(1);
        let server = self.clone();
        let mut bell = self.bell.subscribe();
        let cuts = bell.borrow().1;
        tokio::spawn(async move {
            loop {
                // One permit first: what is taken out of the books is sent.
                let Ok(permit) = replies.reserve().await else { return };
                if bell.borrow_and_update().1 != cuts {
                    let refusal = server.books.lock().unwrap().refuse_streams.clone();
                    permit.send(Err(refusal.unwrap_or_else(|| Status::unavailable("cut"))));
                    return;
                }
                match server.next_response() {
                    Some(response) => permit.send(Ok(response)),
                    None => {
                        drop(permit);
                        tokio::select! {
                            _ = bell.changed() => {}
                            () = replies.closed() => return,
                        }
                    }
                }
            }
        });
        let stream = futures::stream::unfold(received, |mut received| async move {
            received.recv().await.map(|reply| (reply, received))
        });
        Ok(stream.boxed())
    }
}

#[derive(Clone)]
struct Subscriber(Server);

impl Methods for Subscriber {
    const NAME: &'static str = "google.pubsub.v1.Subscriber";

    async fn call(self, method: String, call: Call) -> Answer {
        let server = self.0;
        match method.as_str() {
            "StreamingPull" => {
                grpc::streaming(call, |_: Request<Streaming<pb::StreamingPullRequest>>| {
                    let opened = server.open();
                    async move { opened }
                })
                .await
            }
            "Acknowledge" => {
                grpc::unary(call, |request: Request<pb::AcknowledgeRequest>| {
                    let mut books = server.books.lock().unwrap();
                    if !books.lose_acks {
                        for id in request.into_inner().ack_ids {
                            if let Some(place) = books.leased.remove(&id) {
                                let name = books.stored[place].message_id.clone();
                                books.acked.push(name);
                            }
                        }
                    }
                    async { Ok(()) }
                })
                .await
            }
            "ModifyAckDeadline" => {
                grpc::unary(call, |request: Request<pb::ModifyAckDeadlineRequest>| {
                    let request = request.into_inner();
                    let mut books = server.books.lock().unwrap();
                    for id in request.ack_ids {
                        if request.ack_deadline_seconds > 0 {
                            books.extended += 1;
                        } else if let Some(place) = books.leased.remove(&id) {
                            books.to_send.push(place);
                        }
                    }
                    drop(books);
                    server.ring();
                    async { Ok(()) }
                })
                .await
            }
            other => grpc::unimplemented(other),
        }
    }
}

#[derive(Clone)]
struct Publisher(Server);

impl Methods for Publisher {
    const NAME: &'static str = "google.pubsub.v1.Publisher";

    async fn call(self, method: String, call: Call) -> Answer {
        let server = self.0;
        match method.as_str() {
            "Publish" => {
                grpc::unary(call, |request: Request<pb::PublishRequest>| {
                    let messages = request.into_inner().messages;
                    let refusal = server.books.lock().unwrap().refuse_publish.clone();
                    let refused = refusal.filter(|(payload, _)| {
                        messages.iter().any(|message| &message.data == payload)
                    });
                    let answer = match refused {
                        Some((_, status)) => Err(status),
                        None => Ok(pb::PublishResponse {
                            message_ids: messages
                                .into_iter()
                                .map(|one| server.store(one))
                                .collect(),
                        }),
                    };
                    async move { answer }
                })
                .await
            }
            other => grpc::unimplemented(other),
        }
    }
}
