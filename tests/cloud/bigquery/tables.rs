//! How tables are made.

use super::*;

fn orders() -> TableSpec {
    let columns = [
        ("order_id", ColumnType::String),
        ("placed_at", ColumnType::Timestamp),
        ("customer", ColumnType::String),
        ("_version", ColumnType::Bytes),
    ];
    let mut spec = TableSpec::clone(&table("orders", &columns, 1));
    spec.columns[2].description = Some("who ordered".to_owned());
    spec.partition_by = Some(1);
    spec.cluster_by = vec![2];
    spec
}

#[tokio::test]
async fn a_table_is_made_as_configured_in_a_dataset_that_is_made_too() {
    let cloud = Cloud::start(WriteMode::Upsert).await;
    assert!(cloud.ensure_table(&orders()).await.unwrap().created);
    let made = cloud.control().resource("p.d.orders").unwrap();
    assert_eq!(made["timePartitioning"], json!({ "type": "DAY", "field": "placed_at" }));
    assert_eq!(made["clustering"], json!({ "fields": ["customer"] }));
    assert_eq!(made["tableConstraints"], json!({ "primaryKey": { "columns": ["order_id"] } }));
    assert_eq!(made["maxStaleness"], json!("0-0 0 0:10:0"));
    assert_eq!(made["labels"], json!({ "team": "data" }));
    assert_eq!(made["schema"]["fields"][2]["description"], json!("who ordered"));
    let requests = cloud.control().requests();
    assert!(requests.contains(&"POST /bigquery/v2/projects/p/datasets".to_owned()), "{requests:?}");
    // A second look asks and changes nothing.
    assert_eq!(cloud.ensure_table(&orders()).await.unwrap(), Ensured::default());
    assert_eq!(cloud.control().requests().len(), requests.len() + 1);
}

#[tokio::test]
async fn an_appended_table_has_no_key_and_a_view_that_grows_with_it() {
    let cloud = Cloud::start(WriteMode::Append).await;
    let mut spec = orders();
    cloud.ensure_table(&spec).await.unwrap();
    let made = cloud.control().resource("p.d.orders").unwrap();
    assert!(made["tableConstraints"].is_null() && made["maxStaleness"].is_null(), "{made}");
    spec.columns.extend(table("more", &[("total", ColumnType::Numeric)], 0).columns.clone());
    assert_eq!(cloud.ensure_table(&spec).await.unwrap().added, ["total"]);
    let view = cloud.control().resource("p.d.orders_deduplicated").unwrap();
    let query = view["view"]["query"].as_str().unwrap();
    let part = "PARTITION BY `order_id` ORDER BY `_version` DESC";
    assert!(query.contains("`total`") && query.contains(part), "{query}");
}

#[tokio::test]
async fn a_table_of_the_other_mode_is_a_contradiction() {
    let cloud = Cloud::start(WriteMode::Upsert).await;
    cloud.ensure_table(&orders()).await.unwrap();
    let appends = options(&cloud.server, WriteMode::Append);
    let other = BigQueryWarehouse::connect(appends, None).unwrap();
    let told = other.ensure_table(&orders()).await.unwrap_err().to_string();
    assert!(
        told.contains("has the primary key (order_id)") && told.contains("\"upsert\""),
        "{told}"
    );
}

#[tokio::test]
async fn a_table_with_versions_of_another_type_is_refused_with_a_way_out() {
    for mode in [WriteMode::Upsert, WriteMode::Append] {
        let cloud = Cloud::start(mode).await;
        let mut old = orders();
        old.columns[3].kind = ColumnType::Integer;
        cloud.ensure_table(&old).await.unwrap();
        let error = cloud.ensure_table(&orders()).await.unwrap_err();
        assert!(matches!(error, EnsureError::Mismatch(_)), "{error}");
        let told = error.to_string();
        assert!(told.contains("replay the history") && told.contains("older kappa"), "{told}");
    }
}

#[tokio::test]
async fn a_table_is_empty_until_its_first_row_even_where_no_query_sees_it() {
    for mode in [WriteMode::Upsert, WriteMode::Append] {
        let cloud = Cloud::start(mode).await;
        let spec = table("orders", &VERSIONED, 1);
        assert!(cloud.warehouse.is_empty(&spec).await.unwrap());
        cloud.ensure_table(&spec).await.unwrap();
        assert!(cloud.warehouse.is_empty(&spec).await.unwrap());
        cloud.control().hold_changes("p.d.orders", true);
        cloud.write(&spec, many(0, 2)).await.unwrap();
        assert!(!cloud.warehouse.is_empty(&spec).await.unwrap());
        cloud.control().hold_changes("p.d.orders", false);
        assert!(!cloud.warehouse.is_empty(&spec).await.unwrap());
        cloud.control().revoke(true);
        let error = cloud.warehouse.is_empty(&spec).await.unwrap_err();
        assert!(matches!(error, EnsureError::Unavailable(_)), "{error}");
    }
}

#[tokio::test]
async fn another_order_by_is_refused_and_the_same_is_taken() {
    for mode in [WriteMode::Upsert, WriteMode::Append] {
        let long = format!("at TIMESTAMP {}", "x".repeat(2_000));
        let orders =
            [None, Some("at TIMESTAMP {\"from\":\"/a\"}"), Some("n INTEGER"), Some(&*long)];
        for (made, other) in
            orders.iter().flat_map(|made| orders.iter().map(move |other| (made, other)))
        {
            let cloud = Cloud::start(mode).await;
            let with = |order: &Option<&str>| {
                let mut spec = self::orders();
                spec.columns[3].description = Some("the greatest is current".to_owned());
                spec.order_by = order.map(str::to_owned);
                spec
            };
            cloud.ensure_table(&with(made)).await.unwrap();
            let made_as = cloud.control().resource("p.d.orders").unwrap();
            let description = made_as["schema"]["fields"][3]["description"].as_str().unwrap();
            assert!(description.len() < 1_024, "{description}");
            let again = cloud.ensure_table(&with(other)).await;
            if made == other {
                assert_eq!(again.unwrap(), Ensured::default());
            } else {
                let told = again.unwrap_err();
                assert!(matches!(told, EnsureError::Mismatch(_)), "{told}");
                assert!(told.to_string().contains("set order_by back"), "{told}");
            }
        }
    }
}

#[tokio::test]
async fn a_table_that_the_service_would_refuse_is_reported_before_a_request() {
    let cloud = Cloud::start(WriteMode::Upsert).await;
    let names: Vec<String> = (0..18).map(|n| format!("c{n}")).collect();
    let columns: Vec<_> = names.iter().map(|name| (&**name, ColumnType::String)).collect();
    let mut spec = TableSpec::clone(&table("wide", &columns, 17));
    spec.version = Some(17);
    let told = cloud.ensure_table(&spec).await.unwrap_err().to_string();
    assert!(told.contains("a key of 17 columns: at most 16"), "{told}");
}

#[tokio::test]
async fn trouble_over_rest_is_waited_for_and_reported_with_a_hint() {
    let cloud = Cloud::start(WriteMode::Upsert).await;
    cloud.control().revoke(true);
    let error = cloud.ensure_table(&orders()).await.unwrap_err();
    assert!(matches!(error, EnsureError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("grant roles/bigquery.dataEditor on p.d"), "{error}");
    cloud.control().revoke(false);
    let fault = kappa_test_servers::bigquery::RestFault { status: 503, body: String::new() };
    cloud.control().fail_rest(1, &fault);
    let error = cloud.ensure_table(&orders()).await.unwrap_err();
    assert!(matches!(error, EnsureError::Unavailable(_)), "{error}");
    assert!(cloud.ensure_table(&orders()).await.unwrap().created);
}

/// The order of arrival does not matter in either mode.
#[tokio::test]
async fn the_greatest_version_of_a_key_is_current_in_whatever_order_rows_arrive() {
    let ordered = |order: Option<i64>, micros, revision| {
        let position = Position::of("1", Timestamp::from_micros(micros), 0);
        Value::Version(Box::new(Version::new(order, position, revision)))
    };
    for mode in [WriteMode::Upsert, WriteMode::Append] {
        for orders in [[None; 4], [Some(-5), Some(-1), Some(0), Some(i64::MAX)]] {
            // From the least to the greatest: later, of a higher revision, later again.
            let [a, b, c, d] = orders;
            let versions =
                [ordered(a, 1, 9), ordered(b, 2, 0), ordered(c, 2, 1), ordered(d, 1 << 40, 0)];
            let cloud = Cloud::start(mode).await;
            let spec = table("orders", &VERSIONED, 1);
            cloud.ensure_table(&spec).await.unwrap();
            for (key, arrivals) in
                [[0, 1, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1]].into_iter().enumerate()
            {
                for at in arrivals {
                    let says = format!("version {at}");
                    let one = row([text(&key.to_string()), text(&says), versions[at].clone()]);
                    cloud.write(&spec, Arc::new(vec![one])).await.unwrap();
                }
            }
            let current = |key: usize| (key.to_string(), "version 3".to_owned());
            assert_eq!(cloud.said(&spec).await, (0..3).map(current).collect::<Vec<_>>());
        }
    }
}
