//! Clients that try to shut others out.

use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};

use super::*;
use crate::status::server::MAX_CONNECTIONS;

const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// `/livez` and `/readyz` on new connections, within a second.
async fn probe(served: &Served) {
    for path in ["/livez", "/readyz"] {
        let answer = timeout(PROBE_TIMEOUT, async {
            let mut probe = served.connect().await;
            let head =
                format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
            probe.write_all(head.as_bytes()).await.unwrap();
            read_all(&mut probe).await
        });
        let answer = answer.await.unwrap_or_else(|_| panic!("{path} took a second"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
}

/// More connections than there are places, each of which has sent `begin`.
async fn flood(served: &Served, begin: &[u8]) -> Vec<TcpStream> {
    let mut flood = Vec::new();
    for _ in 0..MAX_CONNECTIONS + 100 {
        let mut stream = served.connect().await;
        // A connection that made way may be reset by now.
        let _ = stream.write_all(begin).await;
        flood.push(stream);
    }
    flood
}

#[tokio::test]
async fn probes_are_answered_while_silent_connections_hold_all_places() {
    let served = served(options(), Answer::Takes).await;
    let _flood = flood(&served, b"").await;
    probe(&served).await;
}

#[tokio::test]
async fn probes_are_answered_while_heads_never_end() {
    let served = served(options(), Answer::Takes).await;
    let _flood = flood(&served, b"GET / HTTP/1.1\r\nhost: localhost\r\nx: ").await;
    probe(&served).await;
}

#[tokio::test]
async fn probes_are_answered_while_bodies_never_end() {
    let served = served(options(), Answer::Takes).await;
    let head =
        b"POST /v1/events HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1\r\n ";
    let _flood = flood(&served, head).await;
    probe(&served).await;
}

#[tokio::test]
async fn probes_are_answered_while_answers_are_not_read() {
    let served = served(options(), Answer::Takes).await;
    let asks = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(20);
    let _flood = flood(&served, &asks).await;
    probe(&served).await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_is_cut_off() {
    let served = served(options(), Answer::Takes).await;
    for begin in [&b""[..], b"GET /livez HTTP/1.1\r\nx: "] {
        let mut stream = served.connect().await;
        stream.write_all(begin).await.unwrap();
        let started = Instant::now();
        assert_eq!(read_all(&mut stream).await, "");
        assert!(started.elapsed() <= Duration::from_secs(31), "{:?}", started.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_read_is_cut_off() {
    let (mut client, stream) = tokio::io::duplex(100);
    let mut timed = crate::status::server::Timed::new(stream);
    let written = timed.write_all(&[0; 1_000]).await.unwrap_err();
    assert_eq!(written.kind(), io::ErrorKind::TimedOut);
    drop(timed);
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.unwrap();
    assert_eq!(got.len(), 100, "only as much as the client had room for");
}

#[tokio::test]
async fn http2_is_not_spoken() {
    let served = served(options(), Answer::Takes).await;
    let mut stream = served.connect().await;
    // The preface and empty settings.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(preface).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer:?}");
}
