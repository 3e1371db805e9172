//! Windows over the wire: parts composed in trees of 32, while answers are lost and connections cut.

use kappa_actors::archive::{
    Compression, Incarnation, Limits, LineFormat, Part, Window, close, indexes_between,
    objects_between, store_part,
};
use kappa_actors::message::{Lease, Message};
use kappa_actors::time::Timestamp;
use kappa_test_servers::proxy::Proxy;

use super::*;

pub(super) fn window() -> Window {
    Window::of(Timestamp::from_micros(1_771_338_600_000_000))
}

/// One part with these lines.
pub(super) async fn store_lines(
    archive: &GcsArchive,
    window: Window,
    who: &Incarnation,
    part: u32,
) {
    let mut lines = Part::new(LineFormat::Payload, Compression::None);
    for line in 0..3 {
        lines.append(&Message {
            id: "".into(),
            payload: format!("{{\"n\":{}}}", part * 3 + line).into(),
            publish_time: window.start(),
            attributes: None,
            ordering_key: "".into(),
            attempt: None,
            archived: false,
            suspect: None,
            lease: Lease(0),
        });
    }
    let part_of_lines = lines.encode().unwrap();
    while store_part(archive, window, who, part, &part_of_lines).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Checks that the lines of `parts` parts are in finals, each once, and that no other object exists.
pub(super) async fn assert_once(server: &StorageServer, parts: u32) {
    let reader = archive(server, "").await;
    let mut lines: Vec<_> =
        archive_store::lines(&reader).await.into_iter().flat_map(|it| it.1).collect();
    lines.sort();
    let mut expected: Vec<_> = (0..parts * 3).map(|n| format!("{{\"n\":{n}}}")).collect();
    expected.sort();
    assert_eq!(lines, expected);
    let left = server.control().objects(BUCKET);
    let is_kept = |name: &str| name.starts_with("events/") || name.starts_with("index/");
    assert!(left.iter().all(|(name, _)| is_kept(name)), "{left:?}");
    let (from, to) = (window().start(), window().end());
    let objects = objects_between(&reader, from, to).await.unwrap();
    let indexes = indexes_between(&reader, from, to, &objects).await.unwrap();
    assert_eq!((indexes.lost.len(), &*indexes.unindexed), (0, &[][..]));
    let indexed = objects.iter().map(|object| indexes.find(&object.name).unwrap());
    assert_eq!(indexed.map(|it| it.lines.unwrap()).sum::<u64>(), u64::from(parts * 3));
    for object in objects {
        // Cloud Storage computes the checksum of a composition itself.
        let crc32c = reader.info(&object.name).await.unwrap().crc32c;
        assert_eq!(crc32c, Some(indexes.find(&object.name).unwrap().crc32c));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_finish_the_same_window_side_by_side_lose_and_double_nothing() {
    let server = server().await;
    let window = window();
    let who = Incarnation::random();
    let writer = archive(&server, "").await;
    // More than one composition takes, so that there are intermediates.
    for part in 0..70 {
        store_lines(&writer, window, &who, part).await;
    }
    let limits = Limits { final_bytes: 400, parts: 60 };
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let (replica, who) = (archive(&server, "").await, who.clone());
        replicas.push(tokio::spawn(async move {
            close(&replica, window, &who, limits).await.map(drop)
        }));
    }
    for replica in replicas {
        replica.await.unwrap().unwrap();
    }
    assert_once(&server, 70).await;
}

/// Closes until it is done, whatever goes wrong on the way.
pub(super) async fn closed(archive: &GcsArchive, who: &Incarnation, limits: Limits) {
    let closing = async {
        while let Err(error) = close(archive, window(), who, limits).await {
            eprintln!("{error}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), closing).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_and_refusals_lose_and_double_nothing_of_a_tree() {
    let server = server().await;
    let who = Incarnation::random();
    let hasty = GcsOptions { attempt_timeout: Duration::from_millis(50), ..options(&server, "") };
    let archive = GcsArchive::connect(hasty).await.unwrap();
    server.control().unsteady(3, 5);
    for part in 0..100 {
        store_lines(&archive, window(), &who, part).await;
    }
    // One final of so many parts that intermediates are made of intermediates.
    closed(&archive, &who, Limits { final_bytes: 1 << 20, parts: 100 }).await;
    server.control().unsteady(3, 0);
    assert_once(&server, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_at_random_lose_and_double_nothing_of_a_tree() {
    let server = server().await;
    let who = Incarnation::random();
    let ways = [
        Proxy::start(&server.rest_endpoint()).await.unwrap(),
        Proxy::start(&server.grpc_endpoint()).await.unwrap(),
    ];
    ways[0].cut_at_random(1, Some(12_000));
    ways[1].cut_at_random(2, Some(25_000));
    let through = GcsOptions {
        endpoint: Some(ways[0].endpoint()),
        control_endpoint: Some(ways[1].endpoint()),
        attempt_timeout: Duration::from_millis(400),
        ..options(&server, "")
    };
    let archive = GcsArchive::connect(through).await.unwrap();
    for part in 0..70 {
        store_lines(&archive, window(), &who, part).await;
    }
    closed(&archive, &who, Limits { final_bytes: 1 << 20, parts: 70 }).await;
    assert!(ways.iter().all(|way| way.cut() > 1), "{ways:?}");
    assert_once(&server, 70).await;
}
