//! Events sent over HTTP.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::*;

#[tokio::test]
async fn events_are_answered_for_once_they_are_in_the_log() {
    let served = served(options(), Answer::Takes).await;
    let body = b"{\"a\":1}\n\n  \r\nnot json \xff\r\nlast".as_slice();
    let (status, _, receipt) = served.post("/v1/events", body).await;
    assert_eq!(status, 200, "{receipt}");
    assert_eq!((&receipt["published"], &receipt["not_json_objects"]), (&3.into(), &2.into()));
    assert_eq!(served.taken(), ["{\"a\":1}", "not json \u{fffd}\r", "last"]);
}

#[tokio::test]
async fn a_line_too_large_is_refused_by_number_and_the_rest_published() {
    let served = served(options(), Answer::Takes).await;
    let body = format!("{}\n{}\n\n{{}}", "a".repeat(100), "b".repeat(101));
    let (status, _, receipt) = served.post("/v1/events", body).await;
    assert_eq!(status, 413);
    assert_eq!((&receipt["published"], &receipt["refused"]), (&2.into(), &1.into()));
    assert_eq!(receipt["refused_lines"][0]["line"], 2);
    assert_eq!(served.taken().len(), 2);
}

#[tokio::test]
async fn a_body_too_large_is_refused_whole() {
    let served = served(options(), Answer::Takes).await;
    let (status, _, answer) = served.post("/v1/events", vec![b'\n'; 8 * 1024 * 1024 + 1]).await;
    assert_eq!(status, 413);
    assert!(answer["error"].as_str().unwrap().contains("8388608"), "{answer}");
    assert_eq!(served.post("/v1/events", vec![b'\n'; 8 * 1024 * 1024]).await.0, 200);
}

/// A connection that announced a body of 8 MiB and sent `bytes` of it.
async fn unfinished(served: &Served, bytes: usize) -> TcpStream {
    let length = 8 * 1024 * 1024;
    let head = format!("POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    let mut sender = served.connect().await;
    sender.write_all(head.replace("host: x", "host: localhost").as_bytes()).await.unwrap();
    sender.write_all(&vec![b' '; bytes]).await.unwrap();
    sender
}

#[tokio::test]
async fn bodies_under_way_hold_bounded_memory() {
    let served = served(options(), Answer::Takes).await;
    let mut senders = Vec::new();
    for _ in 0..2 {
        senders.push(unfinished(&served, 8 * 1024 * 1024 - 1).await);
    }
    let until = async |wanted: u16| loop {
        let (status, retry, _) = served.post("/v1/events", "{\"a\":1}").await;
        assert_eq!(retry.is_some(), status == 429);
        if status == wanted {
            return;
        }
    };
    let most = Duration::from_secs(10);
    tokio::time::timeout(most, until(429)).await.expect("two unfinished bodies hold it all");
    senders.clear();
    tokio::time::timeout(most, until(200)).await.expect("a closed connection holds nothing");
}

#[tokio::test]
async fn a_body_that_is_only_announced_holds_no_memory() {
    let served = served(options(), Answer::Takes).await;
    let mut senders = Vec::new();
    for _ in 0..8 {
        senders.push(unfinished(&served, 1).await);
    }
    let before = served.taken().len();
    for _ in 0..20 {
        assert_eq!(served.post("/v1/events", "{\"a\":1}").await.0, 200);
    }
    assert_eq!(served.taken().len(), before + 20);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_is_cut_off() {
    let served = served(options(), Answer::Takes).await;
    let mut sender = unfinished(&served, 10).await;
    let answer = read_all(&mut sender).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn a_line_that_the_log_refuses_is_named() {
    let served = served(options(), Answer::RefusesBangs).await;
    let (status, _, receipt) = served.post("/v1/events", "{}\n!b\n{}").await;
    assert_eq!(status, 422);
    assert_eq!(receipt["published"], 2);
    let refused = serde_json::json!([{ "line": 2, "reason": "no bangs" }]);
    assert_eq!(receipt["refused_lines"], refused);
}

#[tokio::test]
async fn a_full_log_slows_the_sender_and_names_the_line_to_resume_from() {
    let served = served(options(), Answer::FullAfter(2_500)).await;
    let (status, retry, receipt) = served.post("/v1/events", "{}\n".repeat(5_000)).await;
    assert_eq!((status, retry.as_deref()), (429, Some("1")));
    assert_eq!(receipt["published"], 2_500);
    assert_eq!(receipt["retry_from_line"], 2_501);
    assert_eq!(served.taken().len(), 2_500);
}

#[tokio::test]
async fn a_log_that_is_down_asks_to_come_back() {
    let served = served(options(), Answer::Unavailable).await;
    let (status, retry, receipt) = served.post("/v1/events", "{}\n{}").await;
    assert_eq!((status, retry.as_deref()), (503, Some("1")));
    assert_eq!((&receipt["published"], &receipt["retry_from_line"]), (&0.into(), &1.into()));
    assert_eq!(receipt["error"], "the event log is unavailable: locked");
}

/// The answer to a body with these headers: status and body.
async fn posted(
    served: &Served,
    query: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> (u16, Value) {
    let path = format!("/v1/events{query}");
    let (status, _, answer) = served.call("POST", &path, headers, body).await;
    (status, serde_json::from_str(&answer).unwrap())
}

const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

#[tokio::test]
async fn json_is_one_document_or_an_array_of_them() {
    let served = served(options(), Answer::Takes).await;
    let pretty = "\u{feff}{\n  \"a\": 1\n}\n";
    assert_eq!(posted(&served, "", &[JSON], pretty).await.1["published"], 1);
    let array = "[\n {\"a\": 2},\n {\"a\": 1e400}\n]";
    assert_eq!(posted(&served, "", &[JSON], array).await.1["published"], 2);
    let event = [("content-type", "application/cloudevents+json")];
    assert_eq!(posted(&served, "", &event, "{\"a\":3}").await.0, 200);
    let document = "{\n  \"a\": 1\n}\n";
    assert_eq!(served.taken(), [document, "{\"a\": 2}", "{\"a\": 1e400}", "{\"a\":3}"]);
}

#[tokio::test]
async fn a_mistake_of_framing_publishes_nothing_and_gets_a_hint() {
    use kappa_actors::archive::Compression::Gzip;
    let served = served(options(), Answer::Takes).await;
    let gzip = Gzip.encode(b"{}".to_vec()).unwrap();
    for (headers, body, word) in [
        (&[][..], b"{\n  \"a\": 1\n}".to_vec(), "Content-Type: application/json"),
        (&[], b"[{\"a\":1},\n{\"a\":2}\n]".to_vec(), "Content-Type: application/json"),
        (&[], b"nonsense".to_vec(), "JSON object"),
        (&[], gzip, "Content-Encoding: gzip"),
        (&[], b"\xff\xfe{\0}\0".to_vec(), "UTF-8"),
        (&[JSON], b"{}\n{}".to_vec(), "application/x-ndjson"),
        (&[JSON], b"[{},nonsense]".to_vec(), "application/x-ndjson"),
        (&[JSON], b"12".to_vec(), "JSON object"),
    ] {
        let shown = String::from_utf8_lossy(&body).into_owned();
        let (status, answer) = posted(&served, "", headers, body).await;
        assert_eq!(status, 400, "{shown}: {answer}");
        assert!(answer["hint"].as_str().unwrap().contains(word), "{shown}: {answer}");
    }
    assert_eq!(served.taken(), [""; 0]);
}

#[tokio::test]
async fn strict_refuses_lines_by_number_and_publishes_nothing() {
    let served = served(options(), Answer::Takes).await;
    let body = format!("{{}}\nnonsense\n{{}}\n{}\n", "x".repeat(101));
    let (status, answer) = posted(&served, "?strict=true", &[], body.clone()).await;
    assert!((400..500).contains(&status), "{status}: {answer}");
    let lines: Vec<_> =
        answer["refused_lines"].as_array().unwrap().iter().map(|one| &one["line"]).collect();
    assert_eq!((lines, &answer["published"]), (vec![&2.into(), &4.into()], &0.into()));
    assert_eq!(served.taken(), [""; 0]);
    assert_eq!(posted(&served, "?strict=true", &[], "{}\n{}").await.0, 200);
    for query in ["?strict=yes", "?stict=true", "?strict"] {
        assert_eq!(posted(&served, query, &[], "{}").await.0, 400, "{query}");
    }
    assert_eq!(posted(&served, "?strict=false", &[], body).await.1["published"], 3);
}

#[tokio::test]
async fn compressed_bodies_are_decoded_and_other_encodings_refused() {
    use kappa_actors::archive::Compression::{Gzip, Zstd};
    let served = served(options(), Answer::Takes).await;
    for (name, compression) in [("gzip", Gzip), ("zstd", Zstd)] {
        let encoding = ("content-encoding", name);
        let body = compression.encode(b"{\"a\":1}\n{\"a\":2}".to_vec()).unwrap();
        assert_eq!(posted(&served, "", &[encoding], body.clone()).await.1["published"], 2);
        let cut = body[..body.len() - 4].to_vec();
        for broken in [cut, [&body[..], b"more"].concat(), b"{}".to_vec()] {
            let (status, answer) = posted(&served, "", &[encoding], broken).await;
            assert_eq!(status, 400, "{name}: {answer}");
        }
    }
    for other in ["br", "deflate", "gzip, gzip", "\u{e9}"] {
        let (status, _) = posted(&served, "", &[("content-encoding", other)], "{}").await;
        assert_eq!(status, 415, "{other}");
    }
    let wide = [("content-type", "application/json; charset=utf-16")];
    assert_eq!(posted(&served, "", &wide, "{}").await.0, 415);
    assert_eq!(served.taken().len(), 4);
}

#[tokio::test]
async fn a_decompression_bomb_is_refused_at_the_limit() {
    use kappa_actors::archive::Compression::{Gzip, Zstd};
    let served = served(options(), Answer::Takes).await;
    for (name, compression) in [("gzip", Gzip), ("zstd", Zstd)] {
        let bomb = compression.encode(vec![b' '; 200 << 20]).unwrap();
        assert!(bomb.len() < 1 << 20, "{name}");
        let (status, answer) = posted(&served, "", &[("content-encoding", name)], bomb).await;
        assert_eq!(status, 413, "{name}: {answer}");
    }
    // A frame that asks for a window of 128 MiB.
    let mut wide = zstd::Encoder::new(Vec::new(), 1).unwrap();
    wide.window_log(27).unwrap();
    io::Write::write_all(&mut wide, &vec![b' '; 9 << 20]).unwrap();
    let wide = wide.finish().unwrap();
    let (status, answer) = posted(&served, "", &[("content-encoding", "zstd")], wide).await;
    assert_eq!(status, 400, "{answer}");
    assert_eq!(posted(&served, "", &[], "{}").await.0, 200, "all memory is free again");
}
