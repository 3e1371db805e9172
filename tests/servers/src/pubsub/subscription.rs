//! The state of one subscription: messages to deliver, and messages on loan.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use googleapis_tonic_google_pubsub_v1::google::pubsub::v1 as pb;
use serde_json::Value;
use tokio::time::Instant;

use super::filter::Filter;

/// Messages in one response at most, and their bytes. The service names no limit; a client must
/// take any.
const RESPONSE: (usize, usize) = (1_000, 1 << 20);
/// Of an id that is not on loan, on a subscription with exactly-once delivery:
/// <https://cloud.google.com/pubsub/docs/exactly-once-delivery>. The word is observed, not
/// documented: <https://github.com/googleapis/google-cloud-go/issues/8398>.
const INVALID: &str = "PERMANENT_FAILURE_INVALID_ACK_ID";
/// The length of an id, so that many of them are as large here as there. No page names it; it is
/// observed: <https://github.com/elixir-broadway/broadway_cloud_pub_sub/pull/49>.
const ACK_ID_BYTES: usize = 184;

#[derive(Debug)]
struct Place {
    message: Arc<pb::PubsubMessage>,
    acknowledged: bool,
    /// Whether it waits in `ready` or behind its key.
    queued: bool,
    attempts: i32,
}

#[derive(Debug)]
struct Lease {
    place: usize,
    stream: u64,
    deadline: Instant,
}

/// A stream's messages on loan, and its limits.
#[derive(Debug)]
struct Account {
    messages: i64,
    bytes: i64,
    max_messages: i64,
    max_bytes: i64,
    seconds: i32,
}

#[derive(Debug)]
pub(super) struct Subscription {
    /// As REST describes it.
    pub(super) resource: Value,
    filter: Filter,
    places: Vec<Place>,
    /// How many places are not acknowledged.
    waiting: usize,
    ready: VecDeque<usize>,
    /// By ordering key with a message on loan: those behind it.
    behind: HashMap<String, VecDeque<usize>>,
    leases: HashMap<u64, Lease>,
    deadlines: BinaryHeap<Reverse<(Instant, u64)>>,
    streams: HashMap<u64, Account>,
    numbers: u64,
    acknowledged: Vec<usize>,
    /// Since when messages are passed over, in microseconds since 1970: a seek forward.
    skip_before: i64,
    pub(super) sent: usize,
    pub(super) extensions: usize,
    pub(super) given_back: usize,
}

fn micros(message: &pb::PubsubMessage) -> i64 {
    let time = message.publish_time.unwrap_or_default();
    time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000
}

impl Subscription {
    pub(super) fn new(resource: Value) -> Self {
        let text = resource["filter"].as_str().unwrap_or_default();
        Self {
            // REST has refused it before.
            filter: Filter::read(text).unwrap_or(Filter::Any(Vec::new())),
            resource,
            places: Vec::new(),
            waiting: 0,
            ready: VecDeque::new(),
            behind: HashMap::new(),
            leases: HashMap::new(),
            deadlines: BinaryHeap::new(),
            streams: HashMap::new(),
            numbers: 0,
            acknowledged: Vec::new(),
            skip_before: i64::MIN,
            sent: 0,
            extensions: 0,
            given_back: 0,
        }
    }

    /// Has messages from before it was made: they come if a seek asks for them.
    pub(super) fn with_history(mut self, history: Vec<Arc<pb::PubsubMessage>>) -> Self {
        let place = |message| Place { message, acknowledged: true, queued: false, attempts: 0 };
        let let_through =
            |message: &Arc<pb::PubsubMessage>| self.filter.matches(&message.attributes);
        self.places = history.into_iter().filter(let_through).map(place).collect();
        self
    }

    pub(super) fn topic(&self) -> &str {
        self.resource["topic"].as_str().unwrap_or_default()
    }

    pub(super) fn exactly_once(&self) -> bool {
        self.resource["enableExactlyOnceDelivery"] == true
    }

    pub(super) fn ordering(&self) -> bool {
        self.resource["enableMessageOrdering"] == true
    }

    pub(super) fn store(&mut self, message: Arc<pb::PubsubMessage>) {
        if !self.filter.matches(&message.attributes) {
            return;
        }
        // <https://cloud.google.com/pubsub/docs/replay-overview>: a seek to the future passes over
        // messages published until then.
        let acknowledged = micros(&message) < self.skip_before;
        self.waiting += usize::from(!acknowledged);
        self.places.push(Place { message, acknowledged, queued: false, attempts: 0 });
        self.enqueue(self.places.len() - 1);
    }

    fn enqueue(&mut self, number: usize) {
        let place = &mut self.places[number];
        if !place.acknowledged && !place.queued {
            place.queued = true;
            self.ready.push_back(number);
        }
    }

    /// Opens a stream with the limits it asked for; zero or less is none:
    /// <https://cloud.google.com/pubsub/docs/reference/rpc/google.pubsub.v1#streamingpullrequest>.
    pub(super) fn open(&mut self, request: &pb::StreamingPullRequest) -> u64 {
        let limit = |asked: i64| if asked > 0 { asked } else { i64::MAX };
        self.numbers += 1;
        let account = Account {
            messages: 0,
            bytes: 0,
            max_messages: limit(request.max_outstanding_messages),
            max_bytes: limit(request.max_outstanding_bytes),
            seconds: request.stream_ack_deadline_seconds,
        };
        self.streams.insert(self.numbers, account);
        self.numbers
    }

    /// What `stream` is lent from now on has this deadline.
    pub(super) fn set_deadline(&mut self, stream: u64, seconds: i32) {
        if let Some(account) = self.streams.get_mut(&stream) {
            account.seconds = seconds;
        }
    }

    /// Closes a stream. Its messages on loan stay so until their deadline.
    pub(super) fn close(&mut self, stream: u64) {
        self.streams.remove(&stream);
    }

    pub(super) fn open_streams(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn on_loan(&self) -> usize {
        self.leases.len()
    }

    /// The ids of all acknowledged messages, in the order of their acknowledgement.
    pub(super) fn acknowledged(&self) -> Vec<String> {
        let ids = self.acknowledged.iter();
        ids.map(|place| self.places[*place].message.message_id.clone()).collect()
    }

    /// When the oldest message was published that is not acknowledged, in microseconds since 1970.
    pub(super) fn oldest_unacknowledged(&self) -> Option<i64> {
        let waiting = self.places.iter().filter(|place| !place.acknowledged);
        waiting.map(|place| micros(&place.message)).min()
    }

    pub(super) fn unacknowledged_count(&self) -> usize {
        self.waiting
    }

    pub(super) fn acknowledged_count(&self) -> usize {
        self.acknowledged.len()
    }

    /// Lends what fits to `stream`.
    pub(super) fn lend(&mut self, stream: u64) -> Vec<pb::ReceivedMessage> {
        let (mut lent, mut bytes) = (Vec::new(), 0);
        let ordering = self.ordering();
        let counted = !self.resource["deadLetterPolicy"].is_null();
        let Some(account) = self.streams.get_mut(&stream) else { return lent };
        let deadline = Instant::now() + seconds(account.seconds);
        while lent.len() < RESPONSE.0 && bytes < RESPONSE.1 {
            if account.messages >= account.max_messages || account.bytes >= account.max_bytes {
                break;
            }
            let Some(number) = self.ready.pop_front() else { break };
            let place = &mut self.places[number];
            if place.acknowledged {
                place.queued = false;
                continue;
            }
            let key = &place.message.ordering_key;
            if ordering && !key.is_empty() {
                if let Some(behind) = self.behind.get_mut(key) {
                    behind.push_back(number);
                    continue;
                }
                self.behind.insert(key.clone(), VecDeque::new());
            }
            place.queued = false;
            place.attempts += 1;
            account.messages += 1;
            account.bytes += place.message.data.len() as i64;
            bytes += place.message.data.len();
            self.numbers += 1;
            self.leases.insert(self.numbers, Lease { place: number, stream, deadline });
            self.deadlines.push(Reverse((deadline, self.numbers)));
            lent.push(pb::ReceivedMessage {
                ack_id: format!("{:0ACK_ID_BYTES$x}", self.numbers),
                message: Some(pb::PubsubMessage::clone(&place.message)),
                // Only where there is a dead-letter policy: `ReceivedMessage.delivery_attempt` in
                // googleapis: google/pubsub/v1/pubsub.proto.
                delivery_attempt: if counted { place.attempts } else { 0 },
            });
        }
        self.sent += lent.len();
        lent
    }

    /// Ends one lease and gives its place; the next of its key may go.
    fn release(&mut self, number: u64) -> Option<usize> {
        let lease = self.leases.remove(&number)?;
        let message = &self.places[lease.place].message;
        if let Some(account) = self.streams.get_mut(&lease.stream) {
            account.messages -= 1;
            account.bytes -= message.data.len() as i64;
        }
        if let Some(behind) = self.behind.remove(&message.ordering_key) {
            for number in behind.into_iter().rev() {
                self.ready.push_front(number);
            }
        }
        Some(lease.place)
    }

    fn send_next(&mut self, number: usize) {
        let place = &mut self.places[number];
        if !place.acknowledged && !place.queued {
            place.queued = true;
            self.ready.push_front(number);
        }
    }

    /// Acknowledges; answers with the ids that are not on loan, each with why.
    pub(super) fn acknowledge(&mut self, ack_ids: &[String]) -> Vec<(String, String)> {
        let mut invalid = Vec::new();
        for id in ack_ids {
            match lease_number(id).and_then(|number| self.release(number)) {
                Some(place) => {
                    let place_ref = &mut self.places[place];
                    if !place_ref.acknowledged {
                        place_ref.acknowledged = true;
                        self.waiting -= 1;
                        self.acknowledged.push(place);
                    }
                }
                None => invalid.push((id.clone(), INVALID.to_owned())),
            }
        }
        invalid
    }

    /// Extends leases by `by` seconds, or gives them back where that is zero.
    pub(super) fn extend(&mut self, ack_ids: &[String], by: i32) -> Vec<(String, String)> {
        let mut invalid = Vec::new();
        let deadline = Instant::now() + seconds(by);
        for id in ack_ids {
            let number = lease_number(id).filter(|number| self.leases.contains_key(number));
            match number {
                None => invalid.push((id.clone(), INVALID.to_owned())),
                Some(number) if by == 0 => {
                    self.given_back += 1;
                    if let Some(place) = self.release(number) {
                        self.send_next(place);
                    }
                }
                Some(number) => {
                    self.extensions += 1;
                    if let Some(lease) = self.leases.get_mut(&number) {
                        lease.deadline = deadline;
                    }
                    self.deadlines.push(Reverse((deadline, number)));
                }
            }
        }
        invalid
    }

    /// Ends the leases whose deadline has passed; whether there was one.
    pub(super) fn expire(&mut self) -> bool {
        let (now, mut any) = (Instant::now(), false);
        while let Some(Reverse((deadline, number))) = self.deadlines.peek().copied() {
            if deadline > now {
                break;
            }
            self.deadlines.pop();
            // Extended meanwhile, or answered: another entry has its deadline, or none.
            if self.leases.get(&number).is_some_and(|lease| lease.deadline <= now)
                && let Some(place) = self.release(number)
            {
                self.send_next(place);
                any = true;
            }
        }
        any
    }

    /// Ends all leases.
    pub(super) fn expire_all(&mut self) {
        let mut numbers: Vec<_> = self.leases.keys().copied().collect();
        numbers.sort_unstable_by_key(|number| Reverse(*number));
        for number in numbers {
            if let Some(place) = self.release(number) {
                self.send_next(place);
            }
        }
    }

    /// Sends the messages on loan once more, and leaves the leases: the promise is at least once.
    pub(super) fn redeliver(&mut self) {
        let mut numbers: Vec<_> = self.leases.values().map(|lease| lease.place).collect();
        numbers.sort_unstable();
        numbers.into_iter().for_each(|number| self.enqueue(number));
    }

    /// Moves to a time: <https://cloud.google.com/pubsub/docs/replay-overview>. Acknowledgements
    /// from before stay valid here, the worst that the page allows.
    pub(super) fn seek(&mut self, to: i64, kept_by_topic: bool) {
        self.skip_before = to;
        let retained = kept_by_topic || self.resource["retainAckedMessages"] == true;
        for number in 0..self.places.len() {
            let place = &mut self.places[number];
            if micros(&place.message) < to {
                place.acknowledged = true;
            } else if retained || !place.acknowledged {
                place.acknowledged = false;
                self.enqueue(number);
            }
        }
        self.waiting = self.places.iter().filter(|place| !place.acknowledged).count();
    }
}

fn seconds(count: i32) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}

/// Returns the lease of an id, if it has the form of one.
pub(super) fn lease_number(ack_id: &str) -> Option<u64> {
    u64::from_str_radix(ack_id, 16).ok()
}
