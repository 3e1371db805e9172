//! Streaming pulls: their start, their messages, and their end.

use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::StreamingPullRequest;
use serde_json::json;
use tonic::{Code, Status};

use crate::support::{CONSUME, SUBSCRIPTION, Scene, first, texts};

#[tokio::test]
async fn a_stream_is_opened_for_10_to_600_seconds() {
    let scene = Scene::start(json!({})).await;
    for seconds in [-1, 0, 9, 601] {
        let refused = scene.open(first(seconds)).await.err().map(|status| status.code());
        assert_eq!(refused, Some(Code::InvalidArgument), "{seconds}");
    }
    let nameless = StreamingPullRequest { stream_ack_deadline_seconds: 10, ..Default::default() };
    let refused = scene.open(nameless).await.err().map(|status| status.code());
    assert_eq!(refused, Some(Code::InvalidArgument));
    assert_eq!(scene.open_silently().await, Code::InvalidArgument);
    assert_eq!(scene.control().open_streams(), 0);
    let open = [scene.open(first(10)).await.unwrap(), scene.open(first(600)).await.unwrap()];
    assert_eq!(scene.control().open_streams(), 2);
    drop(open);
    scene.until("streams that are left are closed", |control| control.open_streams() == 0).await;
}

#[tokio::test]
async fn a_stream_needs_a_subscription_and_the_permission() {
    let scene = Scene::start(json!({})).await;
    let control = scene.control();
    let missing =
        StreamingPullRequest { subscription: "projects/p/subscriptions/no".into(), ..first(10) };
    assert_eq!(scene.open(missing).await.err().map(|it| it.code()), Some(Code::NotFound));
    control.deny(CONSUME);
    let denied = scene.open(first(10)).await.err();
    assert_eq!(denied.map(|it| it.code()), Some(Code::PermissionDenied));
    control.allow(CONSUME);
    assert!(scene.open(first(10)).await.is_ok());
}

#[tokio::test]
async fn a_stream_has_no_more_messages_on_loan_than_it_asked_for() {
    let scene = Scene::start(json!({})).await;
    scene.send(&["a", "b", "c", "d"]).await;
    let asked = StreamingPullRequest { max_outstanding_messages: 2, ..first(10) };
    let mut pull = scene.open(asked).await.unwrap();
    let two = pull.next().await;
    assert_eq!(texts(&two), ["a", "b"]);
    scene.acknowledge(&[&two[0].ack_id]).await.unwrap();
    assert_eq!(texts(&pull.next().await), ["c"]);
    scene.extend(&[&two[1].ack_id], 0).await.unwrap();
    assert_eq!(texts(&pull.next().await), ["b"]);
    assert_eq!((scene.control().on_loan(), scene.control().sent()), (2, 4));
}

#[tokio::test]
async fn a_stream_has_no_more_bytes_on_loan_than_it_asked_for() {
    let scene = Scene::start(json!({})).await;
    let text = "x".repeat(100);
    scene.send(&[text.as_str(); 4]).await;
    let asked = StreamingPullRequest { max_outstanding_bytes: 150, ..first(10) };
    let mut pull = scene.open(asked).await.unwrap();
    // The message that exceeds it is sent, so that every size can be delivered.
    let two = pull.next().await;
    assert_eq!(two.len(), 2);
    scene.acknowledge(&[&two[0].ack_id, &two[1].ack_id]).await.unwrap();
    assert_eq!(pull.next().await.len(), 2);
    assert_eq!(scene.control().sent(), 4);
}

#[tokio::test]
async fn streams_of_a_subscription_share_its_messages() {
    let scene = Scene::start(json!({})).await;
    let mut one = scene
        .open(StreamingPullRequest { max_outstanding_messages: 1, ..first(10) })
        .await
        .unwrap();
    scene.send(&["a", "b"]).await;
    let mut all = texts(&one.next().await);
    let mut other = scene.pull().await;
    all.extend(texts(&other.next().await));
    assert_eq!(all, ["a", "b"]);
    assert_eq!(scene.control().on_loan(), 2);
}

#[tokio::test]
async fn later_requests_of_a_stream_answer_for_messages() {
    let scene = Scene::start(json!({})).await;
    let ids = scene.send(&["a", "b", "c"]).await;
    let mut pull = scene.pull().await;
    let three = pull.next().await;
    pull.request(StreamingPullRequest {
        ack_ids: vec![three[0].ack_id.clone()],
        modify_deadline_ack_ids: vec![three[1].ack_id.clone(), three[2].ack_id.clone()],
        modify_deadline_seconds: vec![0, 60],
        ..Default::default()
    });
    assert_eq!(texts(&pull.next().await), ["b"]);
    let control = scene.control();
    assert_eq!(control.acknowledged(), ids[..1]);
    assert_eq!((control.given_back(), control.extensions(), control.on_loan()), (1, 1, 2));
    // An empty one keeps the stream alive.
    pull.request(StreamingPullRequest::default());
    scene.send(&["d"]).await;
    assert_eq!(texts(&pull.next().await), ["d"]);
}

#[tokio::test]
async fn open_streams_end_with_their_permission_or_subscription() {
    let scene = Scene::start(json!({})).await;
    let control = scene.control();
    let mut pull = scene.pull().await;
    control.deny(CONSUME);
    assert_eq!(pull.end().await, Code::PermissionDenied);
    control.allow(CONSUME);
    let mut pull = scene.pull().await;
    control.delete(SUBSCRIPTION);
    assert_eq!(pull.end().await, Code::NotFound);
    assert_eq!(control.open_streams(), 0);
}

#[tokio::test]
async fn streams_are_cut_and_refused_as_ordered_and_their_loans_stay() {
    let scene = Scene::start(json!({})).await;
    let control = scene.control();
    scene.send(&["a"]).await;
    let mut pull = scene.pull().await;
    let held = pull.next().await;
    control.cut_streams();
    assert_eq!(pull.end().await, Code::Unavailable);
    assert_eq!(control.on_loan(), 1);
    let mut pull = scene.pull().await;
    control.refuse_streams(Some(Status::internal("ordered")));
    assert_eq!(pull.end().await, Code::Internal);
    assert_eq!(scene.open(first(10)).await.err().map(|it| it.code()), Some(Code::Internal));
    control.refuse_streams(None);
    let mut pull = scene.pull().await;
    scene.acknowledge(&[&held[0].ack_id]).await.unwrap();
    scene.send(&["b"]).await;
    assert_eq!(texts(&pull.next().await), ["b"]);
    assert_eq!(control.acknowledged_count(), 1);
}

#[tokio::test]
async fn a_stream_is_aborted_by_a_later_request_that_is_none() {
    let scene = Scene::start(json!({})).await;
    scene.send(&["a"]).await;
    let held = scene.open(first(600)).await.unwrap().one().await;
    let id = || vec![held.ack_id.clone()];
    let nothing = StreamingPullRequest::default;
    for (what, request) in [
        ("a subscription", StreamingPullRequest { subscription: SUBSCRIPTION.into(), ..nothing() }),
        ("messages", StreamingPullRequest { max_outstanding_messages: 9, ..nothing() }),
        ("bytes", StreamingPullRequest { max_outstanding_bytes: 9, ..nothing() }),
        ("a short deadline", StreamingPullRequest { stream_ack_deadline_seconds: 9, ..nothing() }),
        ("a long deadline", StreamingPullRequest { stream_ack_deadline_seconds: 601, ..nothing() }),
        ("no id", StreamingPullRequest { ack_ids: vec!["no id".into()], ..nothing() }),
        ("a time less", StreamingPullRequest { modify_deadline_ack_ids: id(), ..nothing() }),
        ("an id less", StreamingPullRequest { modify_deadline_seconds: vec![9], ..nothing() }),
        (
            "a time before now",
            StreamingPullRequest {
                modify_deadline_ack_ids: id(),
                modify_deadline_seconds: vec![-1],
                ..nothing()
            },
        ),
    ] {
        let mut pull = scene.pull().await;
        // What else it asks is not done either.
        let request = StreamingPullRequest {
            ack_ids: request.ack_ids.iter().cloned().chain(id()).collect(),
            ..request
        };
        pull.request(request);
        assert_eq!(pull.end().await, Code::InvalidArgument, "{what}");
    }
    assert_eq!((scene.control().acknowledged_count(), scene.control().on_loan()), (0, 1));
}
