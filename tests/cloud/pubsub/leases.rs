//! Messages on loan: extended, answered, answered too late.

use super::*;

#[tokio::test]
async fn a_lost_acknowledgement_brings_the_message_again_under_its_id() {
    let server = start().await;
    store(&server, 1);
    let log = log(&server).await;
    let first = pull(&log, 1).await;
    server.control().lose_acks(true);
    log.acknowledge(&leases(&first)).await.unwrap();
    server.control().expire_leases();
    let again = pull(&log, 1).await;
    assert_eq!(again[0].id, first[0].id);
    assert_ne!(again[0].lease, first[0].lease);
}

#[tokio::test]
async fn a_message_redelivered_in_flight_has_a_lease_of_its_own() {
    let server = start().await;
    store(&server, 1);
    let log = log(&server).await;
    let first = pull(&log, 1).await;
    server.control().expire_leases();
    let again = pull(&log, 1).await;
    assert_eq!(again[0].id, first[0].id);
    log.acknowledge(&[first[0].lease, again[0].lease]).await.unwrap();
    until(&server, "acknowledged once", |control| control.acknowledged_count() == 1).await;
}

#[tokio::test]
async fn leases_of_held_messages_are_extended() {
    let server = start().await;
    store(&server, 3);
    let log = log(&server).await;
    let _held = pull(&log, 3).await;
    until(&server, "3 extensions", |control| control.extensions() >= 3).await;
}

#[tokio::test]
async fn exactly_once_acknowledgements_are_confirmed_before_the_answer() {
    let server = start().await;
    server.control().change(SUBSCRIPTION, "enableExactlyOnceDelivery", true.into());
    store(&server, 3);
    let log = log(&server).await;
    let held = pull(&log, 3).await;
    log.acknowledge(&leases(&held)).await.unwrap();
    assert_eq!(server.control().acknowledged_count(), 3, "no wait: the answer has waited");
}

#[tokio::test]
async fn a_seek_waits_for_acknowledgements_and_voids_leases() {
    let server = start().await;
    store(&server, 5);
    let log = with_rest(&server).await;
    let before = pull(&log, 5).await;
    log.acknowledge(&leases(&before[..2])).await.unwrap();
    server.control().delay_acks(Duration::from_millis(500));
    log.seek(before[0].publish_time).await.unwrap();
    assert_eq!(server.control().acknowledged_at_seek(), Some(2));
    let after = pull(&log, 5).await;
    log.acknowledge(&leases(&before[2..])).await.unwrap();
    log.close().await;
    assert_eq!(server.control().acknowledged_count(), 2, "void leases acknowledge nothing");
    assert!(after.iter().all(|message| !leases(&before).contains(&message.lease)));
}

#[tokio::test]
async fn a_message_sent_again_while_its_lease_goes_on_is_answered_twice_and_counts_once() {
    let server = start().await;
    store(&server, 1);
    let log = log(&server).await;
    let first = pull(&log, 1).await;
    server.control().redeliver_in_flight();
    let again = pull(&log, 1).await;
    assert_eq!(again[0].id, first[0].id);
    log.acknowledge(&[first[0].lease, again[0].lease]).await.unwrap();
    until(&server, "nothing on loan", |control| control.on_loan() == 0).await;
    assert_eq!(server.control().acknowledged_count(), 1);
}

#[tokio::test]
async fn a_lease_ends_with_max_lease_and_its_message_comes_again() {
    let server = start().await;
    store(&server, 1);
    let mut options = options(&server);
    options.max_lease = Duration::from_secs(1);
    let log = PubSubLog::connect(options).await.unwrap();
    let first = pull(&log, 1).await;
    // Ten seconds, the shortest that the service lends for.
    let again = pull(&log, 1).await;
    assert_eq!(again[0].id, first[0].id);
}

#[tokio::test]
async fn an_exactly_once_acknowledgement_is_repeated_or_its_message_comes_again() {
    let server = start().await;
    server.control().change(SUBSCRIPTION, "enableExactlyOnceDelivery", true.into());
    store(&server, 2);
    let log = log(&server).await;
    let held = pull(&log, 2).await;
    server.control().fail_acks(["TRANSIENT_FAILURE_OTHER"]);
    log.acknowledge(&leases(&held[..1])).await.unwrap();
    assert_eq!(server.control().acknowledged(), [held[0].id.as_str()]);
    server.control().fail_acks(["PERMANENT_FAILURE_INVALID_ACK_ID"]);
    log.acknowledge(&leases(&held[1..])).await.unwrap();
    server.control().expire_leases();
    let again = pull(&log, 1).await;
    assert_eq!(again[0].id, held[1].id);
    log.acknowledge(&leases(&again)).await.unwrap();
    assert_eq!(server.control().acknowledged_count(), 2);
}

#[tokio::test]
async fn messages_of_a_key_come_in_order_through_a_give_back() {
    let server = start().await;
    server.control().change(SUBSCRIPTION, "enableMessageOrdering", true.into());
    let keyed = |number: u8| PubsubMessage {
        data: vec![number],
        ordering_key: "k".into(),
        ..Default::default()
    };
    server.control().store(TOPIC, (0..3).map(keyed));
    let log = log(&server).await;
    let first = pull(&log, 1).await;
    assert_eq!(&first[0].payload[..], [0]);
    log.give_back(&leases(&first)).await.unwrap();
    for number in 0..3 {
        let next = pull(&log, 1).await;
        assert_eq!((next.len(), &next[0].payload[..]), (1, &[number][..]));
        log.acknowledge(&leases(&next)).await.unwrap();
    }
}

/// What all backends of this process write to their log.
#[derive(Clone, Default)]
struct Written(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_lease_about_to_end_is_reported_once_before_it_ends() {
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false);
    // With a subscriber of one thread, tracing may have cached by then that there is none.
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    let server = start().await;
    store(&server, 3);
    let mut options = options(&server);
    options.max_lease = Duration::from_secs(4);
    let log = PubSubLog::connect(options).await.unwrap();
    let began = std::time::Instant::now();
    let held = pull(&log, 3).await;
    let told = || {
        let all = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        // No other test has this one.
        let own: Vec<_> = all.lines().filter(|line| line.contains("max_lease = 4s")).collect();
        own.join("\n")
    };
    until(&server, "a warning", |_| !told().is_empty()).await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let words = told();
    for word in
        ["WARN", "the leases of 3 messages end soon", "up to 3s of max_lease", "raise max_lease"]
    {
        assert!(words.contains(word), "{words}");
    }
    // Acknowledged in time, and warned of once.
    log.acknowledge(&leases(&held)).await.unwrap();
    until(&server, "3 acknowledged", |control| control.acknowledged_count() == 3).await;
    assert_eq!(told().lines().count(), 1);
}
