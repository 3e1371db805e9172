//! History on Google Cloud: seeks and replays, with the command as a process.

mod imports;

use std::collections::BTreeMap;

use kappa_actors::time::Timestamp;
use rustix::process::Signal;
use serde_json::{Map, Value};

use super::replicas::{Services, TOPIC, generated};

/// The services with this many events in them, all worked off by a daemon that has stopped.
async fn with_history(events: usize) -> (Services, Vec<kappa::generate::Event>) {
    let services = Services::start().await;
    services.pubsub.control().keep(TOPIC, 86_400);
    let events = generated(events);
    services.publish(&events);
    let mut daemon = services.daemon("one");
    services.until_acknowledged(events.len()).await;
    assert_eq!(daemon.stop(Signal::TERM), Some(0));
    (services, events)
}

/// The versions of a table's rows, by event.
fn versions(services: &Services, table: &str) -> BTreeMap<String, Value> {
    let rows = services.current(table);
    let row = |row: Map<String, Value>| {
        (row["event_id"].as_str().unwrap().to_owned(), row["_version"].clone())
    };
    rows.into_iter().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seek_brings_all_again_and_doubles_no_row() {
    let (services, events) = with_history(400).await;
    let before = versions(&services, "orders");
    let sent = services.bigquery.control().appended_count("p.d.orders");
    let hour_ago = Timestamp::from_micros(Timestamp::now().micros() - 3_600_000_000);
    let said = services.run(&format!("seek --time {hour_ago}"), b"").await;
    assert!(said.contains("to be processed\tunknown"), "{said}");
    let acknowledged = services.acknowledged();
    let mut daemon = services.daemon("one");
    services.until_acknowledged(acknowledged + events.len()).await;
    assert_eq!(daemon.stop(Signal::TERM), Some(0));
    services.check(&events);
    assert_eq!(services.bigquery.control().appended_count("p.d.orders"), 2 * sent);
    assert_eq!(versions(&services, "orders"), before, "under the same rules no version changes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_table_shows_the_same_rows_and_its_audit_is_clean() {
    let (services, events) = with_history(400).await;
    let acknowledged = services.acknowledged();
    let hour_ago = Timestamp::from_micros(Timestamp::now().micros() - 3_600_000_000);
    services.run(&format!("seek --time {hour_ago}"), b"").await;
    let mut daemon = services.daemon("one");
    services.until_acknowledged(acknowledged + events.len()).await;
    assert_eq!(daemon.stop(Signal::TERM), Some(0));
    let stored = || services.bigquery.control().rows("p.d.orders").len();
    let (before, twice) = (services.current("orders").len(), stored());
    assert_eq!(twice, 2 * before);
    let dry = services.run("compact orders --to 9999-01-01 --dry-run", b"").await;
    assert!(dry.contains(&format!("to remove\t{before}\n")), "{dry}");
    assert_eq!(stored(), twice);
    let told = services.run("compact orders --to 9999-01-01", b"").await;
    assert!(told.contains(&format!("removed\t{before}\n")), "{told}");
    assert_eq!((stored(), services.current("orders").len()), (before, before));
    services.run("audit", b"").await;
    services.check(&events);
    let told = services.run("compact orders --to 9999-01-01", b"").await;
    assert!(told.starts_with("removed\t0\n"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seek_past_retention_names_the_oldest_message() {
    let services = Services::start().await;
    let told = services.fail("seek --time 2020-01-01").await;
    assert!(told.contains("keeps events for 7days: the oldest still there is of"), "{told}");
    let replay = "replay --from 2020-01-01 --to 2020-01-02 --source log --into live";
    let told = services.fail(replay).await;
    assert!(told.contains("keeps no acknowledged events"), "{told}");
    services.pubsub.control().keep(TOPIC, 600);
    let told = services.fail(replay).await;
    assert!(told.contains("keeps events for 10m"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_the_log_has_a_subscription_of_its_own_and_removes_it() {
    let (services, events) = with_history(400).await;
    let before = versions(&services, "orders");
    let sent = services.bigquery.control().appended_count("p.d.orders");
    let objects = archived(&services);
    let to = Timestamp::now();
    let later = generated(410);
    services.publish(&later[400..]);
    let from = Timestamp::from_micros(to.micros() - 3_600_000_000);
    let arguments = format!("replay --from {from} --to {to} --source log --into live");
    let notes = replayed(&services, &arguments, events.len()).await;
    assert!(notes.contains("ended when the log had all of the range acknowledged"), "{notes}");
    assert_eq!(services.bigquery.control().appended_count("p.d.orders"), 2 * sent);
    assert_eq!(versions(&services, "orders"), before, "under the same rules no version changes");
    assert_eq!(archived(&services), objects, "history is not archived again");
    let names = services.pubsub.control().subscriptions();
    assert_eq!(names, ["projects/p/subscriptions/s"]);
    // Messages that came meanwhile are the daemon's.
    let acknowledged = services.acknowledged();
    let mut daemon = services.daemon("one");
    services.until_acknowledged(acknowledged + 10).await;
    assert_eq!(daemon.stop(Signal::TERM), Some(0));
    services.check(&later);
}

/// Replays so many events, and returns the notes on stderr.
async fn replayed(services: &Services, arguments: &str, events: usize) -> String {
    let ran = services.output(arguments, b"").await;
    let [out, notes] = [ran.stdout, ran.stderr].map(|it| String::from_utf8(it).unwrap());
    assert!(ran.status.success(), "{notes}");
    assert!(out.contains(&format!("events\t{events}\n")), "{out}");
    notes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_whose_end_the_service_cannot_prove_reports_it() {
    let (services, events) = with_history(40).await;
    services.pubsub.control().deny("pubsub.snapshots.create");
    let to = Timestamp::now();
    services.pubsub.control().move_clock(1_000);
    services.publish(&generated(1));
    let from = Timestamp::from_micros(to.micros() - 3_600_000_000);
    let arguments = format!("replay --from {from} --to {to} --source log --into live");
    let notes = replayed(&services, &arguments, events.len()).await;
    assert!(notes.contains("ended at an event published after the range"), "{notes}");
    assert!(notes.contains("the log did not prove the end"), "{notes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_the_archive_into_live_under_the_same_rules_changes_no_version() {
    let (services, events) = with_history(400).await;
    let before = versions(&services, "orders");
    let sent = services.bigquery.control().appended_count("p.d.orders");
    let replay = "replay --from 2020-01-01 --to 2100-01-01 --into live";
    let said = services.run(replay, b"").await;
    let valid = events.iter().filter(|event| event.expected.defect.is_none()).count();
    assert!(said.contains(&format!("events\t{valid}\n")), "{said}");
    assert_eq!(services.bigquery.control().appended_count("p.d.orders"), 2 * sent);
    assert_eq!(versions(&services, "orders"), before, "under the same rules no version changes");
    services.check(&events);
}

/// The names of the finals.
fn archived(services: &Services) -> Vec<String> {
    let objects = services.storage.control().objects("b").into_iter();
    objects.map(|(name, _)| name).filter(|name| name.starts_with("events/")).collect()
}
