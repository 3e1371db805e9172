//! Conformance: what every [`EventLog`] promises.
//!
//! [`conforms`] runs one check a promise, each on a log of its own, and panics with the name of
//! the first that is broken.

mod acknowledging;
mod publishing;
mod pulling;
mod seeking;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use futures::FutureExt;

use crate::message::{Lease, Message, NewMessage};
use crate::port::{EventLog, Pulled, Room};

/// A log's abilities beyond the promises that every log keeps. Checks of missing abilities are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// It takes messages while it is read; an archive being replayed takes none.
    pub publish: bool,
    /// A message may be without payload and attributes.
    pub empty: bool,
    /// Messages come exactly in the order of their publishing, those given back first.
    pub order: bool,
    /// It moves to a time, exactly.
    pub seek: bool,
    /// It counts its backlog and knows exactly which messages are acknowledged.
    pub backlog: bool,
}

impl Abilities {
    /// A log that can do all.
    pub const ALL: Self =
        Self { publish: true, empty: true, order: true, seek: true, backlog: true };
}

/// Room for all that a check handles.
const AMPLE: Room = Room { messages: 10_000, bytes: 1 << 30 };
/// Long enough for any log that works.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a log is asked before it is believed to have nothing; no result depends on it.
const BRIEFLY: Duration = Duration::from_millis(20);

/// Runs every check that `abilities` allow. `fresh` makes a log of its own with the given messages, all
/// unacknowledged.
///
/// # Panics
/// When a promise is broken, with its name.
pub async fn conforms<L, F>(fresh: impl Fn(Vec<NewMessage>) -> F, abilities: Abilities)
where
    L: EventLog,
    F: Future<Output = L>,
{
    let log = || async { fresh(numbered(10)).await };
    let order = abilities.order;
    named("every_message_comes_once", pulling::every_message_comes_once(log().await)).await;
    named("room_bounds_a_pull", pulling::room_bounds_a_pull(log().await)).await;
    named("a_large_message_comes_alone", pulling::a_large_message_comes_alone(log().await)).await;
    named("a_cancelled_pull_loses_nothing", pulling::a_cancelled_pull_loses_nothing(log().await))
        .await;
    let cancelled = pulling::a_pull_cancelled_at_any_await_loses_nothing(log().await);
    named("a_pull_cancelled_at_any_await_loses_nothing", cancelled).await;
    named("pulls_share_nothing", pulling::pulls_share_nothing(log().await)).await;
    let given_back = acknowledging::given_back_comes_again(log().await, order);
    named("given_back_comes_again", given_back).await;
    let twice = acknowledging::acknowledging_twice_is_harmless(log().await);
    named("acknowledging_twice_is_harmless", twice).await;
    let stays = acknowledging::what_is_acknowledged_does_not_come_again(log().await);
    named("what_is_acknowledged_does_not_come_again", stays).await;
    if abilities.backlog {
        named("backlog_counts", acknowledging::backlog_counts(log().await)).await;
        let reports = acknowledging::it_reports_the_acknowledged_time(log().await);
        named("it_reports_the_acknowledged_time", reports).await;
    }
    if abilities.publish {
        let empty = || async { fresh(Vec::new()).await };
        let whole = publishing::what_is_published_comes_whole(empty().await, abilities);
        named("what_is_published_comes_whole", whole).await;
        let woken = publishing::an_arrival_wakes_a_waiting_pull(empty().await);
        named("an_arrival_wakes_a_waiting_pull", woken).await;
        let nothing = publishing::publishing_nothing_does_nothing(empty().await);
        named("publishing_nothing_does_nothing", nothing).await;
        named("an_empty_log_is_quiet", publishing::an_empty_log_is_quiet(empty().await)).await;
    }
    if abilities.seek {
        let back = seeking::a_seek_back_brings_all_again(log().await, order);
        named("a_seek_back_brings_all_again", back).await;
        named("a_seek_voids_leases", seeking::a_seek_voids_leases(log().await)).await;
        named("a_seek_forward_skips", seeking::a_seek_forward_skips(log().await)).await;
    }
}

/// Runs one check; a panic in it names the check.
async fn named(check: &str, run: impl Future<Output = ()>) {
    if let Err(panic) = AssertUnwindSafe(run).catch_unwind().await {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        match text {
            Some(text) => panic!("the event log does not keep `{check}`: {text}"),
            None => resume_unwind(panic),
        }
    }
}

/// Messages whose payloads are `0000`, `0001` and so on.
fn numbered(count: usize) -> Vec<NewMessage> {
    (0..count).map(|number| NewMessage::from_payload(format!("{number:04}"))).collect()
}

fn must<T>(result: Result<T, impl Display>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// Pulls until `count` messages have come.
async fn pull_exactly(log: &impl EventLog, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    while messages.len() < count {
        let room = Room { messages: count - messages.len(), ..AMPLE };
        match must(log.pull(room, PATIENCE).await) {
            Pulled::Messages(more) => messages.extend(more),
            end => panic!("{end:?} after {} of {count} messages", messages.len()),
        }
    }
    assert_eq!(messages.len(), count, "more messages than there was room for");
    messages
}

/// Asks for more, of which there must be none.
async fn pull_nothing(log: &impl EventLog) {
    if let Pulled::Messages(messages) = must(log.pull(AMPLE, BRIEFLY).await) {
        panic!("{} messages too many, the first {:?}", messages.len(), messages[0].payload);
    }
}

fn leases(messages: &[Message]) -> Vec<Lease> {
    messages.iter().map(|message| message.lease).collect()
}

fn payloads(messages: &[Message]) -> Vec<&[u8]> {
    messages.iter().map(|message| message.payload.as_ref()).collect()
}

/// Asserts that `messages` are those whose payloads are given, in that order if `order`.
fn assert_are(messages: &[Message], expected: &[&[u8]], order: bool) {
    if order {
        assert_eq!(payloads(messages), expected);
    } else {
        let sorted = |payloads: &[&[u8]]| {
            let mut sorted: Vec<_> = payloads.iter().map(|bytes| bytes.to_vec()).collect();
            sorted.sort();
            sorted
        };
        assert_eq!(sorted(&payloads(messages)), sorted(expected));
    }
    let ids: BTreeSet<_> = messages.iter().map(|message| &message.id).collect();
    assert_eq!(ids.len(), messages.len(), "two messages share an id");
}
