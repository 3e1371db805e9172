//! The Cloud Storage server and its refusals, seen by raw clients.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use googleapis_tonic_google_storage_v2::google::storage::v2;
use kappa_test_servers::storage::StorageServer;
use tonic::Code;
use v2::bucket::SoftDeletePolicy;
use v2::bucket::lifecycle::Rule;
use v2::bucket::lifecycle::rule::{Action, Condition};
use v2::compose_object_request::SourceObject;
use v2::compose_object_request::source_object::ObjectPreconditions;
use v2::storage_client::StorageClient;

const BUCKET: &str = "projects/_/buckets/b";

async fn started() -> StorageServer {
    let server = StorageServer::start().await.unwrap();
    server.control().create_bucket("b", "STANDARD");
    server
}

/// Uploads over HTTP with this precondition and this checksum; the status.
async fn put(server: &StorageServer, name: &str, query: &str, crc32c: u32) -> u16 {
    use base64::Engine as _;
    let crc32c = base64::prelude::BASE64_STANDARD.encode(crc32c.to_be_bytes());
    let body = format!(
        "--x\r\ncontent-type: application/json\r\n\r\n{{\"crc32c\":\"{crc32c}\"}}\r\n\
         --x\r\n\r\n{name}\r\n--x--"
    );
    let endpoint = server.rest_endpoint();
    let url = format!("{endpoint}/upload/storage/v1/b/b/o?uploadType=multipart&name={name}{query}");
    let request = reqwest::Client::new().post(url).body(body);
    let request = request.header("content-type", "multipart/related; boundary=x");
    request.send().await.unwrap().status().as_u16()
}

async fn compose(
    server: &StorageServer,
    sources: impl IntoIterator<Item = SourceObject>,
    if_generation_match: Option<i64>,
) -> Result<v2::Object, Code> {
    let destination = v2::Object { name: "to".into(), bucket: BUCKET.into(), ..Default::default() };
    let request = v2::ComposeObjectRequest {
        destination: Some(destination),
        source_objects: sources.into_iter().collect(),
        if_generation_match,
        ..Default::default()
    };
    let endpoint = tonic::transport::Endpoint::from_shared(server.grpc_endpoint()).unwrap();
    let mut client = StorageClient::new(endpoint.connect().await.unwrap());
    let answer = client.compose_object(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| status.code())
}

fn source(name: &str) -> SourceObject {
    SourceObject { name: name.into(), ..Default::default() }
}

#[tokio::test]
async fn one_to_32_sources_are_composed_in_the_generations_named() {
    let server = started().await;
    assert_eq!(put(&server, "a", "", crc32c::crc32c(b"a")).await, 200);
    let many = |count| std::iter::repeat_n(source("a"), count);
    assert_eq!(compose(&server, many(33), None).await, Err(Code::InvalidArgument));
    assert_eq!(compose(&server, many(0), None).await, Err(Code::InvalidArgument));
    let other = SourceObject { generation: 99, ..source("a") };
    assert_eq!(compose(&server, [other], None).await, Err(Code::NotFound));
    let object_preconditions = Some(ObjectPreconditions { if_generation_match: Some(99) });
    let unless = SourceObject { object_preconditions, ..source("a") };
    assert_eq!(compose(&server, [unless], None).await, Err(Code::FailedPrecondition));
    assert_eq!(server.control().objects("b").len(), 1);
    assert_eq!(compose(&server, many(32), Some(0)).await.unwrap().size, 32);
    assert_eq!(compose(&server, many(1), Some(0)).await, Err(Code::FailedPrecondition));
}

#[tokio::test]
async fn a_name_that_is_taken_and_a_checksum_that_is_wrong_store_nothing() {
    let server = started().await;
    assert_eq!(put(&server, "a", "", 7).await, 400);
    assert!(server.control().objects("b").is_empty());
    let right = crc32c::crc32c(b"a");
    assert_eq!(put(&server, "a", "&ifGenerationMatch=0", right).await, 200);
    assert_eq!(put(&server, "a", "&ifGenerationMatch=0", right).await, 412);
    server.control().remove_bucket("b");
    assert_eq!(put(&server, "a", "", right).await, 404);
}

/// Makes a bucket; the answer's code.
async fn make(server: &StorageServer, id: &str) -> Code {
    let bucket = v2::Bucket { project: "projects/p".into(), ..Default::default() };
    let request = v2::CreateBucketRequest {
        parent: "projects/_".into(),
        bucket: Some(bucket),
        bucket_id: id.into(),
        ..Default::default()
    };
    let endpoint = tonic::transport::Endpoint::from_shared(server.grpc_endpoint()).unwrap();
    let mut client = StorageClient::new(endpoint.connect().await.unwrap());
    client.create_bucket(request).await.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test]
async fn a_bucket_has_a_name_of_the_documented_form() {
    let server = StorageServer::start().await.unwrap();
    let part = "p".repeat(63);
    let dotted = format!("{part}.{part}.{part}.{}", "p".repeat(30));
    let good = ["abc", "a-b_c.9", &part, &dotted, "1.2.3", "256.1.1.1", "my-goog"];
    for name in good {
        assert_eq!(make(&server, name).await, Code::Ok, "{name}");
    }
    let (long, long_part) = (format!("{part}p"), format!("a.{part}p"));
    let too_long = format!("{dotted}p");
    for name in [
        "",
        "ab",
        &long,
        &long_part,
        &too_long,
        "Abc",
        "a bc",
        "a/bc",
        "äbc",
        "-abc",
        "abc_",
        ".abc",
        "192.168.5.4",
        "goog-abc",
        "my-google",
        "my-g00gle",
    ] {
        assert_eq!(make(&server, name).await, Code::InvalidArgument, "{name}");
    }
    let mut made = good.map(str::to_owned);
    made.sort();
    assert_eq!(server.control().buckets(), made);
    assert_eq!(make(&server, "abc").await, Code::FailedPrecondition);
}

#[tokio::test]
async fn chunks_but_the_last_are_multiples_of_256_kib() {
    const CHUNK: usize = 262_144;
    let server = started().await;
    let client = reqwest::Client::new();
    let endpoint = server.rest_endpoint();
    let url = format!("{endpoint}/upload/storage/v1/b/b/o?uploadType=resumable&name=a");
    let begun = client.post(url).body("{}").send().await.unwrap();
    let session = begun.headers()["location"].to_str().unwrap().to_owned();
    let send = async |range: String, bytes: usize| {
        let body = vec![7; bytes];
        let request = client.put(&session).header("content-range", format!("bytes {range}"));
        let answer = request.body(body).send().await.unwrap();
        let kept = answer.headers().get("range").map(|range| range.to_str().unwrap().to_owned());
        (answer.status().as_u16(), kept)
    };
    for (range, bytes) in [
        ("0-99/*".to_owned(), 100),
        (format!("0-{}/*", CHUNK - 2), CHUNK - 1),
        (format!("0-{CHUNK}/*"), CHUNK + 1),
        (format!("0-99/{CHUNK}"), 100),
    ] {
        assert_eq!(send(range.clone(), bytes).await.0, 400, "{range}");
        assert_eq!(send("*/*".to_owned(), 0).await, (308, None));
    }
    let kept = |bytes: usize| Some(format!("bytes=0-{}", bytes - 1));
    let whole = 3 * CHUNK + 10;
    assert_eq!(send(format!("0-{}/*", CHUNK - 1), CHUNK).await, (308, kept(CHUNK)));
    let two = format!("{CHUNK}-{}/{whole}", 3 * CHUNK - 1);
    assert_eq!(send(two, 2 * CHUNK).await, (308, kept(3 * CHUNK)));
    assert!(server.control().objects("b").is_empty());
    let last = format!("{}-{}/{whole}", 3 * CHUNK, whole - 1);
    assert_eq!(send(last, 10).await, (200, None));
    assert_eq!(server.control().objects("b")[0].1.len(), whole);
}

async fn create(
    server: &StorageServer,
    id: &str,
    change: impl FnOnce(&mut v2::Bucket),
) -> Result<v2::Bucket, Code> {
    let mut bucket = v2::Bucket { project: "projects/p".into(), ..Default::default() };
    change(&mut bucket);
    let request = v2::CreateBucketRequest {
        parent: "projects/_".into(),
        bucket_id: id.into(),
        bucket: Some(bucket),
        ..Default::default()
    };
    let endpoint = tonic::transport::Endpoint::from_shared(server.grpc_endpoint()).unwrap();
    let mut client = StorageClient::new(endpoint.connect().await.unwrap());
    let answer = client.create_bucket(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| status.code())
}

fn rule(action: &str, class: &str, days: Option<i32>, prefix: &str) -> Rule {
    Rule {
        action: Some(Action { r#type: action.into(), storage_class: class.into() }),
        condition: Some(Condition {
            age_days: days,
            matches_prefix: vec![prefix.into()],
            ..Default::default()
        }),
    }
}

#[tokio::test]
async fn soft_delete_is_on_for_a_week_unless_it_is_switched_off_and_lasts_90_days_at_most() {
    let server = started().await;
    let kept = |seconds: i64| {
        move |bucket: &mut v2::Bucket| {
            let duration = prost_types::Duration { seconds, nanos: 0 };
            let retention_duration = Some(duration);
            bucket.soft_delete_policy =
                Some(SoftDeletePolicy { retention_duration, ..Default::default() });
        }
    };
    let seconds = |bucket: v2::Bucket| bucket.soft_delete_policy.unwrap().retention_duration;
    let week = seconds(create(&server, "default", |_| {}).await.unwrap());
    assert_eq!(week.unwrap().seconds, 604_800);
    let off = seconds(create(&server, "off", kept(0)).await.unwrap());
    assert_eq!(off.unwrap().seconds, 0);
    for wrong in [-1, 1, 604_799, 7_776_001] {
        assert_eq!(create(&server, "wrong", kept(wrong)).await, Err(Code::InvalidArgument));
    }
}

#[tokio::test]
async fn rules_of_a_lifecycle_are_checked_and_lead_to_colder_classes_only() {
    let server = started().await;
    let with = |rule: Vec<Rule>| {
        move |bucket: &mut v2::Bucket| bucket.lifecycle = Some(v2::bucket::Lifecycle { rule })
    };
    for wrong in [
        rule("Delete", "COLDLINE", Some(1), "a"),
        rule("SetStorageClass", "", Some(1), "a"),
        rule("SetStorageClass", "COLD", Some(1), "a"),
        rule("Archive", "", Some(1), "a"),
        rule("Delete", "", Some(-1), "a"),
        rule("Delete", "", None, "a"),
        rule("Delete", "", Some(1), ""),
    ] {
        let made = create(&server, "wrong", with(vec![wrong.clone()])).await;
        assert_eq!(made, Err(Code::InvalidArgument), "{wrong:?}");
    }
    let rules = vec![
        rule("SetStorageClass", "NEARLINE", Some(2), "cold"),
        rule("SetStorageClass", "COLDLINE", Some(2), "cold/er"),
        rule("Delete", "", Some(3), "cold/er"),
    ];
    create(&server, "rules", with(rules)).await.unwrap();
    let names = ["cold/a", "cold/er", "warm"];
    names.into_iter().for_each(|name| server.control().put("rules", name, "x"));
    let classes = || names.map(|name| server.control().storage_class("rules", name));
    let some = |classes: [&str; 3]| classes.map(|class| Some(class.to_owned()));
    server.control().grow_old("rules", 1);
    assert_eq!(classes(), some(["STANDARD"; 3]));
    server.control().grow_old("rules", 2);
    assert_eq!(classes(), some(["NEARLINE", "COLDLINE", "STANDARD"]));
    server.control().grow_old("rules", 3);
    assert_eq!(server.control().storage_class("rules", "cold/er"), None);
}
