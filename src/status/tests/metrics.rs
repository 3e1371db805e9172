//! What `/metrics` shows, and how its figures agree with `/status`.

use std::collections::HashSet;

use kappa_actors::port::Backlog;
use kappa_actors::vitals::{OnLoan, Outcome, Step};

use super::*;

/// The samples of a text, by their series.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series, value.parse().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn metrics_are_prometheus_text_with_units_and_labels() {
    let served = served(options(), Answer::Takes).await;
    let counters = served.board.counters();
    counters.received.add(7);
    counters.rows("orders").add(5);
    counters.in_flight_bytes.set(1_024);
    let too_large = Refusal { row: 0, kind: RefusalKind::TooLarge, reason: "3".to_owned() };
    let class = FaultClass::refused("orders", &dead_letter_table::spec(), &too_large);
    (0..2).for_each(|_| counters.count_letter(Stage::Write, &class));
    let writer = served.board.actor("kappa/warehouse/writer.orders", "writer");
    writer.set_state(ActorState::Running);
    writer.handled(5);
    let (status, text) = served.get("/metrics").await;
    assert_eq!(status, 200);

    let labels = r#"{actor="kappa/warehouse/writer.orders",kind="writer"}"#;
    for line in [
        "# TYPE kappa_received_messages_total counter".to_owned(),
        "kappa_received_messages_total 7".to_owned(),
        r#"kappa_rows_total{table="orders"} 5"#.to_owned(),
        "kappa_in_flight_bytes 1024".to_owned(),
        format!(r#"kappa_dead_letters_total{{stage="write",class="{class}"}} 2"#),
        r#"kappa_state{state="running"} 1"#.to_owned(),
        r#"kappa_state{state="degraded"} 0"#.to_owned(),
        format!("kappa_actor_events_total{labels} 5"),
        format!("kappa_actor_running{labels} 1"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(samples(&text).keys().all(|series| series.starts_with("kappa_")));
    for line in text.lines().filter(|line| line.ends_with(" counter")) {
        assert!(line.contains("_total counter"), "{line}");
    }
}

#[tokio::test]
async fn every_family_is_described_once_and_before_its_samples() {
    let served = served(options(), Answer::Takes).await;
    let (_, text) = served.get("/metrics").await;
    let mut seen = HashSet::new();
    let mut family = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap();
            assert!(seen.insert(family), "{family}");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(family), "{line} under {family}");
        }
    }
}

#[tokio::test]
async fn ages_commits_and_attempts_are_shown_by_table_and_stage() {
    let served = served(options(), Answer::Takes).await;
    let meter = served.board.table("orders", Some(Duration::from_secs(60)));
    meter.publish_to_row.observe(30_000);
    meter.commit_rows.observe(500);
    let counters = served.board.counters();
    counters.upload_time.observe(7_000_000);
    counters.attempts.add(Step::Commit, Outcome::Unavailable, 3);
    let oldest = Timestamp::now().before(Duration::from_secs(90));
    served.board.set_on_loan(Box::new(move || OnLoan {
        tables: vec![("orders".to_owned(), Some(oldest))],
        ..OnLoan::default()
    }));
    served.board.log_is_empty(Timestamp::now());
    let (_, text) = served.get("/metrics").await;
    let samples = samples(&text);
    for (series, value) in [
        (r#"kappa_publish_to_row_seconds_bucket{table="orders",le="0.02"}"#, 0.0),
        (r#"kappa_publish_to_row_seconds_bucket{table="orders",le="0.05"}"#, 1.0),
        (r#"kappa_publish_to_row_seconds_sum{table="orders"}"#, 0.03),
        (r#"kappa_event_to_row_seconds_count{table="orders"}"#, 0.0),
        (r#"kappa_commit_rows_bucket{table="orders",le="500"}"#, 1.0),
        (r#"kappa_archive_upload_seconds_bucket{le="10"}"#, 1.0),
        (r#"kappa_attempts_total{stage="commit",outcome="unavailable"}"#, 3.0),
        (r#"kappa_attempts_total{stage="pull",outcome="done"}"#, 0.0),
        (r#"kappa_freshness_objective_seconds{table="orders"}"#, 60.0),
        (r#"kappa_freshness_missed_seconds_total{table="orders"}"#, 0.0),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series} in\n{text}");
    }
    let behind = samples[r#"kappa_behind_seconds{table="orders"}"#];
    assert!((90.0..120.0).contains(&behind), "{behind}");
}

#[tokio::test]
async fn no_label_grows_with_the_windows_that_come_and_go() {
    let served = served(options(), Answer::Takes).await;
    let series = async || {
        let (_, text) = served.get("/metrics").await;
        let events = samples(&text)[r#"kappa_actor_events_total{actor="kappa/archive/window",kind="window"}"#];
        let trouble = samples(&text)
            .get(r#"kappa_trouble_waiting_events{actor="kappa/archive/window"}"#)
            .copied();
        (samples(&text).len(), events, trouble)
    };
    let open = |number: usize| {
        let window = served.board.actor(&format!("kappa/archive/window.{number}"), "window");
        window.handled(10);
        window.trouble(format!("disk {number} is full"), 4);
        window
    };
    open(0);
    let (before, ..) = series().await;
    for number in 1..50 {
        let window = open(number);
        if number > 1 {
            served.board.remove(window.path());
        }
    }
    assert_eq!(series().await, (before, 500.0, Some(8.0)));
}

#[tokio::test]
async fn the_backlog_of_an_answer_agrees_with_its_counters() {
    let served = served(options(), Answer::Takes).await;
    served.board.counters().set_backlog(Backlog { messages: Some(33_009), oldest: None });
    served.board.counters().acked.add(33_009);
    for path in ["/status", "/metrics"] {
        let (_, text) = served.get(path).await;
        assert!(!text.contains("33009,\"oldest") && !text.contains("kappa_backlog_messages 33009"));
    }
    let snapshot = served.snapshot().await;
    assert_eq!(snapshot.counters.backlog, Some(0));
}

#[tokio::test]
async fn a_log_that_does_not_answer_stops_no_status_and_its_backlog_shows_its_age() {
    let served = served(options(), Answer::Takes).await;
    served.board.counters().set_backlog(Backlog { messages: Some(7), oldest: None });
    *served.inbox.backlog.lock().unwrap() = None;
    let asked = std::time::Instant::now();
    let snapshots = futures::future::join_all((0..4).map(|_| served.snapshot())).await;
    assert!(asked.elapsed() < Duration::from_secs(5), "none waits for the turns of the others");
    for snapshot in &snapshots {
        assert_eq!(snapshot.counters.backlog, Some(7));
    }
    let age = served.snapshot().await.counters.backlog_age_seconds.unwrap();
    assert!(age >= 0.2, "{age}");
    *served.inbox.backlog.lock().unwrap() = Some(3);
    assert_eq!(served.snapshot().await.counters.backlog, Some(3));
}
