//! The streams between two seeks.
//!
//! Each stream is a task of its own. It asks for a message only when the memory budget has room for one,
//! and reopens a broken stream, after ever longer pauses. Handlers outlive their
//! stream: the crate goes on extending and acknowledging for a closed stream until its last handler
//! is used, and [`Session::end`] waits for that.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use google_cloud_pubsub::client::Subscriber;
use google_cloud_pubsub::model::Message as Received;
use google_cloud_pubsub::subscriber::handler::{ExactlyOnce, Handler};
use google_cloud_pubsub::subscriber::{MessageStream, ShutdownBehavior};
use kappa_actors::message::{Lease, Message};
use kappa_actors::port::{LogError, Pulled, Room};
use kappa_actors::time::Timestamp;
use kappa_actors::vitals::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admin::Admin;
use super::loans::{Loans, Numbers, Share};
use super::{PubSubOptions, fault, from_wkt, watch};
use crate::backend::gcp;

/// How long one call of `acknowledge` waits for confirmations; a later one waits for the same.
const CONFIRMATION: Duration = Duration::from_secs(10);
/// A stream without an error for this long works, even without a message: refusals come at once, and an empty
/// subscription is silent.
pub(super) const SETTLED: Duration = Duration::from_secs(2);
/// When a stream that has not given its first word is waited for no longer: one for which the
/// account has no place does not even open.
const FIRST_WORD: Duration = Duration::from_secs(3);
/// How often a pull looks at least whether the streams have given their first word.
const FIRST_LOOK: Duration = Duration::from_millis(10);
/// The first pause before a broken stream is opened again, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// The lease requested at a time: as long as the subscription's own deadline. The crate extends it until
/// `max_lease`.
const EXTENSION: Duration = Duration::from_secs(60);
/// Number of silences after which a stream is reopened: the crate never gives up a connection whose other end
/// disappeared. With the default that is five minutes; the service itself ends a stream after half an hour.
const SILENCES: u32 = 10;
/// How long the confirmation of an acknowledgement is waited for: the crate itself repeats it for ten minutes, but
/// waits for a silent connection without end.
const UNCONFIRMED: Duration = Duration::from_secs(11 * 60);
/// Messages handed on together, at most: as many as a batch of the reader usually has.
const MAX_TOGETHER: usize = 500;
/// Bytes are counted in units of this many, so that any account fits a semaphore's `u32`.
const UNIT_BYTES: u64 = 64;

/// The open streams and their messages.
pub(super) struct Session {
    pub(super) loans: Loans,
    pub(super) options: Arc<PubSubOptions>,
    pub(super) stop: CancellationToken,
    subscriber: Subscriber,
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    account_units: u32,
    lost_acknowledgements: Arc<Counter>,
    since: Instant,
    tasks: TaskTracker,
}

/// A message that came by a stream, with its share of the account.
type Arrival = (Message, Handler, Share);

/// Why a stream is read no more.
enum Break {
    Stopped,
    /// It brought nothing for so long that its connection may be dead.
    Silent,
    Fault(String),
}

/// A client with a connection of its own; it connects when it is used.
pub(super) async fn subscriber(options: &PubSubOptions) -> Result<Subscriber, LogError> {
    let mut builder = Subscriber::builder().with_credentials(options.credentials.clone());
    if let Some(universe) = gcp::universe(&options.credentials).await {
        builder = builder.with_universe_domain(universe);
    }
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    let refused = |error| LogError::Refused(format!("no client for Pub/Sub can be made: {error}"));
    builder.build().await.map_err(refused)
}

impl Session {
    pub(super) fn start(
        options: Arc<PubSubOptions>,
        subscriber: Subscriber,
        admin: Arc<Admin>,
        numbers: Numbers,
        lost_acknowledgements: Arc<Counter>,
    ) -> Arc<Self> {
        let units = (options.max_outstanding_bytes / UNIT_BYTES).clamp(1, u64::from(u32::MAX));
        let messages = options.max_outstanding_messages.clamp(1, u64::from(u32::MAX));
        // Both fit by the clamps above.
        let account_units = units as u32;
        let session = Arc::new(Self {
            loans: Loans::new(numbers),
            stop: CancellationToken::new(),
            subscriber,
            messages: Arc::new(Semaphore::new(messages as usize)),
            bytes: Arc::new(Semaphore::new(account_units as usize)),
            account_units,
            lost_acknowledgements,
            since: Instant::now(),
            tasks: TaskTracker::new(),
            options,
        });
        for stream in 0..session.streams() {
            session.tasks.spawn(session.clone().keep_open(stream));
        }
        session.tasks.spawn(watch::run(session.clone(), admin));
        session
    }

    pub(super) fn streams(&self) -> usize {
        self.options.streams.max(1)
    }

    /// As [`kappa_actors::port::EventLog::pull`]. The log is not reported as quiet before every stream has answered once.
    pub(super) async fn pull(
        &self,
        room: Room,
        mut patience: Duration,
    ) -> Result<Pulled, LogError> {
        loop {
            let pulled = self.loans.pull(room, patience).await?;
            let heard = self.loans.all_heard(self.streams()) || self.since.elapsed() > FIRST_WORD;
            if heard || !matches!(pulled, Pulled::Quiet) {
                return Ok(pulled);
            }
            patience = patience.max(FIRST_LOOK);
        }
    }

    /// Acknowledges, and waits where the subscription confirms.
    pub(super) async fn acknowledge(self: &Arc<Self>, leases: &[Lease]) -> Result<(), LogError> {
        for (lease, handler) in self.loans.acknowledge(leases) {
            // A task of its own: a cancelled or impatient caller must not lose the confirmation.
            self.tasks.spawn(self.clone().confirm(lease, handler));
        }
        tokio::time::timeout(CONFIRMATION, self.loans.all_confirmed(leases)).await.map_err(|_| {
            LogError::Unavailable("Pub/Sub has not confirmed the acknowledgements yet".into())
        })
    }

    async fn confirm(self: Arc<Self>, lease: Lease, handler: ExactlyOnce) {
        // The crate repeats transient failures by itself. A message whose acknowledgement is refused comes again and
        // is recognised by its id, so nothing needs to be repeated.
        // A lease ends with `max_lease` at the latest, and with it its confirmation.
        let patience = UNCONFIRMED.min(self.options.max_lease);
        let lost = match tokio::time::timeout(patience, handler.confirmed_ack()).await {
            Ok(answer) => answer.err().map(|error| error.to_string()),
            Err(late) => Some(late.to_string()),
        };
        if let Some(error) = lost {
            self.lost_acknowledgements.add(1);
            tracing::debug!(error, "an acknowledgement was not taken; its message comes again");
        }
        self.loans.confirmed(lease);
    }

    /// Gives back all loans, closes the streams and waits until every answer is sent. False if
    /// that took longer than `patience`.
    pub(super) async fn end(&self, patience: Duration) -> bool {
        self.abandon();
        self.tasks.close();
        tokio::time::timeout(patience, self.tasks.wait()).await.is_ok()
    }

    /// Ends the session without waiting.
    pub(super) fn abandon(&self) {
        self.stop.cancel();
        self.loans.end();
    }

    async fn keep_open(self: Arc<Self>, number: usize) {
        let mut pause = PAUSE.0;
        let mut subscriber = self.subscriber.clone();
        loop {
            let mut stream = self.open(&subscriber);
            let token = stream.shutdown_token();
            let before = self.loans.arrivals();
            let end = self.read(&mut stream, number).await;
            drop(stream);
            // Ends when the last handler of this stream is used and its answer sent.
            self.tasks.spawn(async move { token.shutdown().await });
            let words = match end {
                Break::Stopped => return,
                Break::Silent => {
                    tracing::debug!(stream = number, "a silent stream is reopened");
                    // What could be made once can be made again.
                    if let Ok(fresh) = self::subscriber(&self.options).await {
                        subscriber = fresh;
                    }
                    continue;
                }
                Break::Fault(words) => words,
            };
            if self.loans.arrivals() != before {
                pause = PAUSE.0;
            }
            if self.loans.broke(number, words.clone()) {
                tracing::warn!(stream = number, "a stream from Pub/Sub broke: {words}");
            }
            let jittered = pause.mul_f64(rand::random_range(0.5..1.0));
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(jittered) => {}
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    fn open(&self, subscriber: &Subscriber) -> MessageStream {
        let streams = self.streams() as u64;
        let share = |account: u64| i64::try_from((account / streams).max(1)).unwrap_or(i64::MAX);
        subscriber
            .subscribe(self.options.subscription_name())
            .set_max_outstanding_messages(share(self.options.max_outstanding_messages))
            .set_max_outstanding_bytes(share(self.options.max_outstanding_bytes))
            .set_max_lease(self.options.max_lease)
            .set_max_lease_extension(EXTENSION.min(self.options.max_lease))
            .set_shutdown_behavior(ShutdownBehavior::WaitForProcessing)
            .build()
    }

    /// Receives messages until the stream ends, and passes on its ready messages together: otherwise a pull would be
    /// woken for each, and make batches of one.
    async fn read(&self, stream: &mut MessageStream, number: usize) -> Break {
        let mut came = Vec::new();
        let end = loop {
            let Some(message) = self.permits(&self.messages, 1, &mut came, number).await else {
                break Break::Stopped;
            };
            let (received, handler) = match self.next(stream, number, &mut came).await {
                Ok(one) => one,
                Err(end) => break end,
            };
            let received = translated(received, &handler);
            // In the order of asking, or alone if it is larger than the account.
            let units = received.cost_bytes().div_ceil(UNIT_BYTES);
            let units = units.min(u64::from(self.account_units)) as u32;
            let Some(bytes) = self.permits(&self.bytes, units, &mut came, number).await else {
                break Break::Stopped;
            };
            came.push((received, handler, Share { messages: message, bytes }));
            if came.len() >= MAX_TOGETHER {
                self.hand_on(&mut came, number);
            }
        };
        self.hand_on(&mut came, number);
        end
    }

    fn hand_on(&self, came: &mut Vec<Arrival>, number: usize) {
        if came.is_empty() {
            return;
        }
        if self.loans.works(number) {
            tracing::info!(stream = number, "the stream from Pub/Sub works again");
        }
        self.loans.arrive(came);
    }

    /// Waits for room in the account, which those before may have to make first; `None` at the end
    /// of the session, which gives all back.
    async fn permits(
        &self,
        account: &Arc<Semaphore>,
        count: u32,
        came: &mut Vec<Arrival>,
        number: usize,
    ) -> Option<OwnedSemaphorePermit> {
        if let Ok(permits) = Arc::clone(account).try_acquire_many_owned(count) {
            return Some(permits);
        }
        self.hand_on(came, number);
        tokio::select! {
            () = self.stop.cancelled() => None,
            permits = Arc::clone(account).acquire_many_owned(count) => permits.ok(),
        }
    }

    /// The next message. Only the end of the session cancels it: a stream that is being opened
    /// would start over at every cancellation.
    async fn next(
        &self,
        stream: &mut MessageStream,
        number: usize,
        came: &mut Vec<Arrival>,
    ) -> Result<(Received, Handler), Break> {
        let mut next = std::pin::pin!(stream.next());
        let item = match futures::poll!(next.as_mut()) {
            Poll::Ready(item) => item,
            Poll::Pending => {
                self.hand_on(came, number);
                self.wait(next, number).await?
            }
        };
        match item {
            Some(Ok(one)) => Ok(one),
            Some(Err(error)) => {
                let name = self.options.subscription_name();
                Err(Break::Fault(fault::reading(&name, &error)))
            }
            None => Err(Break::Fault("the stream was closed".into())),
        }
    }

    async fn wait<T>(
        &self,
        mut next: Pin<&mut impl Future<Output = T>>,
        number: usize,
    ) -> Result<T, Break> {
        let mut settled = std::pin::pin!(tokio::time::sleep(SETTLED));
        let silence = self.options.silence * SILENCES;
        let mut silent = std::pin::pin!(tokio::time::sleep(silence));
        let mut waits = true;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return Err(Break::Stopped),
                () = &mut settled, if waits => {
                    waits = false;
                    if self.loans.works(number) {
                        tracing::info!(stream = number, "the stream from Pub/Sub works again");
                    }
                }
                () = &mut silent => return Err(Break::Silent),
                item = &mut next => return Ok(item),
            }
        }
    }
}

fn translated(received: Received, handler: &Handler) -> Message {
    let attributes: BTreeMap<_, _> = received.attributes.into_iter().collect();
    Message {
        id: received.message_id.into(),
        payload: received.data,
        // The service always sets it; without one, the time of arrival is the nearest guess.
        publish_time: received.publish_time.as_ref().map_or_else(Timestamp::now, from_wkt),
        attributes: (!attributes.is_empty()).then(|| Arc::new(attributes)),
        ordering_key: received.ordering_key.into(),
        attempt: handler.delivery_attempt().and_then(|attempt| u32::try_from(attempt).ok()),
        // Given when the message is taken in.
        archived: false,
        suspect: None,
        lease: Lease(0),
    }
}
