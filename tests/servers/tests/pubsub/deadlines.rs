//! How long a message stays on loan.

use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::StreamingPullRequest;
use serde_json::json;
use tonic::Code;

use crate::support::{Scene, first, text, texts};

#[tokio::test]
async fn a_message_comes_again_when_the_deadline_of_its_stream_has_passed() {
    let scene = Scene::start(json!({})).await;
    scene.send(&["a"]).await;
    let mut pull = scene.open(first(20)).await.unwrap();
    let held = pull.one().await;
    scene.pass(19).await;
    assert_eq!((scene.control().on_loan(), scene.control().sent()), (1, 1));
    scene.pass(2).await;
    let again = pull.one().await;
    assert_eq!(text(&again), "a");
    scene.acknowledge(&[&held.ack_id]).await.unwrap();
    assert_eq!(scene.control().acknowledged_count(), 0);
    scene.acknowledge(&[&again.ack_id]).await.unwrap();
    assert_eq!(scene.control().acknowledged_count(), 1);
    scene.pass(100).await;
    assert_eq!((scene.control().on_loan(), scene.control().sent()), (0, 2));
}

#[tokio::test]
async fn a_deadline_is_moved_from_the_time_of_the_request_on() {
    let scene = Scene::start(json!({})).await;
    scene.send(&["a", "b", "c"]).await;
    let mut pull = scene.open(first(60)).await.unwrap();
    let held = pull.next().await;
    scene.pass(9).await;
    scene.extend(&[&held[0].ack_id], 100).await.unwrap();
    // Shorter than it was.
    scene.extend(&[&held[1].ack_id], 10).await.unwrap();
    assert_eq!(scene.control().extensions(), 2);
    scene.pass(9).await;
    assert_eq!(scene.control().sent(), 3);
    scene.pass(2).await;
    assert_eq!(texts(&pull.next().await), ["b"]);
    scene.pass(41).await;
    assert_eq!(texts(&pull.next().await), ["c"]);
    assert_eq!((scene.control().on_loan(), scene.control().sent()), (3, 5));
    scene.acknowledge(&[&held[0].ack_id]).await.unwrap();
    assert_eq!(scene.control().acknowledged_count(), 1);
}

#[tokio::test]
async fn a_deadline_is_of_0_to_600_seconds_and_0_gives_the_message_back() {
    let scene = Scene::start(json!({})).await;
    scene.send(&["a"]).await;
    let mut pull = scene.pull().await;
    let held = pull.one().await;
    for seconds in [-1, 601] {
        let refused = scene.extend(&[&held.ack_id], seconds).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{seconds}");
    }
    assert_eq!((scene.control().extensions(), scene.control().given_back()), (0, 0));
    scene.extend(&[&held.ack_id], 600).await.unwrap();
    scene.pass(599).await;
    assert_eq!(scene.control().on_loan(), 1);
    scene.extend(&[&held.ack_id], 0).await.unwrap();
    assert_eq!(text(&pull.one().await), "a");
    assert_eq!((scene.control().extensions(), scene.control().given_back()), (1, 1));
}

#[tokio::test]
async fn a_loan_outlives_its_stream_until_its_deadline() {
    let scene = Scene::start(json!({})).await;
    scene.send(&["a"]).await;
    let mut pull = scene.open(first(60)).await.unwrap();
    pull.one().await;
    drop(pull);
    scene.until("the stream is closed", |control| control.open_streams() == 0).await;
    let mut other = scene.pull().await;
    scene.send(&["b"]).await;
    assert_eq!(texts(&other.next().await), ["b"]);
    assert_eq!(scene.control().on_loan(), 2);
    scene.pass(61).await;
    let mut again = texts(&other.next().await);
    if again.len() < 2 {
        again.extend(texts(&other.next().await));
    }
    again.sort();
    assert_eq!(again, ["a", "b"]);
}

#[tokio::test]
async fn a_stream_can_change_the_deadline_of_later_messages() {
    let scene = Scene::start(json!({})).await;
    let mut pull = scene.open(first(60)).await.unwrap();
    scene.send(&["a"]).await;
    pull.one().await;
    pull.request(StreamingPullRequest { stream_ack_deadline_seconds: 20, ..Default::default() });
    scene.settle().await;
    scene.send(&["b"]).await;
    pull.one().await;
    scene.pass(21).await;
    assert_eq!(text(&pull.one().await), "b");
    assert_eq!((scene.control().on_loan(), scene.control().sent()), (2, 3));
}
