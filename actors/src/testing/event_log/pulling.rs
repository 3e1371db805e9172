//! The promises of a pull.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use futures::future::join_all;
use futures::poll;

use super::{
    AMPLE, BRIEFLY, PATIENCE, assert_are, leases, must, numbered, payloads, pull_exactly,
    pull_nothing,
};
use crate::message::NewMessage;
use crate::port::{EventLog, Pulled, Room};

pub(super) async fn every_message_comes_once(log: impl EventLog) {
    let messages = pull_exactly(&log, 10).await;
    let expected = numbered(10);
    let expected: Vec<&[u8]> = expected.iter().map(|message| message.payload.as_ref()).collect();
    assert_are(&messages, &expected, false);
    pull_nothing(&log).await;
    must(log.acknowledge(&leases(&messages)).await);
    pull_nothing(&log).await;
}

pub(super) async fn room_bounds_a_pull(log: impl EventLog) {
    for room in [Room { messages: 3, ..AMPLE }, Room { bytes: 9, ..AMPLE }] {
        match must(log.pull(room, PATIENCE).await) {
            Pulled::Messages(messages) => {
                let bytes: usize = payloads(&messages).iter().map(|payload| payload.len()).sum();
                assert!(!messages.is_empty() && messages.len() <= room.messages, "{messages:?}");
                assert!(bytes as u64 <= room.bytes, "{bytes} bytes for room of {}", room.bytes);
            }
            end => panic!("{end:?} with ten messages waiting"),
        }
    }
}

pub(super) async fn a_large_message_comes_alone(log: impl EventLog) {
    for _ in 0..10 {
        match must(log.pull(Room { bytes: 1, ..AMPLE }, PATIENCE).await) {
            Pulled::Messages(messages) => assert_eq!(messages.len(), 1),
            end => panic!("{end:?} with messages waiting"),
        }
    }
}

pub(super) async fn a_cancelled_pull_loses_nothing(log: impl EventLog) {
    let mut messages = Vec::new();
    for round in 0..40 {
        let mut pull = log.pull(Room { messages: 1, ..AMPLE }, PATIENCE);
        if let Poll::Ready(pulled) = poll!(&mut pull) {
            if let Pulled::Messages(more) = must(pulled) {
                messages.extend(more);
            }
            continue;
        }
        // Every second one is dropped with its answer there already, where the log answers calls
        // in their order.
        if round % 2 == 0 {
            must(log.backlog().await);
        }
        drop(pull);
    }
    let rest = 10 - messages.len();
    if rest > 0 {
        messages.extend(pull_exactly(&log, rest).await);
    }
    let expected: Vec<NewMessage> = numbered(10);
    let expected: Vec<&[u8]> = expected.iter().map(|message| message.payload.as_ref()).collect();
    assert_are(&messages, &expected, false);
}

/// Cancels every pull when it waits for the n-th time, for each n: whatever await a pull is at, it
/// must not hold messages that it has taken.
pub(super) async fn a_pull_cancelled_at_any_await_loses_nothing(log: impl EventLog) {
    let mut messages = Vec::new();
    for round in 0..ROUNDS {
        let pull = log.pull(Room { messages: 3, ..AMPLE }, BRIEFLY);
        if let Some(Pulled::Messages(more)) =
            until_pending(pull, round % MOST_AWAITS).await.map(must)
        {
            messages.extend(more);
        }
    }
    let rest = 10 - messages.len();
    if rest > 0 {
        messages.extend(pull_exactly(&log, rest).await);
    }
    let expected = numbered(10);
    let expected: Vec<&[u8]> = expected.iter().map(|message| message.payload.as_ref()).collect();
    assert_are(&messages, &expected, false);
    must(log.acknowledge(&leases(&messages)).await);
    pull_nothing(&log).await;
}

const ROUNDS: usize = 60;
/// No pull of ours waits more often before it answers.
const MOST_AWAITS: usize = 10;

/// The outcome of `work`; `None` if it is pending for the `most + 1`-th time, where it is dropped.
async fn until_pending<T>(work: impl Future<Output = T>, most: usize) -> Option<T> {
    let mut work = pin!(work);
    let mut pending = 0;
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if pending == most => Poll::Ready(None),
        Poll::Pending => {
            pending += 1;
            Poll::Pending
        }
    })
    .await
}

pub(super) async fn pulls_share_nothing(log: impl EventLog) {
    let one = || log.pull(Room { messages: 1, ..AMPLE }, PATIENCE);
    let mut messages = Vec::new();
    for pulled in join_all((0..10).map(|_| one())).await {
        match must(pulled) {
            Pulled::Messages(more) => messages.extend(more),
            end => panic!("{end:?} for a pull with a message waiting"),
        }
    }
    let expected = numbered(10);
    let expected: Vec<&[u8]> = expected.iter().map(|message| message.payload.as_ref()).collect();
    assert_are(&messages, &expected, false);
}
