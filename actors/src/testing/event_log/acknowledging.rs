//! What acknowledging, giving back and the backlog promise.

use super::{assert_are, leases, must, payloads, pull_exactly, pull_nothing};
use crate::port::{Acknowledged, EventLog};
use crate::time::Timestamp;

pub(super) async fn given_back_comes_again(log: impl EventLog, order: bool) {
    let first = pull_exactly(&log, 6).await;
    let back = &first[1..3];
    must(log.give_back(&leases(back)).await);
    let rest = pull_exactly(&log, 6).await;
    if order {
        assert_are(&rest[..2], &payloads(back), true);
    }
    let ids = |id| rest.iter().filter(|message| message.id == id).count();
    assert!(back.iter().all(|message| ids(message.id.clone()) == 1), "each returned message once");
    pull_nothing(&log).await;
}

pub(super) async fn acknowledging_twice_is_harmless(log: impl EventLog) {
    let messages = pull_exactly(&log, 10).await;
    let (some, rest) = messages.split_at(4);
    must(log.acknowledge(&leases(some)).await);
    must(log.acknowledge(&leases(some)).await);
    must(log.acknowledge(&[]).await);
    must(log.give_back(&leases(rest)).await);
    assert_are(&pull_exactly(&log, 6).await, &payloads(rest), false);
    pull_nothing(&log).await;
}

pub(super) async fn what_is_acknowledged_does_not_come_again(log: impl EventLog) {
    let messages = pull_exactly(&log, 10).await;
    // Every second one, so that gaps stay between them.
    let (even, odd): (Vec<_>, Vec<_>) =
        messages.into_iter().enumerate().partition(|(index, _)| index % 2 == 0);
    let even: Vec<_> = even.into_iter().map(|(_, message)| message).collect();
    let odd: Vec<_> = odd.into_iter().map(|(_, message)| message).collect();
    must(log.acknowledge(&leases(&even)).await);
    must(log.give_back(&leases(&even)).await);
    must(log.give_back(&leases(&odd)).await);
    let again = pull_exactly(&log, 5).await;
    assert_are(&again, &payloads(&odd), false);
    must(log.acknowledge(&leases(&again)).await);
    pull_nothing(&log).await;
}

pub(super) async fn backlog_counts(log: impl EventLog) {
    let messages = pull_exactly(&log, 10).await;
    let backlog = must(log.backlog().await);
    assert_eq!(backlog.messages, Some(10), "those in flight count");
    assert_eq!(backlog.oldest, Some(messages[0].publish_time));
    must(log.acknowledge(&leases(&messages[..7])).await);
    let backlog = must(log.backlog().await);
    assert_eq!(backlog.messages, Some(3));
    assert_eq!(backlog.oldest, Some(messages[7].publish_time));
    must(log.acknowledge(&leases(&messages[7..])).await);
    let backlog = must(log.backlog().await);
    assert_eq!((backlog.messages, backlog.oldest), (Some(0), None));
}

/// `All`, or up to a time; a log that is not certain may report an earlier one.
pub(super) async fn it_reports_the_acknowledged_time(log: impl EventLog) {
    let (messages, before) = (pull_exactly(&log, 10).await, Timestamp::now());
    let told = must(log.acknowledged().await);
    assert_eq!(told, Acknowledged::Before(messages[0].publish_time), "those in flight count");
    must(log.acknowledge(&leases(&messages[1..])).await);
    let told = must(log.acknowledged().await);
    assert_eq!(told, Acknowledged::Before(messages[0].publish_time), "the oldest decides");
    must(log.acknowledge(&leases(&messages[..1])).await);
    match must(log.acknowledged().await) {
        Acknowledged::All => {}
        Acknowledged::Before(time) => assert!(time >= before, "all was acknowledged by {before}"),
    }
}
