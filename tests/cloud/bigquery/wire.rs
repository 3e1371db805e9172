//! What goes wrong on the way to BigQuery: cut, silent, slow.

use std::time::Instant;

use kappa_test_servers::bigquery::{AppendFault, RestFault};
use kappa_test_servers::proxy::{Direction, Proxy};

use super::faults::{MODES, assert_once, large, written};
use super::*;

/// A warehouse behind two proxies: REST, then the Storage Write API.
async fn behind(mode: WriteMode, patience: Duration) -> (Cloud, [Proxy; 2]) {
    let server = BigQueryServer::start().await.unwrap();
    let ways = [
        Proxy::start(&server.rest_endpoint()).await.unwrap(),
        Proxy::start(&server.grpc_endpoint()).await.unwrap(),
    ];
    // Read past the proxies.
    let direct = Dataset::open(options(&server, mode), None);
    let options = BigQueryOptions {
        endpoint: Some(ways[0].endpoint()),
        write_endpoint: Some(ways[1].endpoint()),
        request_timeout: patience,
        ..options(&server, mode)
    };
    let warehouse = BigQueryWarehouse::connect(options, None).unwrap();
    (Cloud { server, dataset: Dataset { warehouse, ..direct } }, ways)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_at_any_byte_of_a_request_or_an_answer_stores_each_row_once() {
    for mode in MODES {
        for (direction, bytes) in [
            (Direction::Requests, 100),
            (Direction::Requests, 200_000),
            (Direction::Requests, 2_500_000),
            (Direction::Answers, 0),
            (Direction::Answers, 40),
            (Direction::Answers, 150),
        ] {
            let (cloud, ways) = behind(mode, Duration::from_secs(5)).await;
            let spec = table("orders", &VERSIONED, 1);
            cloud.ensure_table(&spec).await.unwrap();
            assert_eq!(written(&cloud, &spec, many(0, 3)).await, []);
            ways[1].cut_after(direction, bytes);
            assert_eq!(written(&cloud, &spec, large(3, 60)).await, []);
            assert_eq!(ways[1].cut(), 1, "{mode:?} {direction:?} {bytes}");
            assert_once(&cloud, &spec, 63).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_at_random_store_each_row_once() {
    for mode in MODES {
        let (cloud, ways) = behind(mode, Duration::from_secs(5)).await;
        let spec = table("orders", &VERSIONED, 1);
        cloud.ensure_table(&spec).await.unwrap();
        ways[1].cut_at_random(5, Some(3_000_000));
        for first in (0..120).step_by(20) {
            assert_eq!(written(&cloud, &spec, large(first, 20)).await, []);
        }
        assert!(ways[1].cut() > 1, "{}", ways[1].cut());
        assert_once(&cloud, &spec, 120).await;
    }
}

/// More requests than may be in flight: the waiting ones must not wait without end.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_delays_a_write_of_any_size_only_for_a_time() {
    let patience = Duration::from_millis(500);
    for mode in MODES {
        for silence in ["stream", "requests", "answers"] {
            let (cloud, ways) = behind(mode, patience).await;
            let spec = table("orders", &VERSIONED, 1);
            cloud.ensure_table(&spec).await.unwrap();
            assert_eq!(written(&cloud, &spec, many(0, 1)).await, []);
            match silence {
                "stream" => cloud.control().fail_appends(1, AppendFault::Hangs),
                "requests" => ways[1].hold(Direction::Requests, true),
                _ => ways[1].hold(Direction::Answers, true),
            }
            let began = Instant::now();
            let write = cloud.write(&spec, large(1, 80));
            let written_once = tokio::time::timeout(patience * 10, write).await;
            let told = written_once.unwrap_or_else(|_| panic!("{mode:?} {silence}: for ever"));
            assert!(began.elapsed() >= patience, "{mode:?} {silence}");
            ways[1].freeze_open();
            ways[1].hold(Direction::Requests, false);
            ways[1].hold(Direction::Answers, false);
            // A stream alone that falls silent is replaced within the call.
            assert_eq!(told.is_ok(), silence == "stream", "{told:?}");
            if let Err(error) = told {
                assert!(error.to_string().contains("no answer within"), "{silence}: {error}");
                assert_eq!(written(&cloud, &spec, large(1, 80)).await, []);
            }
            assert_once(&cloud, &spec, 81).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_connection_stores_each_row_once() {
    for mode in MODES {
        let (cloud, ways) = behind(mode, Duration::from_secs(10)).await;
        let spec = table("orders", &VERSIONED, 1);
        cloud.ensure_table(&spec).await.unwrap();
        ways[1].delay(Duration::from_millis(20));
        assert_eq!(cloud.write(&spec, large(0, 20)).await.unwrap(), []);
        assert_once(&cloud, &spec, 20).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_silent_or_cut_rest_calls_are_reported_and_the_table_is_made_once() {
    let patience = Duration::from_millis(600);
    let (cloud, ways) = behind(WriteMode::Append, patience).await;
    let spec = table("orders", &VERSIONED, 1);
    for direction in [Direction::Requests, Direction::Answers] {
        ways[0].hold(direction, true);
        let began = Instant::now();
        let error = cloud.ensure_table(&spec).await.unwrap_err();
        assert!(matches!(error, EnsureError::Unavailable(_)), "{error:?}");
        assert!(began.elapsed() < patience * 3, "{:?}", began.elapsed());
        ways[0].freeze_open();
        ways[0].hold(direction, false);
    }
    ways[0].cut_after(Direction::Answers, 100);
    let error = cloud.ensure_table(&spec).await.unwrap_err();
    assert!(matches!(error, EnsureError::Unavailable(_)), "{error:?}");
    let busy = RestFault { status: 429, body: String::new() };
    cloud.control().fail_rest(1, &busy);
    let error = cloud.ensure_table(&spec).await.unwrap_err();
    assert!(matches!(error, EnsureError::Unavailable(_)), "{error:?}");
    ways[0].delay(Duration::from_millis(20));
    // Whatever of it was done before its answer was lost.
    cloud.ensure_table(&spec).await.unwrap();
    assert_eq!(cloud.ensure_table(&spec).await.unwrap(), Ensured::default());
}
