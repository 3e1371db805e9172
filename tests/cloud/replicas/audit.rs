//! `kappa audit` with all three services.

use super::*;

/// Returns the services after a daemon has processed some events, and the events.
async fn worked_off(mode: &str) -> (Services, Vec<Event>) {
    let services = Services::start().await;
    services.configure(
        "dataset = 'd'",
        &format!("dataset = 'd'\nmode = '{mode}'\nmax_staleness = '0s'"),
    );
    let events = generated(300);
    services.publish(&events);
    let mut daemon = services.daemon("one");
    services.until_acknowledged(events.len()).await;
    assert_eq!(daemon.stop(Signal::TERM), Some(0));
    (services, events)
}

/// Runs an audit; returns whether it is clean, and its output.
async fn audit(services: &Services, more: &str) -> (bool, String) {
    let Output { status, stdout, stderr } = services.output(&format!("audit{more}"), b"").await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let told = format!("{}{}", text(stdout), text(stderr));
    assert!(matches!(status.code(), Some(0 | 1)), "{told}");
    (status.success(), told)
}

async fn change(services: &Services, sql: &str) {
    let url = format!("{}/bigquery/v2/projects/p/queries", services.bigquery.rest_endpoint());
    let body = json!({ "query": sql, "useLegacySql": false }).to_string();
    let answer = reqwest::Client::new().post(url).body(body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

fn missing(told: &str) -> Vec<Vec<&str>> {
    let lines = told.lines().filter(|line| line.starts_with("missing\t"));
    lines.map(|line| line.split('\t').collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn upserts_are_audited_and_a_table_that_is_gone_misses_its_rows() {
    let (services, events) = worked_off("upsert").await;
    let valid = events.iter().filter(|event| event.expected.defect.is_none()).count();
    let (clean, told) = audit(&services, "").await;
    assert!(clean && told.contains(&format!(", {valid} events, {valid} rows, ")), "{told}");
    let users = services.bigquery.control().rows("p.d.users").len();
    services.bigquery.control().delete_table("p.d.users");
    let (clean, told) = audit(&services, "").await;
    let rows = missing(&told);
    assert!(!clean && rows.len() == users && rows.iter().all(|row| row[2] == "users"), "{told}");
    assert!(told.contains("table users: none of the rows"), "{told}");
    // A table that may be stale does not show recent rows.
    let (clean, told) = audit(&services, " --set warehouse.bigquery.max_staleness=1h").await;
    assert!(clean && told.contains("left out\t") && told.contains("max_staleness is 1h"), "{told}");
    // Messages that wait for the subscription are left out, as are messages that were published beside it.
    services.publish(&events[..1]);
    let (clean, told) = audit(&services, "").await;
    assert!(clean && told.contains("not acknowledged"), "{told}");
    assert_eq!(services.pubsub.control().snapshots(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_are_audited_as_their_view_shows_them() {
    let (services, events) = worked_off("append").await;
    let order = events.iter().find(|event| {
        event.expected.defect.is_none()
            && std::str::from_utf8(&event.payload).unwrap().contains("\"order.")
    });
    let id = order.unwrap().expected.id.to_string();
    // The table has the row once more, and the view shows one.
    change(
        &services,
        &format!("INSERT INTO `p.d.orders` SELECT * FROM `p.d.orders` WHERE event_id = '{id}'"),
    )
    .await;
    let (clean, told) = audit(&services, "").await;
    assert!(clean, "{told}");
    change(&services, &format!("DELETE FROM `p.d.orders` WHERE event_id = '{id}'")).await;
    let (clean, told) = audit(&services, "").await;
    let rows = missing(&told);
    assert!(!clean && rows.len() == 1, "{told}");
    assert_eq!((rows[0][2], rows[0][4]), ("orders", &*id));
    assert!(rows[0][3].starts_with(&format!("event_id={id}, event_timestamp=")), "{told}");
}
