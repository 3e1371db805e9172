//! Deaths of the whole process while it reads Pub/Sub: an event that causes them becomes a dead letter, and
//! kills from outside accuse no event.

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::PubsubMessage;
use rustix::process::Signal;

use super::replicas::{PATIENCE, Services, TOPIC};

const SIGABRT: i32 = 6;

/// Starts that an event may kill before it is found: one with everything in flight, one for each
/// size of a batch, and `max_attempts` alone.
const MOST_DEATHS: usize = 1 + 2 + 3;

fn publish(services: &Services, ids: impl IntoIterator<Item = String>) {
    let message = |id: String| PubsubMessage {
        data: format!(
            "{{\"event_id\":\"{id}\",\"event_type\":\"order.placed\",\"entity_id\":\"o\",\
             \"timestamp\":\"2026-02-17T14:30:00Z\"}}"
        )
        .into(),
        ..Default::default()
    };
    services.pubsub.control().store(TOPIC, ids.into_iter().map(message));
}

fn numbered(prefix: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("{prefix}-{number}"))
}

fn notes(services: &Services) -> Vec<String> {
    let objects = services.storage.control().objects("b").into_iter().map(|(name, _)| name);
    objects.filter(|name| name.starts_with("runs/")).collect()
}

/// How often the bucket was asked about notes of runs.
fn asked_of_notes(services: &Services) -> usize {
    let requests = services.storage.control().requests();
    requests.iter().filter(|request| request.contains("runs/")).count()
}

/// Runs daemons until `count` messages are acknowledged; how many of them an event killed.
async fn run_until(services: &Services, count: usize, settings: &[String]) -> usize {
    let began = Instant::now();
    for deaths in 0.. {
        let mut daemon = services.daemon_with("one", settings);
        let mut progress = (services.acknowledged(), Instant::now());
        loop {
            let log = || std::fs::read_to_string(services.folder.path().join("one.log")).unwrap();
            assert!(began.elapsed() < 2 * PATIENCE, "{deaths} deaths\n{}", log());
            if let Some(status) = daemon.0.try_wait().unwrap() {
                assert_eq!(status.signal(), Some(SIGABRT), "{}", log());
                // Its messages come again.
                services.pubsub.control().expire_leases();
                break;
            }
            let now = services.acknowledged();
            if now >= count {
                assert_eq!(daemon.stop(Signal::TERM), Some(0), "{}", log());
                return deaths;
            }
            if now > progress.0 {
                progress = (now, Instant::now());
            } else if progress.1.elapsed() > Duration::from_secs(3) {
                services.pubsub.control().expire_leases();
                progress.1 = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    unreachable!("the loop has no end")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_kills_the_process_becomes_a_dead_letter_and_its_neighbours_rows() {
    let services = Services::start().await;
    let ids = numbered("before", 150).chain(["poison".to_owned()]).chain(numbered("after", 150));
    publish(&services, ids);
    let faults = ["faults.enabled=true", "faults.abort_on=[\"poison\"]"].map(str::to_owned);
    let deaths = run_until(&services, 301, &faults).await;
    assert!((4..=MOST_DEATHS).contains(&deaths), "{deaths}");
    let control = services.bigquery.control();
    assert_eq!(services.current("orders").len(), 300);
    let letters = control.rows("p.d.dead_letters");
    assert_eq!(letters.len(), 1);
    let reason = "the process was killed 3 times while it worked on this event alone";
    assert_eq!((&letters[0]["stage"], &letters[0]["reason"]), (&"poison".into(), &reason.into()));
    assert_eq!(notes(&services), [""; 0]);

    // The way is free, and costs next to nothing.
    let before = asked_of_notes(&services);
    publish(&services, numbered("later", 3_000));
    assert_eq!(run_until(&services, 3_301, &faults).await, 0);
    let asked = asked_of_notes(&services) - before;
    assert!(asked <= 4, "{asked} requests for notes of runs");
    assert_eq!(services.current("orders").len(), 3_300);
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_in_a_row_under_load_make_no_dead_letter() {
    let services = Services::start().await;
    for kill in 0..10_u64 {
        publish(&services, numbered(&format!("round-{kill}"), 200));
        let mut daemon = services.daemon("one");
        // Not to wait for anything: the moment is the fault.
        tokio::time::sleep(Duration::from_millis(300 + kill * 97 % 900)).await;
        daemon.stop(Signal::KILL);
        services.pubsub.control().expire_leases();
    }
    // A message that was acknowledged twice counts twice here.
    let left = services.pubsub.control().unacknowledged_count();
    let all = services.acknowledged() + left;
    assert_eq!(run_until(&services, all, &[]).await, 0);
    assert_eq!(services.bigquery.control().rows("p.d.dead_letters").len(), 0);
    assert_eq!(services.current("orders").len(), 10 * 200);
    assert_eq!(notes(&services), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_kills_one_replica_after_the_other_is_found_by_both() {
    let services = Services::start().await;
    let ids = numbered("before", 40).chain(["poison".to_owned()]).chain(numbered("after", 40));
    publish(&services, ids);
    let faults = ["faults.enabled=true", "faults.abort_on=[\"poison\"]"].map(str::to_owned);
    let began = Instant::now();
    let mut daemons = [None, None];
    let mut deaths = 0;
    while services.acknowledged() < 81 {
        assert!(began.elapsed() < 2 * PATIENCE, "{deaths} deaths");
        for (daemon, name) in daemons.iter_mut().zip(["one", "two"]) {
            let running = daemon.get_or_insert_with(|| services.daemon_with(name, &faults));
            if running.0.try_wait().unwrap().is_some() {
                deaths += 1;
                *daemon = None;
                services.pubsub.control().expire_leases();
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Each of the two is killed with everything in flight, and may be again for each size.
    assert!(deaths <= 2 * MOST_DEATHS, "{deaths}");
    for mut daemon in daemons.into_iter().flatten() {
        assert_eq!(daemon.stop(Signal::TERM), Some(0));
    }
    assert_eq!(services.current("orders").len(), 80);
    assert_eq!(services.bigquery.control().rows("p.d.dead_letters").len(), 1);
    assert_eq!(notes(&services), [""; 0]);
}
