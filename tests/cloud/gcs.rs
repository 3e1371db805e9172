//! Cloud Storage as the archive.

mod classes;
mod windows;
mod wire;

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use google_cloud_auth::credentials::anonymous;
use kappa::backend::gcs::{GcsArchive, GcsOptions};
use kappa_actors::port::{ArchiveStore as _, ObjectInfo, ObjectRef, Put, StoreError};
use kappa_actors::testing::archive_store;
use kappa_test_servers::storage::{ReadFault, StorageServer};

const BUCKET: &str = "lines";

async fn server() -> StorageServer {
    let server = StorageServer::start().await.unwrap();
    server.control().create_bucket(BUCKET, "STANDARD");
    server
}

async fn archive(server: &StorageServer, prefix: &str) -> GcsArchive {
    GcsArchive::connect(options(server, prefix)).await.unwrap()
}

fn options(server: &StorageServer, prefix: &str) -> GcsOptions {
    GcsOptions {
        bucket: BUCKET.to_owned(),
        prefix: prefix.to_owned(),
        endpoint: Some(server.rest_endpoint()),
        control_endpoint: Some(server.grpc_endpoint()),
        credentials: anonymous::Builder::new().build(),
        attempt_timeout: Duration::from_secs(10),
    }
}

async fn stored(archive: &GcsArchive, name: &str, body: impl Into<Bytes>) -> ObjectInfo {
    match archive.put_if_absent(name, body.into()).await.unwrap() {
        Put::Stored(info) => info,
        Put::Exists(info) => panic!("{info:?} existed"),
    }
}

async fn read(archive: &GcsArchive, name: &str) -> Result<Vec<u8>, StoreError> {
    let chunks: Vec<Bytes> = archive.read(name).await?.try_collect().await?;
    Ok(chunks.concat())
}

fn exactly(info: &ObjectInfo) -> ObjectRef {
    ObjectRef { name: info.name.clone(), generation: info.generation }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_an_archive_store() {
    let server = server().await;
    let mut archives = Vec::new();
    for number in 0..20 {
        archives.push(archive(&server, &format!("store-{number}/")).await);
    }
    archive_store::conforms(|| archives.pop().unwrap()).await;
}

#[tokio::test]
async fn an_answer_that_is_lost_is_found_to_be_ones_own() {
    let server = server().await;
    let archive = archive(&server, "").await;
    server.control().lose_answers(1);
    // The client repeats it, and meets its own object: the checksum shows it.
    match archive.put_if_absent("a", Bytes::from_static(b"one")).await.unwrap() {
        Put::Stored(info) | Put::Exists(info) => {
            assert_eq!(info.crc32c, Some(crc32c::crc32c(b"one")));
        }
    }
    let source = archive.info("a").await.unwrap();
    server.control().lose_answers(1);
    // Repeated it finds its own, as the caller's next try does.
    for _ in 0..2 {
        let composed = archive.compose("b", &[exactly(&source)]).await.unwrap();
        assert!(matches!(composed, Put::Exists(info) if info.crc32c == source.crc32c));
    }
    server.control().lose_answers(1);
    archive.delete(&exactly(&source)).await.unwrap();
    assert!(matches!(archive.info("a").await, Err(StoreError::NotFound(_))));
    assert_eq!(server.control().objects(BUCKET).len(), 1);
}

#[tokio::test]
async fn a_read_that_is_cut_goes_on_and_one_that_is_corrupt_fails() {
    let server = server().await;
    let archive = archive(&server, "").await;
    let body = Bytes::from(vec![7_u8; 1 << 20]);
    stored(&archive, "a", body.clone()).await;
    server.control().fail_reads([ReadFault::Cut]);
    assert!(read(&archive, "a").await.unwrap() == body);
    server.control().fail_reads([ReadFault::Corrupt]);
    let told = read(&archive, "a").await.unwrap_err();
    assert!(matches!(told, StoreError::Unavailable(_)), "{told}");
}

#[tokio::test]
async fn a_missing_bucket_and_a_missing_permission_say_what_to_do() {
    let server = server().await;
    let archive = archive(&server, "").await;
    server.control().revoke(true);
    for error in [
        archive.list("").await.unwrap_err(),
        archive.put_if_absent("a", Bytes::new()).await.unwrap_err(),
        archive.info("a").await.unwrap_err(),
        read(&archive, "a").await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert!(error.to_string().contains("grant roles/storage.objectUser on it"), "{error}");
    }
    server.control().revoke(false);
    server.control().remove_bucket(BUCKET);
    for error in [
        archive.list("").await.unwrap_err(),
        archive.put_if_absent("a", Bytes::new()).await.unwrap_err(),
        archive.info("a").await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert!(error.to_string().contains("there is no bucket lines"), "{error}");
    }
}

#[tokio::test]
async fn a_listing_has_all_pages_and_nothing_from_beside_the_prefix() {
    let server = server().await;
    server.control().page_size(7);
    let (here, there) = (archive(&server, "here/").await, archive(&server, "hereabouts/").await);
    for number in 0..30 {
        stored(&here, &format!("a/{number:02}"), &b"x"[..]).await;
        stored(&there, &format!("a/{number:02}"), &b"y"[..]).await;
    }
    let names: Vec<_> = here.list("a/").await.unwrap().into_iter().map(|it| it.name).collect();
    let expected: Vec<_> = (0..30).map(|number| format!("a/{number:02}")).collect();
    assert_eq!(names, expected);
}
