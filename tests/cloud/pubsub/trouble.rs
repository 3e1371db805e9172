//! Faults are reported with a next step, and recovery needs no restart.

use super::*;

#[tokio::test]
async fn a_broken_stream_is_reported_and_recovers_and_its_leases_still_count() {
    let server = start().await;
    store(&server, 3);
    let log = log(&server).await;
    let held = pull(&log, 3).await;
    let refusal = Status::permission_denied("no");
    server.control().refuse_streams(Some(refusal));
    let words = trouble(&log).await;
    assert!(words.contains("roles/pubsub.subscriber"), "{words}");
    assert!(words.contains("projects/local/subscriptions/kappa"), "{words}");
    assert!(log.backlog().await.is_err());
    log.acknowledge(&leases(&held)).await.unwrap();
    until(&server, "acknowledged while broken", |control| control.acknowledged_count() == 3).await;
    server.control().refuse_streams(None);
    store(&server, 1);
    assert_eq!(recovered(&log).await.len(), 1);
}

#[tokio::test]
async fn a_missing_subscription_fails_the_start() {
    let server = start().await;
    server.control().delete(SUBSCRIPTION);
    let error = log(&server).await.backlog().await.unwrap_err().to_string();
    assert!(error.contains("kappa setup"), "{error}");
}

#[tokio::test]
async fn an_endpoint_without_a_listener_fails_the_start() {
    let mut options = options(&start().await);
    let (listener, address) = kappa_test_servers::grpc::listen().await.unwrap();
    drop(listener);
    options.endpoint = Some(format!("http://{address}"));
    let log = PubSubLog::connect(options).await.unwrap();
    let error = log.backlog().await.unwrap_err().to_string();
    assert!(error.contains("no answer from"), "{error}");
}

#[tokio::test]
async fn a_seek_without_permission_is_refused_with_the_role() {
    let server = start().await;
    server.control().deny(CONSUME);
    let log = with_rest(&server).await;
    let refused = log.seek(kappa_actors::time::Timestamp::now()).await.unwrap_err();
    assert!(matches!(refused, LogError::Refused(_)), "{refused:?}");
    assert!(refused.to_string().contains("roles/pubsub.subscriber"), "{refused}");
}

#[tokio::test]
async fn a_missing_permission_and_a_missing_subscription_fail_the_start_in_their_words() {
    let server = start().await;
    server.control().deny(CONSUME);
    let log = with_rest(&server).await;
    let error = log.backlog().await.unwrap_err().to_string();
    assert!(error.contains("roles/pubsub.subscriber"), "{error}");
    server.control().delete(SUBSCRIPTION);
    let error = log.backlog().await.unwrap_err().to_string();
    assert!(error.contains("kappa setup"), "{error}");
    server.control().allow(CONSUME);
    server.control().create(TOPIC, SUBSCRIPTION, &json!({}));
    log.backlog().await.unwrap();
}

#[tokio::test]
async fn a_subscription_deleted_later_is_reported_and_one_made_again_is_read() {
    let server = start().await;
    let log = log(&server).await;
    log.backlog().await.unwrap();
    server.control().delete(SUBSCRIPTION);
    let words = trouble(&log).await;
    assert!(words.contains("kappa setup"), "{words}");
    server.control().create(TOPIC, SUBSCRIPTION, &json!({}));
    store(&server, 1);
    assert_eq!(recovered(&log).await.len(), 1);
}

#[tokio::test]
async fn a_service_that_falls_silent_is_probed_and_its_trouble_is_reported() {
    let server = start().await;
    let mut options = options(&server);
    options.admin_endpoint = Some(server.rest_endpoint());
    // The shorter the leases, the more often they are looked at.
    (options.silence, options.max_lease) = (Duration::from_millis(100), Duration::from_secs(1));
    let log = PubSubLog::connect(options).await.unwrap();
    log.backlog().await.unwrap();
    server.control().fail_rest(Some(503));
    trouble(&log).await;
    server.control().fail_rest(None);
    let probe = async {
        while log.pull(AMPLE, Duration::from_millis(50)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, probe).await.unwrap();
}
