//! Topics, subscriptions, snapshots, permissions and seeks, over REST.

use chrono::{DateTime, Duration, Utc};
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::ReceivedMessage;
use serde_json::{Value, json};

use crate::support::{CONSUME, SUBSCRIPTION, Scene, TOPIC, texts};

const SNAPSHOT: &str = "projects/p/snapshots/now";

fn refused(status: u16, words: &str) -> (u16, String) {
    (status, words.to_owned())
}

fn denied() -> (u16, String) {
    refused(403, "PERMISSION_DENIED")
}

#[tokio::test]
async fn a_subscription_is_described_as_it_was_created_and_gone_when_deleted() {
    let scene = Scene::start(json!({})).await;
    let name = "projects/p/subscriptions/other";
    let asked = json!({ "topic": TOPIC, "ackDeadlineSeconds": 30, "enableMessageOrdering": true });
    let (status, made) = scene.rest("PUT", name, asked.clone()).await;
    assert_eq!((status, &made["name"]), (200, &json!(name)));
    assert_eq!(scene.refusal("PUT", name, asked).await, refused(409, "ALREADY_EXISTS"));
    let (_, found) = scene.rest("GET", name, Value::Null).await;
    let expected = json!({
        "name": name, "topic": TOPIC, "ackDeadlineSeconds": 30, "enableMessageOrdering": true,
        "messageRetentionDuration": "604800s",
    });
    assert_eq!(found, expected);
    scene.control().keep(TOPIC, 3_600);
    let (_, found) = scene.rest("GET", name, Value::Null).await;
    assert_eq!(found["topicMessageRetentionDuration"], json!("3600s"));
    scene.control().change(name, "messageRetentionDuration", json!("600s"));
    let (_, found) = scene.rest("GET", name, Value::Null).await;
    assert_eq!(found["messageRetentionDuration"], json!("600s"));
    assert_eq!(scene.control().subscriptions(), [SUBSCRIPTION, name]);
    assert_eq!(scene.rest("DELETE", name, Value::Null).await.0, 200);
    assert_eq!(scene.control().subscriptions(), [SUBSCRIPTION]);
    for method in ["GET", "DELETE"] {
        assert_eq!(scene.refusal(method, name, Value::Null).await, refused(404, "NOT_FOUND"));
    }
}

#[tokio::test]
async fn a_topic_comes_before_its_subscription() {
    let scene = Scene::start(json!({})).await;
    let (topic, subscription) = ("projects/p/topics/other", "projects/p/subscriptions/other");
    let asked = || json!({ "topic": topic });
    assert_eq!(scene.refusal("PUT", subscription, asked()).await, refused(404, "NOT_FOUND"));
    assert_eq!(scene.control().resource(subscription), None);
    assert_eq!(scene.rest("PUT", topic, json!({})).await.0, 200);
    assert_eq!(scene.refusal("PUT", topic, json!({})).await, refused(409, "ALREADY_EXISTS"));
    assert_eq!(scene.rest("PUT", subscription, asked()).await.0, 200);
    assert_eq!(scene.control().resources(), [TOPIC, topic, SUBSCRIPTION, subscription]);
    assert_eq!(scene.refusal("PATCH", topic, json!({})).await, refused(501, "UNIMPLEMENTED"));
}

#[tokio::test]
async fn each_method_needs_its_permission() {
    let scene = Scene::start(json!({})).await;
    let control = scene.control();
    let other = "projects/p/subscriptions/other";
    let asked = || json!({ "topic": TOPIC, "subscription": SUBSCRIPTION });
    for (permission, method, path) in [
        ("pubsub.topics.get", "GET", TOPIC),
        ("pubsub.topics.create", "PUT", "projects/p/topics/other"),
        ("pubsub.topics.delete", "DELETE", TOPIC),
        ("pubsub.subscriptions.get", "GET", SUBSCRIPTION),
        ("pubsub.subscriptions.create", "PUT", other),
        ("pubsub.subscriptions.delete", "DELETE", SUBSCRIPTION),
        ("pubsub.topics.attachSubscription", "PUT", other),
        ("pubsub.snapshots.create", "PUT", SNAPSHOT),
        (CONSUME, "PUT", SNAPSHOT),
        ("pubsub.snapshots.delete", "DELETE", SNAPSHOT),
    ] {
        control.deny(permission);
        assert_eq!(scene.refusal(method, path, asked()).await, denied(), "{permission}");
        control.allow(permission);
    }
    assert_eq!(control.resources(), [TOPIC, SUBSCRIPTION]);
    assert_eq!(control.snapshots(), 0);
}

#[tokio::test]
async fn permissions_are_listed_and_a_missing_resource_has_none() {
    let scene = Scene::start(json!({})).await;
    scene.control().deny(CONSUME);
    let asked = || json!({ "permissions": [CONSUME, "pubsub.subscriptions.get"] });
    for (name, held) in [
        (SUBSCRIPTION, json!(["pubsub.subscriptions.get"])),
        ("projects/p/subscriptions/missing", json!([])),
    ] {
        let path = format!("{name}:testIamPermissions");
        assert_eq!(scene.rest("POST", &path, asked()).await, (200, json!({ "permissions": held })));
    }
}

/// Seeks to a time; the answer's status.
async fn seek(scene: &Scene, name: &str, to: &str) -> (u16, String) {
    scene.refusal("POST", &format!("{name}:seek"), json!({ "time": to })).await
}

/// When each of these was published.
fn times(messages: &[ReceivedMessage]) -> Vec<String> {
    let time = |one: &ReceivedMessage| {
        let time = one.message.as_ref().unwrap().publish_time.unwrap();
        let nanos = u32::try_from(time.nanos).unwrap();
        DateTime::from_timestamp(time.seconds, nanos).unwrap().to_rfc3339()
    };
    messages.iter().map(time).collect()
}

#[tokio::test]
async fn a_seek_back_brings_retained_messages_again() {
    for (retained, again) in [(true, vec!["b", "c"]), (false, vec!["c"])] {
        let scene = Scene::start(json!({ "retainAckedMessages": retained })).await;
        scene.send_apart(&["a", "b", "c"]).await;
        let mut pull = scene.pull().await;
        let all = pull.next().await;
        scene.acknowledge(&[&all[0].ack_id, &all[1].ack_id]).await.unwrap();
        let (_, answer) = scene
            .rest("POST", &format!("{SUBSCRIPTION}:seek"), json!({ "time": times(&all)[1] }))
            .await;
        assert_eq!(answer, json!({}));
        assert_eq!(texts(&pull.next().await), again);
        assert_eq!(scene.control().acknowledged_at_seek(), Some(2));
    }
}

#[tokio::test]
async fn a_seek_forward_passes_over_older_messages_even_if_they_come_later() {
    let scene = Scene::start(json!({})).await;
    scene.send(&["a", "b"]).await;
    let future = (Utc::now() + Duration::days(1)).to_rfc3339();
    assert_eq!(seek(&scene, SUBSCRIPTION, &future).await.0, 200);
    scene.send(&["c"]).await;
    let past = (Utc::now() - Duration::days(1)).to_rfc3339();
    let mut pull = scene.pull().await;
    scene.settle().await;
    assert_eq!(scene.control().sent(), 0);
    // All are kept, and come after a seek.
    assert_eq!(seek(&scene, SUBSCRIPTION, &past).await.0, 200);
    assert_eq!(texts(&pull.next().await), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_new_subscription_can_seek_back_to_the_messages_that_its_topic_keeps() {
    let scene = Scene::start(json!({})).await;
    let past = (Utc::now() - Duration::days(1)).to_rfc3339();
    scene.send(&["a"]).await;
    scene.control().keep(TOPIC, 3_600);
    scene.send(&["b"]).await;
    scene.control().delete(SUBSCRIPTION);
    assert_eq!(scene.rest("PUT", SUBSCRIPTION, json!({ "topic": TOPIC })).await.0, 200);
    scene.send(&["c"]).await;
    let mut pull = scene.pull().await;
    let one = pull.one().await;
    assert_eq!(texts(std::slice::from_ref(&one)), ["c"]);
    scene.acknowledge(&[&one.ack_id]).await.unwrap();
    assert_eq!(seek(&scene, SUBSCRIPTION, &past).await.0, 200);
    assert_eq!(texts(&pull.next().await), ["b", "c"]);
}

#[tokio::test]
async fn a_seek_needs_a_time_a_subscription_and_the_permission() {
    let scene = Scene::start(json!({})).await;
    let now = Utc::now().to_rfc3339();
    scene.send(&["a"]).await;
    let none = seek(&scene, "projects/p/subscriptions/missing", &now).await;
    assert_eq!(none, refused(404, "NOT_FOUND"));
    let invalid = refused(400, "INVALID_ARGUMENT");
    assert_eq!(seek(&scene, SUBSCRIPTION, "yesterday").await, invalid);
    let snapshot = json!({ "snapshot": SNAPSHOT });
    assert_eq!(scene.refusal("POST", &format!("{SUBSCRIPTION}:seek"), snapshot).await, invalid);
    scene.control().deny(CONSUME);
    assert_eq!(seek(&scene, SUBSCRIPTION, &now).await, denied());
    scene.control().allow(CONSUME);
    assert_eq!(scene.control().acknowledged_at_seek(), None);
    // None of them moved anything.
    assert_eq!(texts(&scene.pull().await.next().await), ["a"]);
}

#[tokio::test]
async fn a_snapshot_lives_seven_days_from_the_oldest_message_that_waits() {
    let scene = Scene::start(json!({})).await;
    scene.send(&["a", "b"]).await;
    let both = scene.pull().await.next().await;
    scene.acknowledge(&[&both[0].ack_id]).await.unwrap();
    let asked = || json!({ "subscription": SUBSCRIPTION });
    let (status, made) = scene.rest("PUT", SNAPSHOT, asked()).await;
    assert_eq!((status, &made["name"], &made["topic"]), (200, &json!(SNAPSHOT), &json!(TOPIC)));
    let expires: DateTime<Utc> = made["expireTime"].as_str().unwrap().parse().unwrap();
    let oldest: DateTime<Utc> = times(&both)[1].parse().unwrap();
    assert_eq!(expires - oldest, Duration::days(7));
    assert_eq!(scene.refusal("PUT", SNAPSHOT, asked()).await, refused(409, "ALREADY_EXISTS"));
    assert_eq!(scene.control().snapshots(), 1);
    let get = scene.refusal("GET", SNAPSHOT, Value::Null).await;
    assert_eq!(get, refused(501, "UNIMPLEMENTED"));
    assert_eq!(scene.rest("DELETE", SNAPSHOT, Value::Null).await.0, 200);
    assert_eq!(scene.control().snapshots(), 0);
    let gone = scene.refusal("DELETE", SNAPSHOT, Value::Null).await;
    assert_eq!(gone, refused(404, "NOT_FOUND"));
    let of_none = json!({ "subscription": "projects/p/subscriptions/missing" });
    assert_eq!(scene.refusal("PUT", SNAPSHOT, of_none).await, refused(404, "NOT_FOUND"));
    assert_eq!(scene.control().snapshots(), 0);
}

#[tokio::test]
async fn requests_over_rest_fail_as_ordered_and_change_nothing() {
    let scene = Scene::start(json!({})).await;
    scene.control().fail_rest(Some(503));
    for (method, path) in [("GET", TOPIC), ("DELETE", TOPIC), ("PUT", SNAPSHOT)] {
        let answer = scene.refusal(method, path, json!({ "subscription": SUBSCRIPTION })).await;
        assert_eq!(answer, refused(503, "UNAVAILABLE"));
    }
    scene.control().fail_rest(None);
    assert_eq!(scene.rest("GET", TOPIC, Value::Null).await.0, 200);
    assert_eq!(scene.control().snapshots(), 0);
}
