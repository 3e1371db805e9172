//! A small Pub/Sub over gRPC alone, like the third-party emulators: no REST, no flow control. Leases
//! do not run out by themselves; a test ends them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1 as pb;
use kappa_test_servers::grpc::{self, Answer, Call, Methods, Replies, Served};
use pb::streaming_pull_response::SubscriptionProperties;
use tokio::sync::{mpsc, watch};
use tonic::{Request, Status, Streaming};

#[derive(Default)]
pub(crate) struct Books {
    stored: Vec<pb::PubsubMessage>,
    /// By ack id: the place in `stored`.
    leased: HashMap<String, usize>,
    to_send: Vec<usize>,
    pub(crate) acked: Vec<String>,
    pub(crate) extended: usize,
    pub(crate) sent: usize,
    hand_outs: usize,
    /// What opening a stream answers instead of a stream.
    pub(crate) refuse_streams: Option<Status>,
    /// What publishing answers, by the payload that must be in the request.
    pub(crate) refuse_publish: Option<(Vec<u8>, Status)>,
    pub(crate) lose_acks: bool,
    /// Acknowledgements take effect half a second late.
    pub(crate) slow_acks: bool,
    pub(crate) exactly_once: bool,
    /// What the administration answers.
    pub(crate) permitted: bool,
    pub(crate) missing: bool,
    /// How many were acknowledged when a seek came.
    pub(crate) acked_at_seek: Option<usize>,
}

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) books: Arc<Mutex<Books>>,
    /// Raised when there may be something to send; the second counts the cuts.
    bell: Arc<watch::Sender<(u64, u64)>>,
    pub(crate) endpoint: String,
}

impl Server {
    pub(crate) async fn start() -> Self {
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

    /// How many messages were published or stored.
    pub(crate) fn stored(&self) -> usize {
        self.books.lock().unwrap().stored.len()
    }

    pub(crate) fn store(&self, mut message: pb::PubsubMessage) -> String {
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
    pub(crate) fn cut(&self) {
        self.bell.send_modify(|(_, cuts)| *cuts += 1);
    }

    /// Sends all that is leased once more, as when their leases ran out.
    pub(crate) fn expire_leases(&self) {
        let mut books = self.books.lock().unwrap();
        let places: Vec<_> = books.leased.drain().map(|(_, place)| place).collect();
        books.to_send.extend(places);
        drop(books);
        self.ring();
    }

    fn acknowledge(&self, ack_ids: Vec<String>) {
        let mut books = self.books.lock().unwrap();
        if books.lose_acks {
            return;
        }
        for id in ack_ids {
            if let Some(place) = books.leased.remove(&id) {
                let name = books.stored[place].message_id.clone();
                books.acked.push(name);
            }
        }
    }

    /// All messages come again; ack ids from before stay valid, the worst that may be.
    pub(crate) fn seek_to_start(&self) {
        let mut books = self.books.lock().unwrap();
        books.acked_at_seek = Some(books.acked.len());
        books.to_send = (0..books.stored.len()).collect();
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

    // No `async fn`: the compiler cannot prove one `Send` that holds a boxed stream.
    fn call(self, method: String, call: Call) -> impl Future<Output = Answer> + Send {
        let server = self.0;
        let answer: BoxFuture<'static, Answer> = match method.as_str() {
            "StreamingPull" => Box::pin(grpc::streaming(
                call,
                move |_: Request<Streaming<pb::StreamingPullRequest>>| {
                    std::future::ready(server.open())
                },
            )),
            "Acknowledge" => {
                Box::pin(grpc::unary(call, move |request: Request<pb::AcknowledgeRequest>| {
                    let server = server.clone();
                    async move {
                        let slow = server.books.lock().unwrap().slow_acks;
                        if slow {
                            tokio::time::sleep(Duration::from_millis(500)).await;
                        }
                        server.acknowledge(request.into_inner().ack_ids);
                        Ok(())
                    }
                }))
            }
            "ModifyAckDeadline" => Box::pin(grpc::unary(
                call,
                move |request: Request<pb::ModifyAckDeadlineRequest>| {
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
                    std::future::ready(Ok(()))
                },
            )),
            other => Box::pin(std::future::ready(grpc::unimplemented(other))),
        };
        answer
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
                grpc::unary(call, move |request: Request<pb::PublishRequest>| {
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
                    std::future::ready(answer)
                })
                .await
            }
            other => grpc::unimplemented(other),
        }
    }
}
