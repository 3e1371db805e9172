//! What goes wrong between the daemon and Cloud Storage: refused for now, cut, slow, silent.

use std::time::Instant;

use kappa_test_servers::proxy::{Direction, Proxy};

use super::*;

/// Above the 16 MiB from which uploads are resumable.
const LARGE: usize = 17 << 20;

/// An archive behind two proxies, and those: HTTP first, then gRPC.
struct Behind {
    server: StorageServer,
    archive: GcsArchive,
    ways: [Proxy; 2],
}

impl Behind {
    async fn start(patience: Duration) -> Self {
        let server = server().await;
        let ways = [
            Proxy::start(&server.rest_endpoint()).await.unwrap(),
            Proxy::start(&server.grpc_endpoint()).await.unwrap(),
        ];
        server.control().reached_at(&ways[0].endpoint());
        let options = GcsOptions {
            endpoint: Some(ways[0].endpoint()),
            control_endpoint: Some(ways[1].endpoint()),
            attempt_timeout: patience,
            ..options(&server, "")
        };
        let archive = GcsArchive::connect(options).await.unwrap();
        Self { server, archive, ways }
    }
}

/// The kinds of calls, each with its outcome in a word.
const CALLS: [&str; 6] = ["put", "list", "info", "read", "compose", "delete"];

/// Makes one call, on objects of its own.
async fn call(archive: &GcsArchive, kind: &str, source: &ObjectInfo) -> Result<(), StoreError> {
    match kind {
        "put" => archive.put_if_absent("put", Bytes::from_static(b"put")).await.map(drop),
        "list" => archive.list("").await.map(drop),
        "info" => archive.info(&source.name).await.map(drop),
        "read" => read(archive, &source.name).await.map(drop),
        "compose" => archive.compose("composed", &[exactly(source)]).await.map(drop),
        _ => archive.delete(&exactly(source)).await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transient_fault_is_not_noticed_and_a_lasting_one_is_reported() {
    for kind in CALLS {
        for status in [429, 500, 503] {
            let server = server().await;
            let archive = archive(&server, "").await;
            let source = stored(&archive, "source", &b"x"[..]).await;
            server.control().fail_http([status]);
            server.control().fail_grpc([status]);
            call(&archive, kind, &source).await.unwrap_or_else(|e| panic!("{kind} {status}: {e}"));
        }
    }
    let server = server().await;
    let short = Duration::from_millis(300);
    let options = GcsOptions { attempt_timeout: short, ..options(&server, "") };
    let archive = GcsArchive::connect(options).await.unwrap();
    let source = stored(&archive, "source", &b"x"[..]).await;
    for (kind, status) in CALLS.into_iter().zip([429, 503].into_iter().cycle()) {
        server.control().fail_http([status; 20]);
        server.control().fail_grpc([status; 20]);
        let error = call(&archive, kind, &source).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{kind}: {error:?}");
        let told = error.to_string();
        let reason = told.contains("backendError") || told.contains("rateLimitExceeded");
        assert!(told.contains("bucket lines") && reason, "{kind}: {told}");
        server.control().fail_no_more();
    }
    assert_eq!(server.control().objects(BUCKET).len(), 1, "a refused call has no effect");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumable_upload_that_breaks_is_taken_up_where_it_broke() {
    let body = Bytes::from((0..LARGE).map(|at| (at / 1000) as u8).collect::<Vec<_>>());
    let by_the_server: fn(&Behind) = |behind| behind.server.control().break_upload_after(3 << 20);
    let by_the_way: fn(&Behind) = |behind| behind.ways[0].cut_after(Direction::Requests, 11 << 20);
    let unanswered: fn(&Behind) = |behind| behind.server.control().lose_answers(1);
    for spoil in [by_the_server, by_the_way, unanswered] {
        let behind = Behind::start(Duration::from_secs(20)).await;
        spoil(&behind);
        let info = stored(&behind.archive, "a", body.clone()).await;
        assert_eq!((info.size, info.crc32c), (LARGE as u64, Some(crc32c::crc32c(&body))));
        let control = behind.server.control();
        assert!(control.objects(BUCKET) == [("a".to_owned(), body.clone())]);
        let begun = control.requests().into_iter().filter(|it| it.starts_with("resumable"));
        assert_eq!(begun.count(), 1, "{:?}", control.requests());
    }
}

#[tokio::test]
async fn an_object_that_differs_from_the_sent_bytes_is_noticed_and_removed() {
    let server = server().await;
    let archive = archive(&server, "").await;
    let body = Bytes::from(vec![7; LARGE]);
    // The service does not get the checksum of a broken upload: only its answer shows it.
    server.control().break_upload_after(1 << 20);
    server.control().spoil_upload();
    let error = archive.put_if_absent("a", body.clone()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    let told = error.to_string();
    assert!(told.contains("another size or checksum") && told.contains("was removed"), "{told}");
    assert_eq!(server.control().objects(BUCKET), []);
    stored(&archive, "a", body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_object_is_left_as_it_is_whichever_process_wrote_it() {
    let server = server().await;
    let archive = archive(&server, "").await;
    for body in [Bytes::from_static(b"mine"), Bytes::from(vec![7; LARGE])] {
        let name = format!("of-{}", body.len());
        stored(&archive, &name, &b"another's"[..]).await;
        let Put::Exists(info) = archive.put_if_absent(&name, body).await.unwrap() else {
            panic!("{name} was replaced")
        };
        assert_eq!(info.crc32c, Some(crc32c::crc32c(b"another's")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_ends_the_call_and_the_next_one_takes_another() {
    let patience = Duration::from_millis(500);
    for (kind, direction) in
        CALLS.into_iter().zip([Direction::Answers, Direction::Requests].into_iter().cycle())
    {
        let behind = Behind::start(patience).await;
        let source = stored(&behind.archive, "source", &b"x"[..]).await;
        behind.archive.list("").await.unwrap();
        // First no connection gets answers, then only those that were open get none.
        behind.ways.iter().for_each(|way| way.hold(direction, true));
        let began = Instant::now();
        let error = call(&behind.archive, kind, &source).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{kind}: {error:?}");
        assert!(error.to_string().contains("no answer within 500ms"), "{kind}: {error}");
        assert!(began.elapsed() < patience * 4, "{kind}: {:?}", began.elapsed());
        behind.ways.iter().for_each(Proxy::freeze_open);
        behind.ways.iter().for_each(|way| way.hold(direction, false));
        let answered = call(&behind.archive, kind, &source).await;
        answered.unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_connection_takes_its_time_and_a_read_any_time_while_something_comes() {
    let behind = Behind::start(Duration::from_millis(1500)).await;
    behind.ways.iter().for_each(|way| way.delay(Duration::from_millis(30)));
    let body = Bytes::from(vec![7_u8; 1 << 20]);
    let half = body.slice(..body.len() / 2);
    stored(&behind.archive, "half", half.clone()).await;
    behind.ways.iter().for_each(|way| way.delay(Duration::ZERO));
    stored(&behind.archive, "whole", body.clone()).await;
    behind.ways.iter().for_each(|way| way.delay(Duration::from_millis(30)));
    let began = Instant::now();
    assert!(read(&behind.archive, "whole").await.unwrap() == body);
    assert!(began.elapsed() > Duration::from_millis(1500), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_is_cut_at_any_byte_comes_whole_and_one_that_stalls_ends() {
    let behind = Behind::start(Duration::from_millis(700)).await;
    let body = Bytes::from((0..1 << 20).map(|at| (at / 777) as u8).collect::<Vec<_>>());
    stored(&behind.archive, "a", body.clone()).await;
    for bytes in [1_000, 100_000, 900_000] {
        behind.ways[0].cut_after(Direction::Answers, bytes);
        assert!(read(&behind.archive, "a").await.unwrap() == body, "cut after {bytes}");
    }
    behind.server.control().fail_reads([ReadFault::Stall]);
    let error = read(&behind.archive, "a").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(error.to_string().contains("no answer within 700ms"), "{error}");
    assert!(read(&behind.archive, "a").await.unwrap() == body);
}
