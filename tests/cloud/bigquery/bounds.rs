//! Rows that the service never takes: partitions out of its bounds, and sizes.

use kappa_actors::port::RefusalKind;

use super::*;

const DAY_MICROS: i64 = 86_400_000_000;

const PARTITIONED: [(&str, ColumnType); 4] = [
    ("id", ColumnType::String),
    ("said", ColumnType::String),
    ("_version", ColumnType::Bytes),
    ("at", ColumnType::Timestamp),
];

fn partitioned() -> Arc<TableSpec> {
    let spec = table("orders", &PARTITIONED, 1);
    Arc::new(TableSpec { partition_by: Some(3), ..TableSpec::clone(&spec) })
}

fn of_day(n: usize, days: i64) -> Row {
    let at = Timestamp::from_micros(Timestamp::now().micros() + days * DAY_MICROS);
    row([text(&format!("{n:06}")), text("hello"), version(1), Value::Timestamp(at)])
}

async fn ready(mode: WriteMode) -> (Cloud, Arc<TableSpec>) {
    let cloud = Cloud::start(mode).await;
    let spec = partitioned();
    cloud.ensure_table(&spec).await.unwrap();
    (cloud, spec)
}

/// The undocumented form of the service's answer: with the rows named or not, in an answer or as the
/// end of the connection.
const ANSWERS: [(bool, bool); 3] = [(false, false), (true, false), (true, true)];

#[tokio::test]
async fn rows_of_partitions_out_of_bounds_are_refused_and_their_neighbours_written() {
    for mode in [WriteMode::Upsert, WriteMode::Append] {
        for (unnamed, by_status) in ANSWERS {
            let (cloud, spec) = ready(mode).await;
            cloud.control().name_no_rows(unnamed);
            cloud.control().refuse_by_status(by_status);
            let days = [0, -23_000, -1, -1_830, 370, 12, 4_000, -1_820];
            let rows: Vec<_> = days.iter().enumerate().map(|(n, &d)| of_day(n, d)).collect();
            let refusals = cloud.write(&spec, Arc::new(rows)).await.unwrap().refusals;
            let refused: Vec<_> = refusals.iter().map(|refusal| refusal.row).collect();
            assert_eq!(refused, [1, 3, 4, 6], "{mode:?} {unnamed} {by_status}");
            for refusal in &refusals {
                assert!(refusal.reason.contains("outside the allowed bounds"), "{refusals:?}");
                assert!(refusal.reason.contains("column at"), "{refusals:?}");
                assert_eq!(refusal.kind, RefusalKind::Partition);
            }
            let ids: Vec<_> = cloud.said(&spec).await.into_iter().map(|(id, _)| id).collect();
            assert_eq!(ids, ["000000", "000002", "000005", "000007"]);
            assert_eq!(cloud.control().violations(), [""; 0]);
        }
    }
}

#[tokio::test]
async fn a_batch_of_old_rows_costs_few_requests_and_no_wait_although_none_is_named() {
    for mode in [WriteMode::Upsert, WriteMode::Append] {
        let (cloud, spec) = ready(mode).await;
        cloud.control().name_no_rows(true);
        let rows: Vec<_> = (0..200).map(|n| of_day(n, -20_000)).collect();
        let refusals = cloud.write(&spec, Arc::new(rows)).await.unwrap().refusals;
        assert_eq!(refusals.len(), 200);
        assert!(cloud.control().appends() <= 3, "{}", cloud.control().appends());
        assert!(refusals[0].reason.contains("load such rows by a job"), "{refusals:?}");
        let rows = Arc::new(vec![of_day(900, 0)]);
        assert_eq!(cloud.write(&spec, rows).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_row_of_the_service_s_limit_is_taken_and_one_above_it_is_refused() {
    for mode in [WriteMode::Upsert, WriteMode::Append] {
        let cloud = Cloud::start(mode).await;
        let spec = table("orders", &VERSIONED, 1);
        cloud.ensure_table(&spec).await.unwrap();
        let sized = |size: usize| {
            let rows = vec![
                said("000000", "small", 1),
                said("large", &"x".repeat(size), 1),
                said("000001", "small", 1),
            ];
            cloud.write(&spec, Arc::new(rows))
        };
        assert_eq!(sized(19_900_000).await.unwrap(), []);
        let refusals = sized(20_000_000).await.unwrap().refusals;
        assert_eq!(refusals.len(), 1);
        assert!(refusals[0].row == 1 && refusals[0].reason.contains("at most"), "{refusals:?}");

        // A service that takes less than it documents reports it.
        cloud.control().limit_requests(10_485_760);
        let refusals = sized(11_000_000).await.unwrap().refusals;
        assert_eq!(refusals.len(), 1);
        assert!(refusals[0].row == 1 && refusals[0].reason.contains("too large"), "{refusals:?}");
        assert_eq!(cloud.control().violations(), [""; 0]);
    }
}

#[tokio::test]
async fn a_row_is_not_refused_for_another_commit_s_row_on_the_same_connection() {
    let (cloud, spec) = ready(WriteMode::Upsert).await;
    cloud.control().name_no_rows(true);
    cloud.control().refuse_by_status(true);
    cloud.write(&spec, Arc::new(vec![of_day(0, 0)])).await.unwrap();
    for round in 1..6 {
        cloud.control().delay_answers(Duration::from_millis(30));
        let old = cloud.write(&spec, Arc::new(vec![of_day(900, -20_000)]));
        let good = cloud.write(&spec, Arc::new(vec![of_day(round, 0)]));
        let (old, good) = futures::join!(old, good);
        assert_eq!(old.unwrap().refusals.len(), 1);
        assert_eq!(good.unwrap(), []);
    }
    assert_eq!(cloud.said(&spec).await.len(), 6);
}

#[tokio::test]
async fn a_table_that_another_changed_meanwhile_is_looked_at_again() {
    let (cloud, _) = ready(WriteMode::Upsert).await;
    let columns = [&PARTITIONED[..], &[("total", ColumnType::Integer)]].concat();
    let wider = table("orders", &columns, 1);
    let wider = TableSpec { partition_by: Some(3), ..TableSpec::clone(&wider) };
    cloud.control().overtake_patch("p.d.orders");
    assert_eq!(cloud.ensure_table(&wider).await.unwrap().added, ["total"]);
    let patches = cloud.control().requests();
    let patches = patches.iter().filter(|request| request.starts_with("PATCH")).count();
    assert_eq!(patches, 2);
    // Others may change it again and again: that is reported, and nothing is overwritten.
    let columns = [&columns[..], &[("more", ColumnType::Integer)]].concat();
    let widest = table("orders", &columns, 1);
    (0..20).for_each(|_| cloud.control().overtake_patch("p.d.orders"));
    let error = cloud.ensure_table(&widest).await.unwrap_err();
    assert!(matches!(&error, EnsureError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("changed by others"), "{error}");
}
