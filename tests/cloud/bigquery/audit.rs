//! An audit's queries to BigQuery.

use kappa_actors::port::{AuditError, Auditable, KeyCount};
use kappa_actors::testing::auditable;

use super::*;

fn asked(spec: &Arc<TableSpec>, ids: impl IntoIterator<Item = String>) -> KeyCount {
    let keys = Arc::new(ids.into_iter().map(|id| row([text(&id)])).collect());
    KeyCount { table: Arc::clone(spec), columns: vec![0], keys, near: None }
}

#[tokio::test]
async fn both_modes_answer_an_audit() {
    for mode in [WriteMode::Upsert, WriteMode::Append] {
        let cloud = Cloud::start(mode).await;
        auditable::conforms(&cloud.warehouse, &cloud.warehouse).await;
        assert_eq!(cloud.control().violations(), [""; 0]);
    }
}

#[tokio::test]
async fn a_row_appended_twice_counts_once_in_the_view_and_twice_without_a_key() {
    let cloud = Cloud::start(WriteMode::Append).await;
    let ids = || ["a", "b"].map(str::to_owned);
    for (spec, stand) in [(table("seen", &VERSIONED, 1), 1), (table("added", &VERSIONED, 0), 2)] {
        cloud.ensure_table(&spec).await.unwrap();
        for version in [1, 2] {
            cloud.write(&spec, Arc::new(vec![said("a", "x", version)])).await.unwrap();
        }
        let counts = cloud.warehouse.count(&asked(&spec, ids())).await.unwrap();
        assert_eq!(counts, [stand, 0], "{}", spec.name);
    }
}

#[tokio::test]
async fn a_question_too_large_for_one_request_is_asked_in_several() {
    let cloud = Cloud::start(WriteMode::Upsert).await;
    let spec = table("large", &VERSIONED, 1);
    cloud.ensure_table(&spec).await.unwrap();
    cloud.write(&spec, many(0, 10)).await.unwrap();
    let before = cloud.control().requests().len();
    let long = |n: usize| format!("{n:060000}");
    let ids = (0..200).map(long).chain([String::from("000007"), String::from("000010")]);
    let counts = cloud.warehouse.count(&asked(&spec, ids)).await.unwrap();
    assert_eq!((counts.len(), &counts[199..]), (202, &[0, 1, 0][..]));
    assert_eq!(cloud.control().requests().len() - before, 2);
}

#[tokio::test]
async fn keys_in_the_expected_partition_cost_one_query_and_others_a_second() {
    let cloud = Cloud::start(WriteMode::Upsert).await;
    let columns = [("id", ColumnType::String), ("at", ColumnType::Timestamp)];
    let mut spec = TableSpec::clone(&table("placed", &columns, 1));
    spec.partition_by = Some(1);
    let spec = Arc::new(spec);
    // Of these days: rows of 1970 cannot be streamed into their partitions.
    let today = Timestamp::now().micros() / 86_400_000_000;
    let micros = |day: i64| (today - 9 + day) * 86_400_000_000;
    let at = |day: i64| Value::Timestamp(Timestamp::from_micros(micros(day)));
    cloud.ensure_table(&spec).await.unwrap();
    let rows = (0..5).map(|day| row([text(&day.to_string()), at(day)]));
    cloud.write(&spec, Arc::new(rows.collect())).await.unwrap();
    for (ids, counts, queries) in [(["1", "2"], [1, 1], 1), (["1", "4"], [1, 1], 2)] {
        let before = cloud.control().requests().len();
        let near = Some((at(1), at(3)));
        let asked = KeyCount { near, ..asked(&spec, ids.map(str::to_owned)) };
        assert_eq!(cloud.warehouse.count(&asked).await.unwrap(), counts);
        assert_eq!(cloud.control().requests().len() - before, queries);
    }
}

#[tokio::test]
async fn a_query_that_failed_and_was_answered_with_success_is_no_clean_audit() {
    let cloud = Cloud::start(WriteMode::Upsert).await;
    let spec = table("t", &VERSIONED, 1);
    cloud.ensure_table(&spec).await.unwrap();
    for rows in [json!(null), json!([])] {
        let errors = [json!({ "reason": "invalidQuery", "message": "not understood" })];
        let body = json!({ "jobComplete": true, "rows": rows, "errors": errors }).to_string();
        let fault = kappa_test_servers::bigquery::RestFault { status: 200, body };
        cloud.control().fail_rest(1, &fault);
        let told = cloud.warehouse.count(&asked(&spec, ["a".to_owned()])).await.unwrap_err();
        assert!(told.to_string().contains("not understood"), "{told}");
    }
}

#[tokio::test]
async fn trouble_is_sorted_by_whether_asking_again_helps() {
    let cloud = Cloud::start(WriteMode::Upsert).await;
    let spec = table("t", &VERSIONED, 1);
    let ask = || async { cloud.warehouse.count(&asked(&spec, ["a".to_owned()])).await };
    assert_eq!(ask().await.unwrap(), [0]);
    let fault = kappa_test_servers::bigquery::RestFault { status: 503, body: String::new() };
    cloud.control().fail_rest(1, &fault);
    assert!(matches!(ask().await, Err(AuditError::Unavailable(_))));
    cloud.control().revoke(true);
    let told = ask().await.unwrap_err();
    assert!(matches!(&told, AuditError::Mismatch(says) if says.contains("grant")), "{told}");
}

#[tokio::test]
async fn only_upserts_may_be_stale_and_letters_are_not() {
    let cloud = Cloud::start(WriteMode::Upsert).await;
    let stale = |spec: &TableSpec| cloud.warehouse.staleness(spec).as_secs();
    assert_eq!(stale(&table("t", &VERSIONED, 1)), 600);
    assert_eq!(stale(&table("t", &VERSIONED, 0)), 0);
    assert_eq!(stale(&kappa_actors::dead_letter_table::spec()), 0);
    let appends = Cloud::start(WriteMode::Append).await;
    assert_eq!(appends.warehouse.staleness(&table("t", &VERSIONED, 1)).as_secs(), 0);
}
