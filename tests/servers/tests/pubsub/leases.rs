//! Acknowledgements: their effect, their answers, and their failures.

use std::collections::HashMap;
use std::time::Duration;

use googleapis_tonic_google_rpc::google::rpc;
use prost::Message as _;
use serde_json::json;
use tonic::{Code, Status};

use crate::support::{CONSUME, SUBSCRIPTION, Scene, text, texts};

const INVALID: &str = "PERMANENT_FAILURE_INVALID_ACK_ID";

/// Returns the reason of each id in a status.
fn told(status: &Status) -> HashMap<String, String> {
    let status = rpc::Status::decode(status.details()).unwrap();
    let [detail] = &status.details[..] else { panic!("{status:?}") };
    assert_eq!(detail.type_url, "type.googleapis.com/google.rpc.ErrorInfo");
    let info = rpc::ErrorInfo::decode(&*detail.value).unwrap();
    assert_eq!(info.domain, "pubsub.googleapis.com");
    info.metadata.into_iter().collect()
}

fn failures(of: &[(&str, &str)]) -> HashMap<String, String> {
    of.iter().map(|&(id, reason)| (id.to_owned(), reason.to_owned())).collect()
}

#[tokio::test]
async fn acknowledged_messages_do_not_come_again_and_the_others_do() {
    let scene = Scene::start(json!({})).await;
    let ids = scene.send(&["a", "b"]).await;
    let mut pull = scene.pull().await;
    let both = pull.next().await;
    scene.acknowledge(&[&both[0].ack_id]).await.unwrap();
    assert_eq!(scene.control().on_loan(), 1);
    scene.control().expire_leases();
    let again = pull.one().await;
    assert_eq!(text(&again), "b");
    // An id of before is answered and counts for nothing.
    scene.acknowledge(&[&both[1].ack_id, "no id"]).await.unwrap();
    assert_eq!(scene.control().acknowledged(), ids[..1]);
    scene.acknowledge(&[&again.ack_id]).await.unwrap();
    assert_eq!(scene.control().acknowledged(), ids);
    assert_eq!((scene.control().on_loan(), scene.control().sent()), (0, 3));
}

#[tokio::test]
async fn answering_needs_a_subscription_and_the_permission() {
    let scene = Scene::start(json!({})).await;
    let control = scene.control();
    scene.send(&["a"]).await;
    let held = scene.pull().await.one().await;
    let answers = async || {
        let acknowledged = scene.acknowledge(&[&held.ack_id]).await;
        let extended = scene.extend(&[&held.ack_id], 60).await;
        [acknowledged, extended].map(|answer| answer.err().map(|status| status.code()))
    };
    control.deny(CONSUME);
    assert_eq!(answers().await, [Some(Code::PermissionDenied); 2]);
    assert_eq!((control.acknowledged_count(), control.extensions()), (0, 0));
    control.allow(CONSUME);
    assert_eq!(answers().await, [None; 2]);
    assert_eq!((control.acknowledged_count(), control.extensions()), (1, 0));
    control.delete(SUBSCRIPTION);
    assert_eq!(answers().await, [Some(Code::NotFound); 2]);
}

#[tokio::test]
async fn exactly_once_names_the_failed_ids_and_takes_the_others() {
    let scene = Scene::start(json!({ "enableExactlyOnceDelivery": true })).await;
    let ids = scene.send(&["a", "b"]).await;
    let response = scene.pull().await.response().await.unwrap();
    assert!(response.subscription_properties.unwrap().exactly_once_delivery_enabled);
    let both = response.received_messages;
    let status = scene.acknowledge(&[&both[0].ack_id, "no id"]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(told(&status), failures(&[("no id", INVALID)]));
    assert_eq!(scene.control().acknowledged(), ids[..1]);
    let status = scene.extend(&[&both[0].ack_id, &both[1].ack_id], 60).await.unwrap_err();
    assert_eq!(told(&status), failures(&[(&both[0].ack_id, INVALID)]));
    assert_eq!(scene.control().extensions(), 1);
    scene.acknowledge(&[&both[1].ack_id]).await.unwrap();
    assert_eq!(scene.control().acknowledged(), ids);
}

#[tokio::test]
async fn acknowledgements_fail_as_ordered_where_they_are_confirmed() {
    let transient = "TRANSIENT_FAILURE_OTHER";
    let scene = Scene::start(json!({ "enableExactlyOnceDelivery": true })).await;
    scene.send(&["a", "b"]).await;
    let both = scene.pull().await.next().await;
    scene.control().fail_acks([transient]);
    let status = scene.acknowledge(&[&both[0].ack_id, &both[1].ack_id]).await.unwrap_err();
    assert_eq!(told(&status), failures(&[(&both[0].ack_id, transient)]));
    assert_eq!((scene.control().acknowledged_count(), scene.control().on_loan()), (1, 1));
    scene.acknowledge(&[&both[0].ack_id]).await.unwrap();
    assert_eq!(scene.control().acknowledged_count(), 2);

    let plain = Scene::start(json!({})).await;
    plain.send(&["a"]).await;
    let held = plain.pull().await.one().await;
    plain.control().fail_acks([transient]);
    plain.acknowledge(&[&held.ack_id]).await.unwrap();
    assert_eq!(plain.control().acknowledged_count(), 1);
}

#[tokio::test]
async fn acknowledgements_get_lost_as_ordered() {
    let scene = Scene::start(json!({})).await;
    scene.send(&["a"]).await;
    let mut pull = scene.pull().await;
    let held = pull.one().await;
    scene.control().lose_acks(true);
    scene.acknowledge(&[&held.ack_id]).await.unwrap();
    assert_eq!((scene.control().acknowledged_count(), scene.control().on_loan()), (0, 1));
    scene.control().lose_acks(false);
    scene.acknowledge(&[&held.ack_id]).await.unwrap();
    assert_eq!(scene.control().acknowledged_count(), 1);
}

#[tokio::test]
async fn acknowledgements_are_late_as_ordered() {
    let scene = Scene::start(json!({})).await;
    scene.send(&["a"]).await;
    let held = scene.pull().await.one().await;
    let late = Duration::from_secs(5);
    scene.control().delay_acks(late);
    let began = tokio::time::Instant::now();
    let ids = [held.ack_id.as_str()];
    let answer = scene.acknowledge(&ids);
    tokio::pin!(answer);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut answer).await;
    assert!(early.is_err(), "{early:?}");
    assert_eq!(scene.control().acknowledged_count(), 0);
    tokio::time::pause();
    answer.await.unwrap();
    assert!(began.elapsed() >= late, "{:?}", began.elapsed());
    assert_eq!(scene.control().acknowledged_count(), 1);
}

#[tokio::test]
async fn a_message_on_loan_is_sent_twice_on_order_and_both_loans_are_valid() {
    let scene = Scene::start(json!({})).await;
    let ids = scene.send(&["a"]).await;
    let mut pull = scene.pull().await;
    let held = pull.one().await;
    scene.control().redeliver_in_flight();
    let twin = pull.one().await;
    assert_eq!(text(&twin), "a");
    assert_ne!(twin.ack_id, held.ack_id);
    assert_eq!(scene.control().on_loan(), 2);
    scene.acknowledge(&[&held.ack_id]).await.unwrap();
    scene.acknowledge(&[&twin.ack_id]).await.unwrap();
    assert_eq!((scene.control().acknowledged(), scene.control().on_loan()), (ids, 0));
}

#[tokio::test]
async fn attempts_are_counted_where_there_are_dead_letters() {
    let policy = json!({ "deadLetterTopic": "projects/p/topics/dead", "maxDeliveryAttempts": 5 });
    for (settings, attempts) in
        [(json!({ "deadLetterPolicy": policy }), [1, 2]), (json!({}), [0, 0])]
    {
        let scene = Scene::start(settings).await;
        scene.send(&["a"]).await;
        let mut pull = scene.pull().await;
        let once = pull.next().await;
        scene.extend(&[&once[0].ack_id], 0).await.unwrap();
        let twice = pull.next().await;
        assert_eq!((texts(&once), texts(&twice)), (vec!["a".into()], vec!["a".into()]));
        assert_eq!([once[0].delivery_attempt, twice[0].delivery_attempt], attempts);
    }
}

#[tokio::test]
async fn a_request_that_answers_for_messages_has_at_most_512_kb() {
    let scene = Scene::start(json!({})).await;
    scene.send(&["a"]).await;
    let held = scene.pull().await.one().await;
    assert_eq!(held.ack_id.len(), 184);
    // Each id has three bytes before it in protobuf; the name of the subscription comes besides.
    let most = (524_288 - 2 - SUBSCRIPTION.len()) / (184 + 3);
    let (fit, over) = (vec![held.ack_id.as_str(); most - 1], vec![held.ack_id.as_str(); most + 1]);
    let refusals = [scene.acknowledge(&over).await, scene.extend(&over, 60).await];
    for refused in refusals {
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    }
    assert_eq!((scene.control().acknowledged_count(), scene.control().extensions()), (0, 0));
    scene.extend(&fit, 60).await.unwrap();
    scene.acknowledge(&fit).await.unwrap();
    assert_eq!(scene.control().acknowledged_count(), 1);
}
