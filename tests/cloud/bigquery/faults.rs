//! What goes wrong between the daemon and the Storage Write API.
//!
//! Every test ends with the oracle: a reader sees every row once, and the server was never sent
//! different rows at a used offset.

use kappa_test_servers::bigquery::AppendFault;
use proptest::prelude::*;
use tonic::Code;

use super::*;

pub(super) const MODES: [WriteMode; 2] = [WriteMode::Upsert, WriteMode::Append];

/// Writes until the warehouse takes the rows; a table that is gone is made again.
pub(super) async fn written(
    cloud: &Cloud,
    spec: &Arc<TableSpec>,
    rows: Arc<Vec<Row>>,
) -> Vec<Refusal> {
    for _ in 0..50 {
        match cloud.write(spec, Arc::clone(&rows)).await {
            Ok(written) => return written.refusals,
            Err(WriteError::Gone(_)) => drop(cloud.ensure_table(spec).await),
            Err(WriteError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    panic!("never taken");
}

async fn ready(mode: WriteMode) -> (Cloud, Arc<TableSpec>) {
    let cloud = Cloud::start(mode).await;
    let spec = table("orders", &VERSIONED, 1);
    cloud.ensure_table(&spec).await.unwrap();
    (cloud, spec)
}

/// Each of `count` rows is there once; in append mode in the table itself, not only in its view.
pub(super) async fn assert_once(cloud: &Cloud, spec: &TableSpec, count: usize) {
    let ids: Vec<_> = cloud.said(spec).await.into_iter().map(|(id, _)| id).collect();
    let expected: Vec<_> = (0..count).map(|n| format!("{n:06}")).collect();
    assert_eq!(ids, expected);
    if cloud.mode == WriteMode::Append {
        assert_eq!(cloud.control().appended_count("p.d.orders"), count);
    }
    assert_eq!(cloud.control().violations(), [""; 0]);
}

/// Rows of about 100 kB: a call of them is several requests.
pub(super) fn large(first: usize, count: usize) -> Arc<Vec<Row>> {
    let words = "x".repeat(100_000);
    Arc::new((first..first + count).map(|n| said(&format!("{n:06}"), &words, 1)).collect())
}

#[tokio::test]
async fn what_passes_is_not_even_noticed_and_what_lasts_is_unavailable() {
    let codes = [Code::Unavailable, Code::Aborted, Code::Internal, Code::DeadlineExceeded];
    for mode in MODES {
        for fault in
            codes.map(AppendFault::EndsWith).into_iter().chain(codes.map(AppendFault::Answers))
        {
            let (cloud, spec) = ready(mode).await;
            cloud.control().fail_appends(1, fault);
            assert_eq!(cloud.write(&spec, many(0, 3)).await.unwrap(), [], "{mode:?} {fault:?}");
            cloud.control().fail_appends(2, fault);
            let error = cloud.write(&spec, many(3, 3)).await.unwrap_err();
            assert!(matches!(error, WriteError::Unavailable(_)), "{mode:?} {fault:?}: {error}");
            assert_eq!(written(&cloud, &spec, many(3, 3)).await, []);
            assert_once(&cloud, &spec, 6).await;
        }
    }
}

#[tokio::test]
async fn rows_that_are_stored_unanswered_are_not_doubled() {
    for mode in MODES {
        let (cloud, spec) = ready(mode).await;
        cloud.control().fail_appends(1, AppendFault::LosesAnswer);
        assert_eq!(cloud.write(&spec, many(0, 3)).await.unwrap(), []);
        // The second answer is lost too: the caller hears of trouble, and comes with more rows.
        cloud.control().fail_appends(1, AppendFault::LosesAnswer);
        cloud.control().fail_appends(1, AppendFault::EndsWith(Code::Unavailable));
        let error = cloud.write(&spec, many(3, 3)).await.unwrap_err();
        assert!(matches!(error, WriteError::Unavailable(_)), "{error}");
        assert_eq!(written(&cloud, &spec, many(3, 5)).await, []);
        assert_once(&cloud, &spec, 8).await;
    }
}

/// The second answer is a clear no, but only to the second sending.
#[tokio::test]
async fn a_refused_repeat_does_not_double_rows_that_its_first_sending_stored() {
    for code in [Code::ResourceExhausted, Code::PermissionDenied, Code::FailedPrecondition] {
        let (cloud, spec) = ready(WriteMode::Append).await;
        cloud.control().fail_appends(1, AppendFault::LosesAnswer);
        cloud.control().fail_appends(1, AppendFault::Answers(code));
        // The length of a stream that may be gone settles the rows at once.
        let outcome = cloud.write(&spec, many(0, 3)).await;
        assert_eq!(outcome.is_err(), code == Code::ResourceExhausted, "{outcome:?}");
        let rest = if outcome.is_ok() { many(3, 1) } else { many(0, 4) };
        assert_eq!(written(&cloud, &spec, rest).await, []);
        assert_once(&cloud, &spec, 4).await;
    }
}

#[tokio::test]
async fn refused_rows_are_named_and_take_no_neighbour_with_them() {
    for mode in MODES {
        let (cloud, spec) = ready(mode).await;
        cloud.control().refuse_rows("p.d.orders", "said", "bad");
        let mut rows = Vec::clone(&large(0, 60));
        for at in [7, 8, 31, 59] {
            rows[at] = said(&format!("{at:06}"), "bad", 1);
        }
        let refusals = cloud.write(&spec, Arc::new(rows)).await.unwrap().refusals;
        let refused: Vec<_> = refusals.iter().map(|refusal| refusal.row).collect();
        assert_eq!(refused, [7, 8, 31, 59]);
        assert!(refusals[0].reason.contains("column said is refused"), "{refusals:?}");
        cloud.control().refuse_no_rows();
        let mended = [7, 8, 31, 59].map(|at| said(&format!("{at:06}"), "good", 1));
        assert_eq!(cloud.write(&spec, Arc::new(mended.to_vec())).await.unwrap(), []);
        assert_once(&cloud, &spec, 60).await;
        // A refusal costs no stream: the next rows take the unused offset.
        assert!(cloud.control().streams().len() <= 1, "{:?}", cloud.control().streams());
    }
}

#[tokio::test]
async fn stored_rows_of_a_failed_call_are_not_stored_again() {
    for mode in MODES {
        let (cloud, spec) = ready(mode).await;
        cloud.control().delay_answers(Duration::from_millis(300));
        // Twice as many requests as may be in flight: the second half meets the revocation.
        let rows = large(0, 80);
        let write = cloud.write(&spec, Arc::clone(&rows));
        let revoke = async {
            while cloud.control().appends() < 4 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            cloud.control().revoke(true);
        };
        let (outcome, ()) = futures::join!(write, revoke);
        assert!(matches!(outcome, Err(WriteError::Unavailable(_))), "{outcome:?}");
        let stored = cloud.control().appended_count("p.d.orders");
        assert!(0 < stored && stored < 80, "{stored}");
        cloud.control().revoke(false);
        cloud.control().delay_answers(Duration::ZERO);
        assert_eq!(written(&cloud, &spec, rows).await, []);
        assert_once(&cloud, &spec, 80).await;
    }
}

#[tokio::test]
async fn several_requests_are_in_flight() {
    for mode in MODES {
        let (cloud, spec) = ready(mode).await;
        cloud.write(&spec, many(0, 1)).await.unwrap();
        cloud.control().delay_answers(Duration::from_millis(400));
        let began = std::time::Instant::now();
        assert_eq!(cloud.write(&spec, large(1, 40)).await.unwrap(), []);
        // One after the other, the four requests would take four delays.
        assert!(cloud.control().appends() >= 5 && began.elapsed() < Duration::from_millis(1500));
        assert_once(&cloud, &spec, 41).await;
    }
}

#[tokio::test]
async fn a_connection_that_owes_an_answer_for_too_long_is_replaced() {
    for mode in MODES {
        let shorter = |options: &mut BigQueryOptions| {
            options.request_timeout = Duration::from_millis(300);
        };
        let cloud = Cloud::with(mode, shorter, None).await;
        let spec = table("orders", &VERSIONED, 1);
        cloud.ensure_table(&spec).await.unwrap();
        cloud.control().fail_appends(1, AppendFault::Hangs);
        assert_eq!(cloud.write(&spec, many(0, 3)).await.unwrap(), []);
        assert_once(&cloud, &spec, 3).await;
        assert!(cloud.control().connections().opened >= 2);
    }
}

#[tokio::test]
async fn a_spent_quota_is_waited_for_without_asking() {
    for mode in MODES {
        let (cloud, spec) = ready(mode).await;
        cloud.control().fail_appends(1, AppendFault::Answers(Code::ResourceExhausted));
        let error = cloud.write(&spec, many(0, 3)).await.unwrap_err();
        assert!(matches!(&error, WriteError::Unavailable(_)), "{error}");
        let asked = cloud.control().appends();
        let told = cloud.write(&spec, many(0, 3)).await.unwrap_err().to_string();
        assert!(told.contains("a quota is waited for"), "{told}");
        assert_eq!(cloud.control().appends(), asked);
        assert_eq!(written(&cloud, &spec, many(0, 3)).await, []);
        assert_once(&cloud, &spec, 3).await;
    }
}

#[tokio::test]
async fn a_new_column_that_still_spreads_refuses_no_row() {
    for mode in MODES {
        let (cloud, spec) = ready(mode).await;
        cloud.control().spread_schema_late();
        let columns = [&VERSIONED[..], &[("total", ColumnType::Integer)]].concat();
        let wider = table("orders", &columns, 1);
        assert_eq!(cloud.ensure_table(&wider).await.unwrap().added, ["total"]);
        let wide = |n: usize| {
            let id = format!("{n:06}");
            row([text(&id), text("hello"), version(1), Value::Integer(5)])
        };
        let rows = Arc::new(vec![wide(0), wide(1)]);
        let error = cloud.write(&wider, Arc::clone(&rows)).await.unwrap_err();
        assert!(matches!(error, WriteError::Unavailable(_)), "{error}");
        assert!(error.to_string().contains("still spreads"), "{error}");
        cloud.control().spread_schema();
        assert_eq!(cloud.write(&wider, rows).await.unwrap(), []);
        assert_once(&cloud, &wider, 2).await;
        drop(spec);
    }
}

#[tokio::test]
async fn a_permission_that_is_revoked_is_waited_for_in_words() {
    for mode in MODES {
        let (cloud, spec) = ready(mode).await;
        cloud.write(&spec, many(0, 1)).await.unwrap();
        cloud.control().revoke(true);
        let error = cloud.write(&spec, many(1, 2)).await.unwrap_err();
        assert!(matches!(error, WriteError::Unavailable(_)), "{error}");
        assert!(error.to_string().contains("grant roles/bigquery.dataEditor"), "{error}");
        cloud.control().revoke(false);
        assert_eq!(written(&cloud, &spec, many(1, 2)).await, []);
        assert_once(&cloud, &spec, 3).await;
    }
}

#[tokio::test]
async fn a_table_that_is_deleted_is_gone_until_it_is_made_again() {
    for mode in MODES {
        let (cloud, spec) = ready(mode).await;
        cloud.write(&spec, many(0, 5)).await.unwrap();
        cloud.control().delete_table("p.d.orders");
        let error = cloud.write(&spec, many(0, 2)).await.unwrap_err();
        assert!(matches!(error, WriteError::Gone(_)), "{error}");
        assert_eq!(written(&cloud, &spec, many(0, 2)).await, []);
        assert_once(&cloud, &spec, 2).await;
    }
}

#[tokio::test]
async fn a_stream_finalized_elsewhere_is_replaced_and_its_rows_are_known() {
    let (cloud, spec) = ready(WriteMode::Append).await;
    cloud.write(&spec, many(0, 2)).await.unwrap();
    // Stored, not answered, and then the stream ends: only its length shows it.
    cloud.control().fail_appends(1, AppendFault::LosesAnswer);
    cloud.control().fail_appends(1, AppendFault::EndsWith(Code::Unavailable));
    cloud.write(&spec, many(2, 2)).await.unwrap_err();
    let stream = cloud.control().streams()[0].name.clone();
    finalize(&cloud, &stream).await;
    assert_eq!(written(&cloud, &spec, many(2, 4)).await, []);
    assert_once(&cloud, &spec, 6).await;
    assert_eq!(cloud.control().streams().len(), 2);
}

#[tokio::test]
async fn rows_go_to_no_other_stream_until_an_ended_one_reports_its_length() {
    let (cloud, spec) = ready(WriteMode::Append).await;
    cloud.write(&spec, many(0, 2)).await.unwrap();
    cloud.control().fail_appends(1, AppendFault::LosesAnswer);
    cloud.control().fail_appends(1, AppendFault::EndsWith(Code::Unavailable));
    cloud.write(&spec, many(2, 2)).await.unwrap_err();
    let stream = cloud.control().streams()[0].name.clone();
    finalize(&cloud, &stream).await;
    cloud.control().fail_finalizing(2);
    let error = cloud.write(&spec, many(2, 2)).await.unwrap_err();
    assert!(error.to_string().contains("does not report its length"), "{error}");
    assert_eq!(written(&cloud, &spec, many(2, 4)).await, []);
    assert_once(&cloud, &spec, 6).await;
}

#[tokio::test]
async fn streams_that_take_no_rows_are_not_made_without_end() {
    let (cloud, spec) = ready(WriteMode::Append).await;
    cloud.control().fail_appends(20, AppendFault::Answers(Code::OutOfRange));
    let error = cloud.write(&spec, many(0, 2)).await.unwrap_err();
    assert!(error.to_string().contains("streams took none of the rows"), "{error}");
    assert!(cloud.control().streams().len() < 6);
    assert_eq!(written(&cloud, &spec, many(0, 2)).await, []);
    assert_once(&cloud, &spec, 2).await;
}

async fn finalize(cloud: &Cloud, stream: &str) {
    use gcp_bigquery_client::google::cloud::bigquery::storage::v1 as api;
    let client =
        api::big_query_write_client::BigQueryWriteClient::connect(cloud.server.grpc_endpoint());
    let request = api::FinalizeWriteStreamRequest { name: stream.to_owned() };
    client.await.unwrap().finalize_write_stream(request).await.unwrap();
}

#[tokio::test]
async fn a_write_that_is_cancelled_loses_no_row_and_uses_no_offset_twice() {
    for mode in MODES {
        let (cloud, spec) = ready(mode).await;
        cloud.control().delay_answers(Duration::from_millis(200));
        let write = cloud.write(&spec, large(0, 30));
        drop(tokio::time::timeout(Duration::from_millis(100), write).await);
        assert_eq!(written(&cloud, &spec, large(0, 30)).await, []);
        assert_once(&cloud, &spec, 30).await;
    }
}

fn faults() -> impl Strategy<Value = Vec<Option<AppendFault>>> {
    let fault = prop_oneof![
        4 => Just(None),
        1 => Just(Some(AppendFault::LosesAnswer)),
        1 => Just(Some(AppendFault::EndsWith(Code::Unavailable))),
        1 => Just(Some(AppendFault::Answers(Code::Aborted))),
        1 => Just(Some(AppendFault::Answers(Code::ResourceExhausted))),
        1 => Just(Some(AppendFault::Hangs)),
    ];
    prop::collection::vec(fault, 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 12, failure_persistence: None, ..ProptestConfig::default()
    })]

    /// Whatever goes wrong in whatever order: each row once, the bad ones named.
    #[test]
    fn no_order_of_faults_loses_or_doubles_a_row(
        faults in faults(),
        bad in prop::collection::btree_set(0_usize..90, 0..6),
        appends in any::<bool>(),
    ) {
        let mode = if appends { WriteMode::Append } else { WriteMode::Upsert };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let quick = |options: &mut BigQueryOptions| {
                options.request_timeout = Duration::from_millis(100);
                options.quota_backoff = Duration::from_millis(10);
            };
            let cloud = Cloud::with(mode, quick, None).await;
            let spec = table("orders", &VERSIONED, 1);
            cloud.ensure_table(&spec).await.unwrap();
            cloud.control().refuse_rows("p.d.orders", "said", "bad");
            for fault in faults.into_iter().rev().flatten() {
                cloud.control().fail_appends(1, fault);
            }
            let mut refused = Vec::new();
            for first in [0, 30, 60] {
                let mut rows = Vec::clone(&large(first, 30));
                for &at in bad.range(first..first + 30) {
                    rows[at - first] = said(&format!("{at:06}"), "bad", 1);
                }
                let refusals = written(&cloud, &spec, Arc::new(rows)).await;
                refused.extend(refusals.iter().map(|refusal| refusal.row + first));
            }
            assert!(refused.iter().eq(&bad), "{refused:?} {bad:?}");
            cloud.control().refuse_no_rows();
            let mended: Vec<_> = bad.iter().map(|at| said(&format!("{at:06}"), "x", 1)).collect();
            assert_eq!(written(&cloud, &spec, Arc::new(mended)).await, []);
            assert_once(&cloud, &spec, 90).await;
        });
    }
}
