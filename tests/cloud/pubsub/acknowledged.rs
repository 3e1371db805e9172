//! A subscription's report of its acknowledgements.

use kappa_actors::port::Acknowledged;
use kappa_actors::time::Timestamp;

use super::*;

const SNAPSHOTS: &str = "pubsub.snapshots.create";

/// A log whose administration is served.
async fn managed(server: &PubSubServer) -> PubSubLog {
    let admin_endpoint = Some(server.rest_endpoint());
    PubSubLog::connect(PubSubOptions { admin_endpoint, ..options(server) }).await.unwrap()
}

#[tokio::test]
async fn the_oldest_waiting_message_is_reported_whichever_reader_has_it_on_loan() {
    let server = start().await;
    store(&server, 1);
    server.control().move_clock(10);
    store(&server, 9);
    let (daemon, auditor) = (log(&server).await, managed(&server).await);
    let messages = pull(&daemon, 10).await;
    let oldest = messages.iter().map(|message| message.publish_time).min().unwrap();
    assert_eq!(auditor.acknowledged().await.unwrap(), Acknowledged::Before(oldest));
    let (first, rest): (Vec<_>, Vec<_>) =
        messages.into_iter().partition(|message| message.publish_time == oldest);
    daemon.acknowledge(&leases(&rest)).await.unwrap();
    until(&server, "nine are acknowledged", |it| it.acknowledged_count() == 9).await;
    assert_eq!(auditor.acknowledged().await.unwrap(), Acknowledged::Before(oldest));
    let before = Timestamp::now();
    daemon.acknowledge(&leases(&first)).await.unwrap();
    until(&server, "all are acknowledged", |it| it.acknowledged_count() == 10).await;
    let Acknowledged::Before(time) = auditor.acknowledged().await.unwrap() else { panic!() };
    assert!(time >= before, "{time} is before {before}");
    // No messages were taken, and no snapshot is left.
    assert_eq!(server.control().sent(), 10);
    assert_eq!(server.control().snapshots(), 0);
}

#[tokio::test]
async fn an_unknown_acknowledged_time_is_refused_with_a_hint() {
    let server = start().await;
    server.control().deny(SNAPSHOTS);
    let told = managed(&server).await.acknowledged().await.unwrap_err();
    assert!(
        matches!(&told, LogError::Refused(says) if says.contains("roles/pubsub.editor")),
        "{told}"
    );
    server.control().allow(SNAPSHOTS);
    server.control().delete(SUBSCRIPTION);
    let told = managed(&server).await.acknowledged().await.unwrap_err();
    assert!(matches!(&told, LogError::Refused(says) if says.contains("kappa setup")), "{told}");
}
