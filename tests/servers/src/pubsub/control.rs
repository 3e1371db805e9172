//! Faults on demand, and records of the calls.

use std::time::Duration;

use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::PubsubMessage;
use serde_json::{Value, json};
use tonic::Status;

use super::state::PublishFault;
use super::subscription::Subscription;
use super::{Shared, rest};

/// Tells a running server how to misbehave, and looks into it. Counts are over all subscriptions.
#[derive(Clone, Debug)]
pub struct Control(Shared);

impl Control {
    pub(super) fn new(shared: Shared) -> Self {
        Self(shared)
    }

    /// Makes a topic and a subscription that keeps acknowledged messages; `settings` are further fields of the
    /// subscription, as REST has them.
    pub fn create(&self, topic: &str, subscription: &str, settings: &Value) {
        let mut resource =
            json!({ "name": subscription, "topic": topic, "retainAckedMessages": true });
        for (key, value) in settings.as_object().into_iter().flatten() {
            resource[key] = value.clone();
        }
        let mut state = self.0.state();
        rest::create(&mut state, topic, json!({ "name": topic }));
        rest::create(&mut state, subscription, resource);
    }

    /// Makes a topic keep later messages for seeks, for so many seconds.
    pub fn keep(&self, topic: &str, seconds: u32) {
        if let Some(found) = self.0.state().topics.get_mut(topic) {
            found["messageRetentionDuration"] = json!(format!("{seconds}s"));
        }
    }

    /// The messages that a topic keeps, in the order in which they were published, without the first
    /// `passed_over`.
    #[must_use]
    pub fn kept(&self, topic: &str, passed_over: usize) -> Vec<PubsubMessage> {
        let state = self.0.state();
        let kept = state.kept(topic).get(passed_over..).unwrap_or_default();
        kept.iter().map(|message| PubsubMessage::clone(message)).collect()
    }

    /// Moves the clock that publish times are taken from, by milliseconds, back or forth.
    pub fn move_clock(&self, millis: i64) {
        self.0.state().clock += millis;
    }

    /// Lets every second publish request come to a server whose clock is so far behind.
    pub fn skew_times(&self, by: Duration) {
        self.0.state().skew = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    }

    /// Publishes in one request, past all limits and faults; the messages' ids.
    pub fn store(
        &self,
        topic: &str,
        messages: impl IntoIterator<Item = PubsubMessage>,
    ) -> Vec<String> {
        let ids = self.0.state().store(topic, messages);
        self.0.ring();
        ids
    }

    /// A topic or a subscription, as REST describes it.
    #[must_use]
    pub fn resource(&self, name: &str) -> Option<Value> {
        let state = self.0.state();
        let subscription = state.subscriptions.get(name).map(|found| &found.resource);
        state.topics.get(name).or(subscription).cloned()
    }

    /// The topics and subscriptions there are, by their full names.
    #[must_use]
    pub fn resources(&self) -> Vec<String> {
        let state = self.0.state();
        state.topics.keys().chain(state.subscriptions.keys()).cloned().collect()
    }

    /// The names of all subscriptions.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<String> {
        self.0.state().subscriptions.keys().cloned().collect()
    }

    /// Changes one field of a subscription.
    pub fn change(&self, subscription: &str, field: &str, value: Value) {
        if let Some(found) = self.0.state().subscriptions.get_mut(subscription) {
            found.resource[field] = value;
        }
    }

    /// Removes a topic or a subscription, and ends its streams.
    pub fn delete(&self, name: &str) {
        let mut state = self.0.state();
        state.topics.remove(name);
        state.subscriptions.remove(name);
        drop(state);
        self.0.ring();
    }

    /// Takes one permission away; open streams that need it end.
    pub fn deny(&self, permission: &str) {
        self.0.state().granted.deny(permission);
        self.0.ring();
    }

    /// Gives the caller all permissions again.
    pub fn grant_all(&self) {
        self.0.state().granted.all();
    }

    /// Leaves the caller these permissions, each on a resource and the resources below it.
    pub fn grant_only(&self, grants: impl IntoIterator<Item = (String, String)>) {
        self.0.state().granted.only(grants);
        self.0.ring();
    }

    /// Gives a permission back.
    pub fn allow(&self, permission: &str) {
        self.0.state().granted.allow(permission);
    }

    /// Sets the answer to opening a stream, until the next call; open streams end with it.
    pub fn refuse_streams(&self, status: Option<Status>) {
        let cut = status.is_some();
        self.0.state().refuse_streams = status;
        if cut {
            self.0.cut();
        }
    }

    /// Ends every open stream with `UNAVAILABLE`.
    pub fn cut_streams(&self) {
        self.0.cut();
    }

    /// Ends every lease now.
    pub fn expire_leases(&self) {
        self.0.state().subscriptions.values_mut().for_each(Subscription::expire_all);
        self.0.ring();
    }

    /// Sends the messages on loan once more, while their leases go on.
    pub fn redeliver_in_flight(&self) {
        self.0.state().subscriptions.values_mut().for_each(Subscription::redeliver);
        self.0.ring();
    }

    /// Answers acknowledgements and forgets them, or no more.
    pub fn lose_acks(&self, lose: bool) {
        self.0.state().lose_acks = lose;
    }

    /// Acknowledgements take effect, and are answered, so late.
    pub fn delay_acks(&self, by: Duration) {
        self.0.state().delay_acks = by;
    }

    /// The next acknowledgements of a subscription with exactly-once delivery fail with these
    /// words of the service, such as `TRANSIENT_FAILURE_OTHER`.
    pub fn fail_acks<'a>(&self, reasons: impl IntoIterator<Item = &'a str>) {
        self.0.state().ack_failures.extend(reasons.into_iter().map(str::to_owned));
    }

    /// What publishing answers to a request with this payload in it, or to any; `None` ends it.
    pub fn refuse_publish(&self, payload: Option<&[u8]>, status: Option<Status>) {
        self.0.state().refuse_publish =
            status.map(|status| PublishFault { payload: payload.map(<[u8]>::to_vec), status });
    }

    /// Answers every request over REST with this status, until the next call.
    pub fn fail_rest(&self, status: Option<u16>) {
        self.0.state().rest_fault = status;
    }

    /// How many messages were published.
    #[must_use]
    pub fn published(&self) -> usize {
        self.0.state().published
    }

    /// The ids of the acknowledged messages, in the order of their acknowledgement; after a seek
    /// an id may occur twice.
    #[must_use]
    pub fn acknowledged(&self) -> Vec<String> {
        self.0.state().subscriptions.values().flat_map(Subscription::acknowledged).collect()
    }

    /// How many acknowledgements counted.
    #[must_use]
    pub fn acknowledged_count(&self) -> usize {
        self.sum(Subscription::acknowledged_count)
    }

    /// How many messages are not acknowledged.
    #[must_use]
    pub fn unacknowledged_count(&self) -> usize {
        self.sum(Subscription::unacknowledged_count)
    }

    /// How many acknowledgements had counted when the last seek came.
    #[must_use]
    pub fn acknowledged_at_seek(&self) -> Option<usize> {
        self.0.state().acknowledged_at_seek
    }

    /// How many messages went out, each time counted.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.sum(|subscription| subscription.sent)
    }

    /// How often a lease was extended.
    #[must_use]
    pub fn extensions(&self) -> usize {
        self.sum(|subscription| subscription.extensions)
    }

    /// How often a lease was given back.
    #[must_use]
    pub fn given_back(&self) -> usize {
        self.sum(|subscription| subscription.given_back)
    }

    /// How many messages are on loan.
    #[must_use]
    pub fn on_loan(&self) -> usize {
        self.sum(Subscription::on_loan)
    }

    /// How many streams are open.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.sum(Subscription::open_streams)
    }

    /// How many snapshots there are.
    #[must_use]
    pub fn snapshots(&self) -> usize {
        self.0.state().snapshots.len()
    }

    fn sum(&self, of: impl Fn(&Subscription) -> usize) -> usize {
        self.0.state().subscriptions.values().map(of).sum()
    }
}
