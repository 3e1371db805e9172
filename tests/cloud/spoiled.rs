//! The daemon as a process, behind connections that are cut and slow, and without resources or permissions.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use kappa_test_servers::proxy::Proxy;
use rustix::process::Signal;

use super::replicas::{Daemon, PATIENCE, Services, generated};

/// Proxies before all that a daemon asks, by the setting that names it.
struct Ways(BTreeMap<&'static str, Proxy>);

impl Ways {
    async fn to(services: &Services) -> Self {
        let mut ways = BTreeMap::new();
        for (setting, endpoint) in [
            ("event_log.pubsub.endpoint", services.pubsub.grpc_endpoint()),
            ("event_log.pubsub.admin_endpoint", services.pubsub.rest_endpoint()),
            ("warehouse.bigquery.endpoint", services.bigquery.rest_endpoint()),
            ("warehouse.bigquery.write_endpoint", services.bigquery.grpc_endpoint()),
            ("archive.gcs.endpoint", services.storage.rest_endpoint()),
            ("archive.gcs.control_endpoint", services.storage.grpc_endpoint()),
        ] {
            ways.insert(setting, Proxy::start(&endpoint).await.unwrap());
        }
        Self(ways)
    }

    fn settings(&self) -> Vec<String> {
        self.0.iter().map(|(setting, way)| format!("{setting}={}", way.endpoint())).collect()
    }
}

/// Waits until the daemons have reached a state.
async fn until(services: &Services, what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}\n{}", log(services));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn log(services: &Services) -> String {
    std::fs::read_to_string(services.folder.path().join("one.log")).unwrap_or_default()
}

/// Stops all at the same time; each must end well.
async fn stopped(daemons: Vec<Daemon>) {
    let stops = daemons.into_iter().map(|mut daemon| {
        tokio::task::spawn_blocking(move || assert_eq!(daemon.stop(Signal::TERM), Some(0)))
    });
    for stop in stops.collect::<Vec<_>>() {
        stop.await.unwrap();
    }
}

fn names(services: &Services, prefix: &str) -> BTreeSet<String> {
    let objects = services.storage.control().objects("b");
    objects.into_iter().map(|(name, _)| name).filter(|name| name.starts_with(prefix)).collect()
}

fn unfinished(services: &Services) -> BTreeSet<String> {
    ["parts/", "manifests/", "composing/"].iter().flat_map(|it| names(services, it)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_connections_are_cut_at_random_loses_and_doubles_nothing() {
    let services = Services::start().await;
    let ways = Ways::to(&services).await;
    let events = generated(8_000);
    let mut settings = ways.settings();
    // Small responses and batches, so that most get through.
    settings.push("actors.reader.max_outstanding_messages=400".to_owned());
    let daemon = services.daemon_with("one", &settings);
    services.publish(&events[..1_000]);
    services.until_acknowledged(200).await;
    for (seed, way) in (1..).zip(ways.0.values()) {
        way.cut_at_random(seed, Some(300_000));
        way.cut_all();
    }
    for batch in events[1_000..].chunks(1_000) {
        services.publish(batch);
        let before = services.acknowledged();
        services.until_acknowledged(before + 500).await;
    }
    services.until_acknowledged(events.len()).await;
    let cut: usize = ways.0.values().map(Proxy::cut).sum();
    assert!(cut > 10, "{cut} connections were cut");
    ways.0.values().for_each(|way| way.cut_at_random(0, None));
    stopped(vec![daemon]).await;
    services.check(&events);
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_of_a_replica_that_died_are_finished_by_another_after_the_grace() {
    let services = Services::start().await;
    let events = generated(2_000);
    services.publish(&events[..1_000]);
    let mut one = services.daemon("one");
    services.until_acknowledged(1_000).await;
    one.stop(Signal::KILL);
    let left = names(&services, "parts/");
    assert!(!left.is_empty(), "{}", log(&services));
    let two = services.daemon("two");
    until(&services, "the dead one's parts are composed", || {
        names(&services, "parts/").is_disjoint(&left) && names(&services, "manifests/").is_empty()
    })
    .await;
    services.publish(&events[1_000..]);
    services.until_acknowledged(events.len()).await;
    stopped(vec![two]).await;
    services.check(&events);
    assert_eq!(unfinished(&services), BTreeSet::new());
}

/// The other replica takes the slow one for dead and composes its parts, while it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_a_slow_replica_is_archived_once() {
    let services = Services::start().await;
    let ways = Ways::to(&services).await;
    let events = generated(3_000);
    let mut settings = ways.settings();
    settings.push("drain_timeout=80s".to_owned());
    let slow = services.daemon_with("one", &settings);
    services.publish(&events[..500]);
    until(&services, "the first alone", || services.acknowledged() == 500).await;
    for setting in ["archive.gcs.endpoint", "archive.gcs.control_endpoint"] {
        ways.0[setting].delay(Duration::from_millis(600));
    }
    let other = services.daemon_with("two", &["drain_timeout=80s".to_owned()]);
    // Windows end in minutes: finals that are composed before are of the slow replica's parts.
    until(&services, "a window composed", || !names(&services, "events/").is_empty()).await;
    services.publish(&events[500..]);
    // No lease runs out meanwhile, or the archive would rightly have lines twice.
    until(&services, "all", || services.acknowledged() == events.len()).await;
    ways.0.values().for_each(|way| way.delay(Duration::ZERO));
    stopped(vec![slow, other]).await;
    services.check(&events);
    assert_eq!(unfinished(&services), BTreeSet::new());
    let objects = services.storage.control().objects("b");
    let objects = objects.iter().filter(|(name, _)| name.starts_with("events/"));
    let lines: usize = objects.map(|(_, body)| body.split(|byte| *byte == b'\n').count() - 1).sum();
    let valid = events.iter().filter(|event| event.expected.defect.is_none()).count();
    assert_eq!(lines, valid);
}

/// Takes something away from the daemon, or gives it back.
type Take = fn(&Services, bool);

/// Returns the output of `kappa status`.
fn status(services: &Services) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kappa"));
    // A daemon without files of its own notes its address nowhere else.
    let log = log(services);
    let url = log.split("status=").nth(1).and_then(|rest| rest.split_whitespace().next());
    command.args(["--config", "kappa.toml", "status", "--url", url.unwrap()]);
    let output = command.current_dir(services.folder.path()).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_resource_at_the_start_ends_the_daemon_with_a_message() {
    let services = Services::start().await;
    services.storage.control().remove_bucket("b");
    let mut daemon = services.daemon("one");
    assert_eq!(daemon.0.wait().unwrap().code(), Some(1));
    let told = log(&services);
    assert!(told.contains("there is no bucket b: create it with `kappa setup`"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_taken_away_later_degrades_the_daemon_with_a_message_until_it_is_back() {
    let services = Services::start().await;
    let events = generated(1_200);
    let daemon = services.daemon("one");
    services.publish(&events[..300]);
    services.until_acknowledged(300).await;
    let away: [(&str, Take); 3] = [
        ("there is no bucket b: create it with `kappa setup`", |services, away| {
            let control = services.storage.control();
            if away { control.remove_bucket("b") } else { control.create_bucket("b", "STANDARD") }
        }),
        ("grant roles/storage.objectUser", |services, away| {
            services.storage.control().revoke(away);
        }),
        ("grant roles/bigquery.dataEditor", |services, away| {
            services.bigquery.control().revoke(away);
        }),
    ];
    for ((words, take), batch) in away.into_iter().zip(events[300..].chunks(300)) {
        take(&services, true);
        let before = services.acknowledged();
        services.publish(batch);
        until(&services, words, || status(&services).contains(words)).await;
        assert!(status(&services).contains("degraded"), "{}", status(&services));
        take(&services, false);
        services.until_acknowledged(before + 300).await;
        until(&services, "it is well again", || !status(&services).contains("degraded")).await;
    }
    stopped(vec![daemon]).await;
    services.check(&events);
}
