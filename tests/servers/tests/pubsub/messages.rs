//! Publishing, and the order in which messages come.

use std::collections::HashMap;

use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::PubsubMessage;
use serde_json::json;
use tonic::{Code, Status};

use crate::support::{Scene, TOPIC, keyed, message, text, texts};

fn with_attributes(attributes: HashMap<String, String>) -> PubsubMessage {
    PubsubMessage { attributes: attributes.into_iter().collect(), ..Default::default() }
}

fn attribute(name: &str, value: &str) -> PubsubMessage {
    with_attributes([(name.to_owned(), value.to_owned())].into())
}

fn attributes(count: usize) -> PubsubMessage {
    with_attributes((0..count).map(|nth| (format!("name{nth}"), "value".to_owned())).collect())
}

#[tokio::test]
async fn a_message_comes_as_it_was_published_with_an_id_and_a_time() {
    let scene = Scene::start(json!({})).await;
    scene.control().create("projects/p/topics/other", "projects/p/subscriptions/other", &json!({}));
    let sent = PubsubMessage { data: b"a".to_vec(), ..attribute("type", "order") };
    let ids = scene.publish(TOPIC, vec![sent.clone(), message("b")]).await.unwrap();
    assert_ne!(ids[0], ids[1]);
    let received = scene.pull().await.next().await;
    assert_eq!(texts(&received), ["a", "b"]);
    let came: Vec<_> = received.into_iter().map(|one| one.message.unwrap()).collect();
    assert_eq!(
        came.iter().map(|one| &one.message_id).collect::<Vec<_>>(),
        ids.iter().collect::<Vec<_>>()
    );
    assert_eq!(came[0].attributes, sent.attributes);
    let times = [&came[0], &came[1]].map(|one| one.publish_time.unwrap());
    assert_eq!(times[0], times[1]);
    assert_eq!(times[0].nanos % 1_000_000, 0);
    // The other topic's subscription got nothing of it.
    assert_eq!((scene.control().published(), scene.control().sent()), (2, 2));
}

#[tokio::test]
async fn neither_ids_nor_times_show_the_order_of_publishing() {
    let scene = Scene::start(json!({})).await;
    let ids = scene.publish(TOPIC, vec![message("a"); 1_000]).await.unwrap();
    let numbers: Vec<u64> = ids.iter().map(|id| id.parse().unwrap()).collect();
    let of = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    let by_text = of(ids.clone());
    let by_number = {
        let mut numbers = numbers.clone();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.iter().map(u64::to_string).collect::<Vec<_>>()
    };
    assert_eq!(by_number.len(), 1_000);
    assert_ne!(by_text, by_number);
    assert!(!ids.is_sorted() && !numbers.is_sorted());
    let lengths: std::collections::BTreeSet<_> = ids.iter().map(String::len).collect();
    assert!(lengths.len() > 1, "{lengths:?}");

    scene.control().skew_times(std::time::Duration::from_secs(5));
    let mut pull = scene.pull().await;
    for text in ["b", "c", "d"] {
        scene.send(&[text]).await;
    }
    let mut times = Vec::new();
    while times.len() < 3 {
        for one in pull.next().await {
            let message = one.message.unwrap();
            if message.data != b"a" {
                times.push(message.publish_time.unwrap().seconds);
            }
        }
    }
    assert!(!times.is_sorted(), "{times:?}");
}

#[tokio::test]
async fn a_message_over_a_limit_is_refused_with_its_whole_request() {
    let scene = Scene::start(json!({})).await;
    let long = "x".repeat(1_025);
    let over = [
        PubsubMessage::default(),
        keyed("key", ""),
        attribute("", "value"),
        attribute("googclient", "value"),
        attribute(&long[..257], "value"),
        attribute("name", &long),
        attributes(101),
        keyed(&long, "a"),
        message(&"x".repeat(10_000_000)),
    ];
    for unfit in over {
        let key = unfit.ordering_key.clone();
        let told = format!("{:.100}", format!("{unfit:?}"));
        let answer = scene.publish(TOPIC, vec![keyed(&key, "good"), unfit]).await;
        assert_eq!(answer, Err(Code::InvalidArgument), "{told}");
    }
    for count in [0, 1_001] {
        let many = vec![message("a"); count];
        assert_eq!(scene.publish(TOPIC, many).await, Err(Code::InvalidArgument), "{count}");
    }
    assert_eq!(scene.control().published(), 0);
    let most = [
        attribute(&long[..256], &long[..1_024]),
        attributes(100),
        keyed(&long[..1_024], "a"),
        message(&"x".repeat(9_999_000)),
    ];
    for fit in most {
        assert_eq!(scene.publish(TOPIC, vec![fit]).await.map(|ids| ids.len()), Ok(1));
    }
    let many = vec![message("a"); 1_000];
    assert_eq!(scene.publish(TOPIC, many).await.map(|ids| ids.len()), Ok(1_000));
    assert_eq!(scene.control().published(), 1_004);
}

#[tokio::test]
async fn publishing_needs_a_topic_and_the_permission() {
    let scene = Scene::start(json!({})).await;
    let control = scene.control();
    let missing = scene.publish("projects/p/topics/missing", vec![message("a")]).await;
    assert_eq!(missing, Err(Code::NotFound));
    control.deny("pubsub.topics.publish");
    assert_eq!(scene.publish(TOPIC, vec![message("a")]).await, Err(Code::PermissionDenied));
    assert_eq!(control.published(), 0);
    control.allow("pubsub.topics.publish");
    scene.send(&["a"]).await;
    assert_eq!(control.published(), 1);
    control.delete(TOPIC);
    assert_eq!(scene.publish(TOPIC, vec![message("a")]).await, Err(Code::NotFound));
}

#[tokio::test]
async fn publishing_is_refused_as_ordered_and_no_longer() {
    let scene = Scene::start(json!({})).await;
    let control = scene.control();
    let fault = |words| Some(Status::resource_exhausted(words));
    control.refuse_publish(Some(b"poison"), fault("this one"));
    let both = vec![message("a"), message("poison")];
    assert_eq!(scene.publish(TOPIC, both).await, Err(Code::ResourceExhausted));
    assert_eq!(control.published(), 0);
    scene.send(&["a"]).await;
    control.refuse_publish(None, fault("any"));
    assert_eq!(scene.publish(TOPIC, vec![message("b")]).await, Err(Code::ResourceExhausted));
    assert_eq!(control.published(), 1);
    // Past faults and limits.
    control.store(TOPIC, [PubsubMessage::default()]);
    assert_eq!(control.published(), 2);
    control.refuse_publish(None, None);
    scene.send(&["poison"]).await;
    assert_eq!(texts(&scene.pull().await.next().await), ["a", "", "poison"]);
}

#[tokio::test]
async fn one_message_of_a_key_is_on_loan_where_the_subscription_orders() {
    let scene = Scene::start(json!({ "enableMessageOrdering": true })).await;
    let key = ["1", "2", "3"].map(|text| keyed("k", text)).to_vec();
    scene.publish(TOPIC, key).await.unwrap();
    scene.publish(TOPIC, vec![keyed("l", "4")]).await.unwrap();
    scene.send(&["5", "6"]).await;
    let mut pull = scene.pull().await;
    let response = pull.response().await.unwrap();
    assert!(response.subscription_properties.unwrap().message_ordering_enabled);
    // Messages without a key do not wait.
    assert_eq!(texts(&response.received_messages), ["1", "4", "5", "6"]);
    scene.acknowledge(&[&response.received_messages[0].ack_id]).await.unwrap();
    let second = pull.one().await;
    assert_eq!(text(&second), "2");
    scene.extend(&[&second.ack_id], 0).await.unwrap();
    let again = pull.one().await;
    assert_eq!(text(&again), "2");
    scene.acknowledge(&[&again.ack_id]).await.unwrap();
    assert_eq!(text(&pull.one().await), "3");
}

#[tokio::test]
async fn keys_are_nothing_to_a_subscription_that_does_not_order() {
    let scene = Scene::start(json!({})).await;
    scene.publish(TOPIC, vec![keyed("k", "1"), keyed("k", "2")]).await.unwrap();
    let response = scene.pull().await.response().await.unwrap();
    assert!(!response.subscription_properties.unwrap().message_ordering_enabled);
    assert_eq!(texts(&response.received_messages), ["1", "2"]);
}

#[tokio::test]
async fn messages_of_two_keys_are_not_published_by_one_request() {
    let scene = Scene::start(json!({})).await;
    for other in [keyed("l", "2"), message("2")] {
        let two = vec![keyed("k", "1"), keyed("k", "1"), other];
        assert_eq!(scene.publish(TOPIC, two).await, Err(Code::InvalidArgument));
    }
    assert_eq!(scene.control().published(), 0);
    let one = vec![keyed("k", "1"), keyed("k", "2")];
    assert_eq!(scene.publish(TOPIC, one).await.map(|ids| ids.len()), Ok(2));
}
