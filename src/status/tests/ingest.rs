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
    assert_eq!(receipt["published"], 3);
    assert_eq!(served.taken(), ["{\"a\":1}", "not json \u{fffd}\r", "last"]);
}

#[tokio::test]
async fn a_line_too_large_is_refused_by_number_and_the_rest_published() {
    let served = served(options(), Answer::Takes).await;
    let body = format!("{}\n{}\n\nc", "a".repeat(100), "b".repeat(101));
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
    let (status, _, receipt) = served.post("/v1/events", "a\n!b\nc").await;
    assert_eq!(status, 422);
    assert_eq!(receipt["published"], 2);
    let refused = serde_json::json!([{ "line": 2, "reason": "no bangs" }]);
    assert_eq!(receipt["refused_lines"], refused);
}

#[tokio::test]
async fn a_full_log_slows_the_sender_and_says_where_to_go_on() {
    let served = served(options(), Answer::FullAfter(2_500)).await;
    let (status, retry, receipt) = served.post("/v1/events", "e\n".repeat(5_000)).await;
    assert_eq!((status, retry.as_deref()), (429, Some("1")));
    assert_eq!(receipt["published"], 2_500);
    assert_eq!(receipt["retry_from_line"], 2_501);
    assert_eq!(served.taken().len(), 2_500);
}

#[tokio::test]
async fn a_log_that_is_down_asks_to_come_back() {
    let served = served(options(), Answer::Unavailable).await;
    let (status, retry, receipt) = served.post("/v1/events", "a\nb").await;
    assert_eq!((status, retry.as_deref()), (503, Some("1")));
    assert_eq!((&receipt["published"], &receipt["retry_from_line"]), (&0.into(), &1.into()));
    assert_eq!(receipt["error"], "the event log is unavailable: locked");
}
