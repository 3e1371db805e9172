//! Storage classes of compositions whose sources have others than the bucket's.

use super::windows::{assert_once, closed, store_lines};
use super::*;
use kappa_actors::archive::{Incarnation, Limits};

/// Gives new objects of the bucket this class.
async fn of_class(server: &StorageServer, class: &str) -> GcsArchive {
    server.control().create_bucket(BUCKET, class);
    GcsArchive::connect(options(server, "")).await.unwrap()
}

#[tokio::test]
async fn a_composition_has_the_class_of_its_sources_after_the_buckets_has_changed() {
    let server = server().await;
    let before = of_class(&server, "NEARLINE").await;
    let part = stored(&before, "parts/w/x-0", &b"x"[..]).await;
    for (name, class) in [("a", "COLDLINE"), ("b", "STANDARD"), ("c", "NEARLINE")] {
        let now = of_class(&server, class).await;
        let put = now.compose(name, &[exactly(&part)]).await.unwrap();
        assert!(matches!(&put, Put::Stored(info) if info.crc32c == part.crc32c), "{put:?}");
        let class = server.control().storage_class(BUCKET, name);
        assert_eq!(class.as_deref(), Some("NEARLINE"), "{name}");
    }
    // Where a composition works at once, nothing else is asked.
    let asked = server.control().requests().len();
    before.compose("d", &[exactly(&part)]).await.unwrap();
    assert_eq!(server.control().requests().len(), asked + 1);
}

#[tokio::test]
async fn sources_of_several_classes_are_composed_and_their_copies_removed() {
    let server = server().await;
    let mut sources = Vec::new();
    for (at, class) in ["NEARLINE", "STANDARD", "COLDLINE", "STANDARD"].into_iter().enumerate() {
        let archive = of_class(&server, class).await;
        let body = format!("{at}").repeat(at + 1);
        sources.push(exactly(&stored(&archive, &format!("parts/w/x-{at}"), body).await));
    }
    let archive = of_class(&server, "ARCHIVE").await;
    archive.compose("final", &sources).await.unwrap();
    assert_eq!(read(&archive, "final").await.unwrap(), b"0112223333");
    // Four bytes and two of ten are STANDARD.
    assert_eq!(server.control().storage_class(BUCKET, "final").as_deref(), Some("STANDARD"));
    let left: Vec<_> = server.control().objects(BUCKET).into_iter().map(|it| it.0).collect();
    assert_eq!(left.len(), 5, "{left:?}");

    // A source that is gone is named as such, not as a matter of its class.
    archive.delete(&sources[1]).await.unwrap();
    let error = archive.compose("other", &sources).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_whose_class_was_changed_is_finished_by_replicas_and_through_lost_answers() {
    let server = server().await;
    let who = Incarnation::random();
    let before = of_class(&server, "NEARLINE").await;
    for part in 0..40 {
        store_lines(&before, windows::window(), &who, part).await;
    }
    let after = of_class(&server, "STANDARD").await;
    for part in 40..70 {
        store_lines(&after, windows::window(), &who, part).await;
    }
    // A rule of the bucket moves some further down.
    for (at, (name, _)) in server.control().objects(BUCKET).into_iter().enumerate() {
        if at % 7 == 0 {
            server.control().change_class(BUCKET, &name, "ARCHIVE");
        }
    }
    server.control().unsteady(5, 3);
    let limits = Limits { final_bytes: 1 << 20, parts: 70 };
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let (server, who) = (options(&server, ""), who.clone());
        replicas.push(tokio::spawn(async move {
            let archive = GcsArchive::connect(server).await.unwrap();
            closed(&archive, &who, limits).await;
        }));
    }
    for replica in replicas {
        replica.await.unwrap();
    }
    server.control().unsteady(5, 0);
    closed(&after, &who, limits).await;
    assert_once(&server, 70).await;
}
