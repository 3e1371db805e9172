//! The proxy, before a server that echoes its input.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use kappa_test_servers::grpc::listen;
use kappa_test_servers::proxy::{Direction, Proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A proxy before an echo.
async fn proxy() -> Proxy {
    let (listener, address) = listen().await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = client.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    Proxy::start(&format!("http://{address}")).await.unwrap()
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.endpoint().trim_start_matches("http://")).await.unwrap()
}

/// All that comes until the end, of whatever kind it is.
async fn rest(client: &mut TcpStream) -> usize {
    let (mut all, mut bytes) = (0, [0; 4096]);
    while let Ok(count @ 1..) = client.read(&mut bytes).await {
        all += count;
    }
    all
}

#[tokio::test]
async fn a_cut_passes_the_bytes_before_it_and_affects_one_connection_alone() {
    for direction in [Direction::Requests, Direction::Answers] {
        let proxy = proxy().await;
        let (mut cut, mut other) = (connect(&proxy).await, connect(&proxy).await);
        proxy.cut_after(direction, 1000);
        cut.write_all(&[7; 3000]).await.unwrap();
        let passed = rest(&mut cut).await;
        // Of requests the echo may have had no time to send back all.
        assert!(if direction == Direction::Answers { passed == 1000 } else { passed <= 1000 });
        other.write_all(&[7; 3000]).await.unwrap();
        other.shutdown().await.unwrap();
        assert_eq!(rest(&mut other).await, 3000);
        assert_eq!((proxy.opened(), proxy.cut()), (2, 1));
    }
}

#[tokio::test]
async fn held_bytes_arrive_completely_after_their_release() {
    for direction in [Direction::Requests, Direction::Answers] {
        let proxy = proxy().await;
        let mut client = connect(&proxy).await;
        proxy.hold(direction, true);
        client.write_all(&[7; 100]).await.unwrap();
        client.shutdown().await.unwrap();
        let silent = tokio::time::timeout(Duration::from_millis(200), client.read_u8()).await;
        assert!(silent.is_err(), "{silent:?}");
        proxy.hold(direction, false);
        assert_eq!(rest(&mut client).await, 100);
    }
}

#[tokio::test]
async fn frozen_are_those_that_are_open_and_no_other() {
    let proxy = proxy().await;
    let mut frozen = connect(&proxy).await;
    frozen.write_all(&[7; 100]).await.unwrap();
    frozen.read_exact(&mut [0; 100]).await.unwrap();
    proxy.freeze_open();
    frozen.write_all(&[7; 100]).await.unwrap();
    let mut other = connect(&proxy).await;
    other.write_all(&[7; 100]).await.unwrap();
    other.read_exact(&mut [0; 100]).await.unwrap();
    let silent = tokio::time::timeout(Duration::from_millis(200), frozen.read_u8()).await;
    assert!(silent.is_err(), "{silent:?}");
}

#[tokio::test]
async fn all_are_cut_and_each_new_one_at_random() {
    let proxy = proxy().await;
    let mut client = connect(&proxy).await;
    client.write_all(&[7; 100]).await.unwrap();
    client.read_exact(&mut [0; 100]).await.unwrap();
    proxy.cut_all();
    assert_eq!(rest(&mut client).await, 0);
    proxy.cut_at_random(1, Some(1000));
    let mut lengths = Vec::new();
    for _ in 0..20 {
        let mut client = connect(&proxy).await;
        let mut length = 0;
        while client.write_all(&[7; 10]).await.is_ok()
            && client.read_exact(&mut [0; 10]).await.is_ok()
        {
            length += 20;
        }
        lengths.push(length);
    }
    lengths.sort_unstable();
    lengths.dedup();
    assert!(lengths.len() > 3 && lengths.iter().all(|length| *length < 2000), "{lengths:?}");
    assert_eq!(proxy.cut(), 20);
}

#[tokio::test]
async fn delayed_bytes_arrive_completely_and_late() {
    let proxy = proxy().await;
    let mut client = connect(&proxy).await;
    proxy.delay(Duration::from_millis(100));
    let began = std::time::Instant::now();
    client.write_all(&[7; 100]).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, 100);
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
}
