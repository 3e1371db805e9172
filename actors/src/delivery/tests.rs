//! Deliveries and claims, driven in any order against a simple model, and cases for which the model is too
//! coarse.

mod trial;

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use proptest::prelude::*;
use proptest::sample::Index;
use tokio::time::Instant;

use super::*;
use crate::message::{Lease, NewMessage};
use crate::port::{Backlog, EventLog, LogError, PublishError, Pulled, Room, Sought};
use crate::time::Timestamp;
use crate::vitals::{Board, Vitals};
use trial::Trial;

/// A log that records the calls with its leases.
#[derive(Debug, Default)]
struct Notes {
    acknowledged: Mutex<Vec<Lease>>,
    given_back: Mutex<Vec<Lease>>,
}

#[async_trait]
impl EventLog for Notes {
    async fn pull(&self, _: Room, _: Duration) -> Result<Pulled, LogError> {
        Ok(Pulled::End)
    }

    async fn acknowledge(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.acknowledged.lock().unwrap().extend(leases);
        Ok(())
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.given_back.lock().unwrap().extend(leases);
        Ok(())
    }

    async fn seek(&self, _: Timestamp) -> Result<Sought, LogError> {
        Ok(Sought { messages: None })
    }

    async fn publish(&self, _: Vec<NewMessage>) -> Vec<Result<String, PublishError>> {
        Vec::new()
    }

    async fn backlog(&self) -> Result<Backlog, LogError> {
        Ok(Backlog::default())
    }
}

fn message(id: u64, lease: u64) -> Message {
    Message {
        id: id.to_string().into(),
        payload: Bytes::from_static(b"{}"),
        publish_time: Timestamp::from_micros(0),
        attributes: None,
        ordering_key: "".into(),
        attempt: None,
        archived: false,
        suspect: None,
        lease: Lease(lease),
    }
}

fn ledger(max_messages: u64, max_bytes: u64) -> Arc<Ledger> {
    let processors = ["orders", "users"].map(str::to_owned);
    Ledger::new(Account::new(max_messages, max_bytes), processors, Board::new())
}

fn actor() -> Arc<Vitals> {
    Board::new().actor("kappa/actor", "any")
}

/// The claims that the panic of a handler drops, and the crash it is caught as.
fn crash(claims: Vec<Claim>) -> Arc<Crash> {
    let handler = async move {
        let _in_hand = claims;
        // As a panic, but without a word on stderr.
        std::panic::resume_unwind(Box::new("boom"))
    };
    let handled: Result<(), _> = in_hand(&actor(), handler).now_or_never().unwrap();
    handled.unwrap_err()
}

fn settle(claim: Claim) {
    Posting::default().settle(claim);
}

/// One step of a trial.
#[derive(Clone, Debug)]
enum Action {
    /// The log hands out a message.
    Admit,
    /// It hands out again one that is in flight.
    Repeat(Index),
    /// A held route claim is split into these of all ways.
    Split(Index, [bool; 3]),
    /// Up to so many claims are settled in one posting.
    Settle(Index, usize),
    Drop(Index),
    Condemn(Index),
    Charge(Index, u16),
    /// An actor panics with up to so many claims in hand.
    Panic(Index, usize),
    Acknowledge,
    /// The reader takes back the returned claims, and delivers the due ones.
    Redeliver,
    /// Time passes.
    Wait(u8),
}

fn action() -> impl Strategy<Value = Action> {
    let claim = any::<Index>;
    prop_oneof![
        3 => Just(Action::Admit),
        1 => claim().prop_map(Action::Repeat),
        4 => (claim(), any::<[bool; 3]>()).prop_map(|(which, ways)| Action::Split(which, ways)),
        3 => (claim(), 1..4_usize).prop_map(|(first, count)| Action::Settle(first, count)),
        2 => claim().prop_map(Action::Drop),
        1 => claim().prop_map(Action::Condemn),
        1 => (claim(), any::<u16>()).prop_map(|(which, bytes)| Action::Charge(which, bytes)),
        2 => (claim(), 1..4_usize).prop_map(|(first, count)| Action::Panic(first, count)),
        2 => Just(Action::Acknowledge),
        3 => Just(Action::Redeliver),
        1 => any::<u8>().prop_map(Action::Wait),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_everything_is_acknowledged_once_settled_and_not_before(
        actions in prop::collection::vec(action(), 0..120),
    ) {
        let mut trial = Trial::new();
        for action in actions {
            trial.act(action);
            trial.check();
        }
        trial.settle_everything();
    }

    #[test]
    fn whatever_happens_a_close_gives_back_all_that_is_unfinished_and_nothing_else(
        actions in prop::collection::vec(action(), 0..120),
        after in prop::collection::vec(action(), 0..20),
    ) {
        let mut trial = Trial::new();
        for action in actions {
            trial.act(action);
        }
        trial.close(after);
    }
}

#[test]
fn a_time_is_rounded_by_a_few_milliseconds_or_some_percent_of_the_age() {
    let now = Timestamp::now();
    for millis in (0..40).map(|power| 1_u64 << power) {
        let age = Duration::from_millis(millis);
        let ledger = ledger(10, 10_000);
        let published = now.before(age);
        let claims = ledger.admit(vec![Message { publish_time: published, ..message(1, 1) }]);
        assert_eq!(claims[0].delivery().publish_time(), published);
        let rounded = ledger.oldest(Duty::Route).unwrap();
        let most = Duration::from_millis(17).max(age / 32);
        assert!(rounded <= published && rounded.age_at(published) <= most, "{age:?}");
    }
}

#[test]
fn one_event_in_hand_is_charged_for_the_panic_and_several_are_not() {
    let ledger = ledger(10, 10_000);
    let mut claims = ledger.admit((1..=3).map(|id| message(id, id)).collect());
    assert!(crash(vec![claims.remove(0)]).isolated);
    assert!(!crash(claims).isolated);
    assert!(!crash(Vec::new()).isolated, "no event is suspect");
}

#[test]
fn a_claim_settled_before_a_panic_is_acknowledged_and_not_suspect() {
    let (ledger, log) = (ledger(10, 10_000), Notes::default());
    let mut claims = ledger.admit((1..=2).map(|id| message(id, id)).collect());
    let handler = async {
        let mut posting = Posting::default();
        posting.settle(claims.remove(0));
        let _in_hand = claims.remove(0);
        std::panic::resume_unwind(Box::new("boom"))
    };
    let handled: Result<(), _> = in_hand(&actor(), handler).now_or_never().unwrap();
    assert!(handled.unwrap_err().isolated, "one was in hand still");
    assert!(ledger.acknowledge_finished(&log).now_or_never().is_none());
    assert_eq!(*log.acknowledged.lock().unwrap(), [Lease(1)]);
    assert_eq!(ledger.take_returned().now_or_never().unwrap().len(), 1);
}

#[test]
fn all_ways_of_one_event_in_hand_are_one_event() {
    let ledger = ledger(10, 10_000);
    let mut ways = Vec::new();
    for claim in ledger.admit(vec![message(1, 1)]) {
        Posting::default().split(claim, &[Duty::Archive, Duty::Process(0)], |way| ways.push(way));
    }
    assert!(crash(ways).isolated);
}

#[test]
fn room_leaves_place_for_what_messages_cost_beside_their_payload() {
    let account = Account::new(1_000_000, 1_000_000);
    let room = account.room().unwrap();
    let overhead = message(1, 1).cost_bytes() - 3;
    assert!(room.messages as u64 * overhead + room.bytes <= 1_000_000, "{room:?}");
    assert!(room.bytes >= 500_000, "payloads get at least half of it: {room:?}");
}

#[test]
fn the_smallest_account_still_has_room_for_one_message() {
    assert_eq!(Account::new(0, 0).room(), Some(Room { messages: 1, bytes: 1 }));
}

#[test]
fn pauses_grow_with_each_return_and_a_struck_claim_goes_at_once() {
    let policy = RedeliveryPolicy {
        backoff: Duration::from_millis(10),
        max_backoff: Duration::from_millis(30),
        max_attempts: 3,
        panic_grace: Duration::from_secs(60),
    };
    let (ledger, now) = (ledger(10, 10_000), Instant::now());
    let mut redelivery = Redelivery::new(policy);
    let mut claims = ledger.admit(vec![message(1, 1)]);
    for expected in [10, 20, 30, 30] {
        drop(claims);
        redelivery.take(ledger.take_returned().now_or_never().unwrap(), now);
        let due = now + Duration::from_millis(expected);
        assert_eq!(redelivery.next_due(), Some(due));
        assert!(redelivery.due(due - Duration::from_nanos(1), &ledger).is_empty());
        claims = redelivery.due(due, &ledger).remove(0);
    }
    crash(claims);
    redelivery.take(ledger.take_returned().now_or_never().unwrap(), now);
    let [suspect] = &redelivery.due(now, &ledger)[..] else { panic!("it is due at once") };
    assert!(suspect[0].is_isolated());
}

#[test]
fn a_suspect_that_meets_a_dead_actor_goes_again_before_the_others_and_costs_them_no_pause() {
    let policy = RedeliveryPolicy {
        backoff: Duration::from_millis(10),
        max_backoff: Duration::from_secs(1),
        max_attempts: 3,
        panic_grace: Duration::from_secs(60),
    };
    let (ledger, now) = (ledger(10, 10_000), Instant::now());
    let mut redelivery = Redelivery::new(policy);
    crash(ledger.admit((1..=2).map(|id| message(id, id)).collect()));
    let mut go = |now| {
        redelivery.take(ledger.take_returned().now_or_never().unwrap_or_default(), now);
        (redelivery.due(now, &ledger), redelivery.next_due())
    };
    let (mut batches, due) = go(now);
    let first = batches.pop().and_then(|mut batch| batch.pop()).unwrap();
    assert!(batches.is_empty() && due.is_none(), "the other waits for the first");
    let id = first.message().id.clone();
    drop(first);
    let (batches, due) = go(now);
    assert!(batches.is_empty(), "the other would meet the dead actor too");
    let (mut batches, _) = go(due.unwrap());
    assert_eq!(due, Some(now + Duration::from_millis(10)));
    let again = batches.remove(0).remove(0);
    assert_eq!(again.message().id, id);
    settle(again);
    let (batches, _) = go(due.unwrap());
    assert_ne!(batches[0][0].message().id, id, "the actor is back: the other goes at once");
}

#[test]
fn deliveries_after_the_close_are_neither_counted_nor_kept() {
    let ledger = ledger(10, 10_000);
    let alive = Arc::downgrade(&ledger);
    let mut claims = ledger.admit((1..=3).map(|id| message(id, id)).collect());
    let log = Notes::default();
    let closed = ledger.close(&log).now_or_never().unwrap();
    assert_eq!(closed, Unsettled { deliveries: 3 });
    assert!(ledger.admit(vec![message(4, 4)]).is_empty(), "a pull that was under way");
    settle(claims.remove(0));
    assert!(ledger.acknowledge_finished(&log).now_or_never().is_some());
    assert_eq!(ledger.account().messages(), 3, "returned messages come again");
    drop((claims, ledger));
    assert!(alive.upgrade().is_none(), "nothing holds the ledger");
}

#[test]
fn an_abandoned_ledger_keeps_no_returned_and_no_finished_delivery() {
    let ledger = ledger(10, 10_000);
    let alive = Arc::downgrade(&ledger);
    let mut claims = ledger.admit((1..=3).map(|id| message(id, id)).collect());
    settle(claims.remove(0));
    drop(claims.remove(0));
    ledger.abandon();
    drop((claims, ledger));
    assert!(alive.upgrade().is_none(), "nothing holds the ledger");
}

#[test]
fn claims_that_waited_for_a_panicked_actor_pause_as_after_a_first_return() {
    let policy = RedeliveryPolicy {
        backoff: Duration::from_millis(10),
        max_backoff: Duration::from_secs(1),
        max_attempts: 3,
        panic_grace: Duration::from_secs(60),
    };
    let (ledger, mut now) = (ledger(10, 10_000), Instant::now());
    let mut redelivery = Redelivery::new(policy);
    let mut waiting = ledger.admit(vec![message(1, 1)]);
    for _ in 0..5 {
        drop(waiting);
        redelivery.take(ledger.take_returned().now_or_never().unwrap(), now);
        now = redelivery.next_due().unwrap();
        waiting = redelivery.due(now, &ledger).remove(0);
    }
    crash(ledger.admit(vec![message(2, 2)]));
    drop(waiting);
    redelivery.take(ledger.take_returned().now_or_never().unwrap(), now);
    assert_eq!(redelivery.next_due(), Some(now + Duration::from_millis(10)));
}
