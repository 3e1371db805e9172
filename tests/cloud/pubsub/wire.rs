//! What goes wrong on the way to Pub/Sub: cut in the middle of a message, silent, slow.

use std::collections::BTreeSet;

use kappa_test_servers::proxy::{Direction, Proxy};

use super::*;

async fn behind(change: impl FnOnce(&mut PubSubOptions)) -> (PubSubServer, Proxy, PubSubLog) {
    let server = start().await;
    let way = Proxy::start(&server.grpc_endpoint()).await.unwrap();
    let mut options = options(&server);
    options.endpoint = Some(way.endpoint());
    options.admin_endpoint = Some(server.rest_endpoint());
    change(&mut options);
    (server, way, PubSubLog::connect(options).await.unwrap())
}

/// Pulls and acknowledges until the server has `count` acknowledgements; returns the ids. Leases of lost messages
/// expire meanwhile.
async fn drained(server: &PubSubServer, log: &PubSubLog, count: usize) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let mut last = (0, std::time::Instant::now());
    let take = async {
        while server.control().acknowledged_count() < count {
            if server.control().acknowledged_count() > last.0 {
                last = (server.control().acknowledged_count(), std::time::Instant::now());
            } else if last.1.elapsed() > Duration::from_secs(2) {
                server.control().expire_leases();
                last.1 = std::time::Instant::now();
            }
            match log.pull(AMPLE, Duration::from_millis(300)).await {
                Ok(Pulled::Messages(messages)) => {
                    ids.extend(messages.iter().map(|message| message.id.to_string()));
                    let _ = log.acknowledge(&leases(&messages)).await;
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let took = tokio::time::timeout(PATIENCE * 2, take).await.is_ok();
    assert!(took, "{} of {count} acknowledged", server.control().acknowledged_count());
    ids
}

fn store_large(server: &PubSubServer, count: usize) {
    let data = (0..count).map(|number| format!("{number:01000}").into_bytes());
    let messages = data.map(|data| PubsubMessage { data, ..Default::default() });
    server.control().store(TOPIC, messages);
}

fn assert_each_once(server: &PubSubServer, ids: &BTreeSet<String>, count: usize) {
    let acknowledged = server.control().acknowledged();
    let distinct: BTreeSet<_> = acknowledged.iter().cloned().collect();
    assert_eq!((acknowledged.len(), &distinct), (count, ids));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_cut_in_the_middle_of_a_message_costs_no_message_and_no_acknowledgement() {
    for (direction, bytes) in [
        (Direction::Answers, 50),
        (Direction::Answers, 700),
        (Direction::Answers, 123_456),
        (Direction::Requests, 30),
        (Direction::Requests, 500),
    ] {
        let (server, way, log) = behind(|_| {}).await;
        way.cut_after(direction, bytes);
        store_large(&server, 300);
        let ids = drained(&server, &log, 300).await;
        assert_each_once(&server, &ids, 300);
        assert_eq!(way.cut(), 1, "{direction:?} {bytes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_cut_at_random_cost_no_message_and_no_acknowledgement() {
    for exactly_once in [false, true] {
        let (server, way, log) = behind(|options| {
            // So that a response is shorter than a connection's buffer.
            (options.streams, options.max_outstanding_messages) = (2, 40);
        })
        .await;
        server.control().change(SUBSCRIPTION, "enableExactlyOnceDelivery", exactly_once.into());
        way.cut_at_random(3, Some(60_000));
        store_large(&server, 300);
        let ids = drained(&server, &log, 300).await;
        assert_each_once(&server, &ids, 300);
        assert!(way.cut() > 1, "{}", way.cut());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_falls_silent_is_replaced_and_its_messages_come_again() {
    // A stream is replaced after ten silences.
    let (server, way, log) = behind(|options| options.silence = Duration::from_millis(100)).await;
    store(&server, 5);
    drained(&server, &log, 5).await;
    store(&server, 3);
    let held = pull(&log, 3).await;
    way.freeze_open();
    log.acknowledge(&leases(&held)).await.unwrap();
    store(&server, 5);
    let ids = drained(&server, &log, 13).await;
    // Three were acknowledged into the void, and come a second time.
    assert_eq!(ids.len(), 8);
    assert!(way.opened() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_that_is_never_confirmed_gives_its_room_back() {
    let room_for_one = |options: &mut PubSubOptions| {
        options.max_outstanding_messages = 1;
        options.max_lease = Duration::from_secs(1);
        options.silence = Duration::from_millis(100);
    };
    let (server, way, log) = behind(room_for_one).await;
    server.control().change(SUBSCRIPTION, "enableExactlyOnceDelivery", true.into());
    store(&server, 2);
    let held = pull(&log, 1).await;
    way.freeze_open();
    let _ = log.acknowledge(&leases(&held)).await;
    let ids = drained(&server, &log, 2).await;
    assert_eq!(ids.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_connection_brings_everything() {
    let (server, way, log) = behind(|_| {}).await;
    way.delay(Duration::from_millis(20));
    store_large(&server, 300);
    let ids = drained(&server, &log, 300).await;
    assert_each_once(&server, &ids, 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_over_a_silent_connection_ends() {
    let (server, way, log) = behind(|_| {}).await;
    store(&server, 3);
    let held = pull(&log, 3).await;
    way.freeze_open();
    log.acknowledge(&leases(&held)).await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(20), log.close()).await;
    assert!(closed.is_ok(), "never closed");
    let other = PubSubLog::connect(options(&server)).await.unwrap();
    assert_eq!(drained(&server, &other, 3).await.len(), 3);
}
