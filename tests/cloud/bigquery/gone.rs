//! Tables and streams that are gone, however the service reports it, and rows that it refuses
//! without naming them.

use kappa_test_servers::bigquery::AppendFault;
use tonic::Code;

use super::faults::{MODES, assert_once, written};
use super::*;

/// How the server refuses: in an answer, by the status of the call, or as if permission lacked.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Refuses {
    InTheStream,
    ByStatus,
    AsDenied,
    AsDeniedByStatus,
}

const REFUSES: [Refuses; 4] =
    [Refuses::InTheStream, Refuses::ByStatus, Refuses::AsDenied, Refuses::AsDeniedByStatus];

async fn ready(mode: WriteMode, how: Refuses, spread: Duration) -> (Cloud, Arc<TableSpec>) {
    let cloud = Cloud::with(mode, |options| options.schema_spread = spread, None).await;
    let spec = table("orders", &VERSIONED, 1);
    cloud.ensure_table(&spec).await.unwrap();
    let by_status = matches!(how, Refuses::ByStatus | Refuses::AsDeniedByStatus);
    cloud.control().refuse_by_status(by_status);
    cloud
        .control()
        .hide_missing_tables(matches!(how, Refuses::AsDenied | Refuses::AsDeniedByStatus));
    (cloud, spec)
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn rows_for_a_dropped_table_are_written_once_it_is_made_again() {
    for mode in MODES {
        for how in REFUSES {
            let (cloud, spec) = ready(mode, how, MINUTE).await;
            cloud.write(&spec, many(0, 5)).await.unwrap();
            cloud.control().delete_table("p.d.orders");
            let error = cloud.write(&spec, many(0, 2)).await.unwrap_err();
            assert!(matches!(error, WriteError::Gone(_)), "{mode:?} {how:?}: {error}");
            assert_eq!(written(&cloud, &spec, many(0, 2)).await, []);
            assert_once(&cloud, &spec, 2).await;
        }
    }
}

/// Another replica made it again: this one's stream is gone all the same.
#[tokio::test]
async fn rows_go_to_a_new_stream_where_the_table_was_made_again_by_others() {
    for how in REFUSES {
        let (cloud, spec) = ready(WriteMode::Append, how, MINUTE).await;
        cloud.write(&spec, many(0, 5)).await.unwrap();
        cloud.control().delete_table("p.d.orders");
        cloud.ensure_table(&spec).await.unwrap();
        assert_eq!(written(&cloud, &spec, many(0, 3)).await, [], "{how:?}");
        assert_once(&cloud, &spec, 3).await;
    }
}

#[tokio::test]
async fn a_stream_alone_that_is_gone_is_replaced() {
    for how in [Refuses::InTheStream, Refuses::ByStatus] {
        let (cloud, spec) = ready(WriteMode::Append, how, MINUTE).await;
        cloud.write(&spec, many(0, 5)).await.unwrap();
        cloud.control().forget_streams();
        assert_eq!(written(&cloud, &spec, many(5, 3)).await, [], "{how:?}");
        assert_once(&cloud, &spec, 8).await;
    }
}

/// The rows are stored, the answer is lost, and the next call ends: the length of the stream decides.
#[tokio::test]
async fn a_stream_whose_every_call_ends_is_replaced_and_its_rows_are_known() {
    for code in [Code::FailedPrecondition, Code::AlreadyExists, Code::OutOfRange] {
        for fault in [AppendFault::EndsWith(code), AppendFault::Answers(code)] {
            if fault == AppendFault::Answers(Code::AlreadyExists) {
                // A plain success.
                continue;
            }
            let (cloud, spec) = ready(WriteMode::Append, Refuses::ByStatus, MINUTE).await;
            cloud.write(&spec, many(0, 2)).await.unwrap();
            cloud.control().fail_appends(1, AppendFault::LosesAnswer);
            cloud.control().fail_appends(1, AppendFault::EndsWith(Code::Unavailable));
            cloud.write(&spec, many(2, 2)).await.unwrap_err();
            cloud.control().fail_appends(1, fault);
            assert_eq!(written(&cloud, &spec, many(2, 4)).await, [], "{fault:?}");
            assert_once(&cloud, &spec, 6).await;
            assert_eq!(cloud.control().streams().len(), 2, "{fault:?}");
        }
    }
}

#[tokio::test]
async fn rows_stored_unanswered_stay_known_however_often_the_rest_of_their_call_fails() {
    let (cloud, spec) = ready(WriteMode::Append, Refuses::InTheStream, MINUTE).await;
    cloud.write(&spec, many(0, 1)).await.unwrap();
    cloud.control().fail_appends(1, AppendFault::LosesAnswer);
    cloud.control().fail_appends(1, AppendFault::EndsWith(Code::Unavailable));
    cloud.write(&spec, many(1, 2)).await.unwrap_err();
    // The first append settles the rows in doubt, the second is of the new rows.
    cloud.control().fail_appends(1, AppendFault::Answers(Code::AlreadyExists));
    cloud.control().fail_appends(1, AppendFault::Answers(Code::ResourceExhausted));
    cloud.write(&spec, many(1, 4)).await.unwrap_err();
    assert_eq!(written(&cloud, &spec, many(1, 4)).await, []);
    assert_once(&cloud, &spec, 5).await;
}

/// `count` rows, of which those at `bad` are refused.
fn with_bad(count: usize, bad: &[usize]) -> Arc<Vec<Row>> {
    let mut rows = Vec::clone(&many(0, count));
    for &at in bad {
        rows[at] = said(&format!("{at:06}"), "poison", 1);
    }
    Arc::new(rows)
}

const HOWS: [Refuses; 2] = [Refuses::InTheStream, Refuses::ByStatus];

#[tokio::test]
async fn rows_refused_without_a_name_take_no_neighbour_with_them() {
    for mode in MODES {
        for how in HOWS {
            let (cloud, spec) = ready(mode, how, MINUTE).await;
            cloud.control().refuse_rows("p.d.orders", "said", "poison");
            cloud.control().name_no_rows(true);
            let rows = with_bad(40, &[7, 8, 31]);
            for _ in 0..3 {
                // The schema may still spread: they wait, and are shown as trouble.
                let error = cloud.write(&spec, Arc::clone(&rows)).await.unwrap_err();
                assert!(matches!(error, WriteError::Unavailable(_)), "{mode:?} {how:?}: {error}");
                assert!(error.to_string().contains("still spreads"), "{error}");
                assert!(error.to_string().contains("Invalid value"), "{error}");
                assert_eq!(cloud.said(&spec).await.len(), 37, "{mode:?} {how:?}");
            }
            cloud.control().refuse_no_rows();
            assert_eq!(written(&cloud, &spec, with_bad(40, &[7, 8, 31])).await, []);
            assert_once(&cloud, &spec, 40).await;
        }
    }
}

#[tokio::test]
async fn a_row_that_is_refused_alone_for_long_is_a_refusal_in_the_services_words() {
    for mode in MODES {
        for how in HOWS {
            let (cloud, spec) = ready(mode, how, Duration::from_millis(150)).await;
            cloud.control().refuse_rows("p.d.orders", "said", "poison");
            cloud.control().name_no_rows(true);
            let rows = with_bad(40, &[0, 20, 39]);
            cloud.write(&spec, Arc::clone(&rows)).await.unwrap_err();
            let refusals = written(&cloud, &spec, rows).await;
            let refused: Vec<_> = refusals.iter().map(|refusal| refusal.row).collect();
            assert_eq!(refused, [0, 20, 39], "{mode:?} {how:?}");
            assert!(refusals[0].reason.contains("Invalid value"), "{refusals:?}");
            cloud.control().refuse_no_rows();
            let mended = [0, 20, 39].map(|at| said(&format!("{at:06}"), "good", 1));
            assert_eq!(written(&cloud, &spec, Arc::new(mended.to_vec())).await, []);
            assert_once(&cloud, &spec, 40).await;
        }
    }
}

#[tokio::test]
async fn where_every_row_is_refused_few_requests_are_sent_and_none_becomes_a_dead_letter() {
    for mode in MODES {
        let (cloud, spec) = ready(mode, Refuses::InTheStream, MINUTE).await;
        cloud.control().refuse_rows("p.d.orders", "said", "hello");
        cloud.control().name_no_rows(true);
        let before = cloud.control().appends();
        let error = cloud.write(&spec, many(0, 500)).await.unwrap_err();
        assert!(matches!(error, WriteError::Unavailable(_)), "{error}");
        let asked = cloud.control().appends() - before;
        assert!(asked < 30, "{mode:?}: {asked}");
        cloud.control().refuse_no_rows();
        assert_eq!(written(&cloud, &spec, many(0, 500)).await, []);
        assert_once(&cloud, &spec, 500).await;
    }
}
