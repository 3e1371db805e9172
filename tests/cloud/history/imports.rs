//! Foreign files in a bucket: `kappa replay --source files gs://BUCKET/PATTERN`.

use std::time::Duration;

use google_cloud_auth::credentials::anonymous;
use kappa::backend::gcs::{GcsArchive, GcsOptions};
use kappa_actors::archive::Compression;
use kappa_actors::port::{ArchiveStore as _, Put};
use kappa_test_servers::storage::ReadFault;

use super::{Services, versions};

/// The bucket of the files; the archive has another.
const BUCKET: &str = "history";

fn order(id: &str) -> Vec<u8> {
    let event = format!(
        r#"{{"event_id":"{id}","event_type":"order.placed","timestamp":"2026-01-02T14:30:00Z","entity_id":"{id}","data":{{"items":[1]}}}}"#
    );
    event.into_bytes()
}

/// The services with plain, gzip and zstd files of one order each, `a` to `c`, and two files that
/// the pattern `2026/*` does not match.
async fn with_files() -> Services {
    let services = Services::start().await;
    services.storage.control().create_bucket(BUCKET, "STANDARD");
    let options = GcsOptions {
        bucket: BUCKET.to_owned(),
        prefix: String::new(),
        endpoint: Some(services.storage.rest_endpoint()),
        control_endpoint: Some(services.storage.grpc_endpoint()),
        credentials: anonymous::Builder::new().build(),
        attempt_timeout: Duration::from_secs(10),
    };
    let bucket = GcsArchive::connect(options).await.unwrap();
    for (name, id, compression) in [
        ("2026/a.jsonl", "a", Compression::None),
        ("2026/b.jsonl.gz", "b", Compression::Gzip),
        ("2026/c.jsonl.zst", "c", Compression::Zstd),
        ("2026/deeper/d.jsonl", "d", Compression::None),
        ("2025/e.jsonl", "e", Compression::None),
    ] {
        let body = compression.encode(order(id)).unwrap();
        let put = bucket.put_if_absent(name, body.into()).await.unwrap();
        assert!(matches!(put, Put::Stored(_)), "{put:?}");
    }
    services
}

fn orders(services: &Services) -> Vec<String> {
    versions(services, "orders").into_keys().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_in_a_bucket_are_imported_in_any_compression_and_twice_is_once() {
    let services = with_files().await;
    let import = format!("replay --source files gs://{BUCKET}/2026/* --into live");
    for _ in 0..2 {
        let ran = services.run(&import, b"").await;
        assert!(ran.contains("events\t3\nrows orders\t3\n"), "{ran}");
        assert_eq!(orders(&services), ["a", "b", "c"]);
    }
    let before = versions(&services, "orders");
    let all = format!("replay --source files gs://{BUCKET}/**/*.jsonl* --into live");
    let ran = services.run(&all, b"").await;
    assert!(ran.contains("events\t5\n"), "{ran}");
    assert_eq!(orders(&services), ["a", "b", "c", "d", "e"]);
    for (id, version) in before {
        assert_eq!(versions(&services, "orders")[&id], version, "{id} has the version of one file");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_breaks_off_leaves_no_file_out() {
    let services = with_files().await;
    services.storage.control().fail_reads([ReadFault::Cut, ReadFault::Cut]);
    let import = format!("replay --source files gs://{BUCKET}/2026/* --into live");
    let ran = services.run(&import, b"").await;
    assert!(ran.contains("events\t3\n"), "{ran}");
    assert_eq!(orders(&services), ["a", "b", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_without_a_match_and_a_bucket_without_one_are_errors() {
    let services = with_files().await;
    let none = services.fail(&format!("replay --source files gs://{BUCKET}/2027/*")).await;
    assert!(none.contains(&format!("no file matches gs://{BUCKET}/2027/*")), "{none}");
    let bare = services.fail(&format!("replay --source files gs://{BUCKET}")).await;
    assert!(bare.contains("use gs://BUCKET/PATTERN"), "{bare}");
    let absent = services.fail("replay --source files gs://no-such-bucket/*").await;
    assert!(absent.contains("no-such-bucket"), "{absent}");
}
