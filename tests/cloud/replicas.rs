//! The daemon as a process with all three services, and several of it on one subscription.
//!
//! Replicas share only the subscription: the messages of a dead one come to the others.

mod audit;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::PubsubMessage;
use kappa::generate::{DEFAULT_START, Event, Generator, Ids, Options};
use kappa_actors::archive::{FinalName, PartName};
use kappa_test_servers::bigquery::BigQueryServer;
use kappa_test_servers::pubsub::PubSubServer;
use kappa_test_servers::storage::StorageServer;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};

pub(super) const TOPIC: &str = "projects/p/topics/t";
/// How long anything may take before the test gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);

pub(super) struct Services {
    pub(super) pubsub: PubSubServer,
    pub(super) bigquery: BigQueryServer,
    pub(super) storage: StorageServer,
    pub(super) folder: tempfile::TempDir,
}

/// A daemon; dropping it kills it.
pub(super) struct Daemon(pub(super) Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Daemon {
    pub(super) fn stop(&mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, signal).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Services {
    pub(super) async fn start() -> Self {
        let services = Self {
            pubsub: PubSubServer::start().await.unwrap(),
            bigquery: BigQueryServer::start().await.unwrap(),
            storage: StorageServer::start().await.unwrap(),
            folder: tempfile::tempdir().unwrap(),
        };
        let control = services.pubsub.control();
        control.create(TOPIC, "projects/p/subscriptions/s", &json!({}));
        services.storage.control().create_bucket("b", "STANDARD");
        let configuration = format!(
            "gcp.project = 'p'
             [event_log]
             backend = 'pubsub'
             subscription = 's'
             pubsub = {{ topic = 't', endpoint = '{}', admin_endpoint = '{}' }}
             [warehouse]
             backend = 'bigquery'
             [warehouse.bigquery]
             dataset = 'd'
             endpoint = '{}'
             write_endpoint = '{}'
             [archive]
             backend = 'gcs'
             gcs = {{ bucket = 'b', endpoint = '{}', control_endpoint = '{}' }}
             [actors.archive_window]
             flush_interval = '200ms'
             grace = '1s'
             [status]
             listen = '127.0.0.1:0'
            ",
            services.pubsub.grpc_endpoint(),
            services.pubsub.rest_endpoint(),
            services.bigquery.rest_endpoint(),
            services.bigquery.grpc_endpoint(),
            services.storage.rest_endpoint(),
            services.storage.grpc_endpoint(),
        );
        std::fs::write(services.folder.path().join("kappa.toml"), configuration).unwrap();
        services
    }

    pub(super) fn daemon(&self, name: &str) -> Daemon {
        self.daemon_with(name, &[])
    }

    /// A daemon with settings of its own, `KEY=VALUE`.
    pub(super) fn daemon_with(&self, name: &str, settings: &[String]) -> Daemon {
        self.daemon_in(name, settings, &[])
    }

    /// A daemon in an environment of its own.
    pub(super) fn daemon_in(
        &self,
        name: &str,
        settings: &[String],
        environment: &[(&str, String)],
    ) -> Daemon {
        let log = File::create(self.folder.path().join(format!("{name}.log"))).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kappa"));
        command
            .args(["--config", "kappa.toml", "--data-dir", name])
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .arg("run")
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("KAPPA__") {
                command.env_remove(variable);
            }
        }
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        Daemon(command.spawn().unwrap())
    }

    /// Puts `with` in the place of a line of the configuration.
    fn configure(&self, line: &str, with: &str) {
        let file = self.folder.path().join("kappa.toml");
        let configuration = std::fs::read_to_string(&file).unwrap();
        assert!(configuration.contains(line), "{configuration}");
        std::fs::write(&file, configuration.replace(line, with)).unwrap();
    }

    /// Runs a command that must succeed; returns its stdout.
    pub(super) async fn run(&self, arguments: &str, input: &[u8]) -> String {
        let Output { status, stdout, stderr } = self.output(arguments, input).await;
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    /// Runs a command that ends by itself.
    pub(super) async fn output(&self, arguments: &str, input: &[u8]) -> Output {
        let file = self.folder.path().join("input");
        std::fs::write(&file, input).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kappa"));
        command
            .args(["--config", "kappa.toml", "--data-dir", "commands"])
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .stdin(File::open(file).unwrap());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// Runs a command that must fail; returns its stderr.
    pub(super) async fn fail(&self, arguments: &str) -> String {
        let Output { status, stderr, .. } = self.output(arguments, b"").await;
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(1), "{stderr}");
        stderr
    }

    pub(super) fn publish(&self, events: &[Event]) {
        let data = events.iter().map(|event| event.payload.clone());
        let messages = data.map(|data| PubsubMessage { data, ..Default::default() });
        self.pubsub.control().store(TOPIC, messages);
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.pubsub.control().acknowledged_count()
    }

    /// Waits until so many messages are acknowledged. Leases of the dead run out meanwhile.
    pub(super) async fn until_acknowledged(&self, count: usize) {
        let began = Instant::now();
        let mut last = (0, Instant::now());
        while self.acknowledged() < count {
            if self.acknowledged() > last.0 {
                last = (self.acknowledged(), Instant::now());
            } else if last.1.elapsed() > Duration::from_secs(3) {
                self.pubsub.control().expire_leases();
                last.1 = Instant::now();
            }
            let told = |name: &str| {
                std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
            };
            assert!(
                began.elapsed() < PATIENCE,
                "{} of {count} acknowledged\n{}\n{}",
                last.0,
                told("one.log"),
                told("three.log")
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The rows of a table that is appended to as its view shows them: the newest of each key. Of a
    /// table that takes upserts, all.
    pub(crate) fn current(&self, table: &str) -> Vec<Map<String, Value>> {
        let mut newest: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        let version = |row: &Map<String, Value>| {
            BASE64_STANDARD.decode(row["_version"].as_str().unwrap()).unwrap()
        };
        for row in self.bigquery.control().rows(&format!("p.d.{table}")) {
            let key = format!("{} {}", row["event_id"], row["event_timestamp"]);
            if newest.get(&key).is_none_or(|known| version(known) < version(&row)) {
                newest.insert(key, row);
            }
        }
        newest.into_values().collect()
    }

    /// Every valid event is one row and at least one line, every invalid one a dead letter.
    pub(super) fn check(&self, events: &[Event]) {
        let control = self.bigquery.control();
        let mut rows: BTreeMap<String, usize> = BTreeMap::new();
        for table in ["orders", "users", "products", "other"] {
            for row in self.current(table) {
                *rows.entry(row["event_id"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
        let valid = || events.iter().filter(|event| event.expected.defect.is_none());
        let expected: BTreeMap<_, _> =
            valid().map(|event| (event.expected.id.to_string(), 1)).collect();
        assert_eq!(rows.len(), expected.len());
        assert!(rows == expected, "a row is doubled or of no event");
        let letters = control.rows("p.d.dead_letters").len();
        assert_eq!(letters, events.len() - valid().count());
        assert_eq!(control.violations(), [""; 0]);
        let archived = self.archived();
        for event in valid() {
            assert!(archived.contains(&*event.payload), "not archived: {}", event.expected.id);
        }
    }

    /// The payloads in finals and parts.
    fn archived(&self) -> BTreeSet<Vec<u8>> {
        let mut payloads = BTreeSet::new();
        for (name, body) in self.storage.control().objects("b") {
            let of_final = name.parse::<FinalName>().map(|name| name.format);
            let of_part = name.parse::<PartName>().map(|name| name.format);
            let Ok(format) = of_final.or(of_part) else { continue };
            for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let event = format.decode(line.to_vec().into()).unwrap();
                payloads.insert(event.payload.to_vec());
            }
        }
        payloads
    }
}

pub(super) fn generated(count: usize) -> Vec<Event> {
    let options =
        Options { seed: 7, invalid_percent: 2.0, ids: Ids::Ordered, start: DEFAULT_START };
    Generator::new(options).take(count).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_killed_and_one_stopped_of_three_lose_and_double_nothing() {
    let services = Services::start().await;
    let events = generated(6_000);
    services.publish(&events[..2_000]);
    let mut one = services.daemon("one");
    let mut two = services.daemon("two");
    let three = services.daemon("three");
    services.until_acknowledged(200).await;
    services.publish(&events[2_000..4_000]);
    one.stop(Signal::KILL);
    services.pubsub.control().expire_leases();
    services.until_acknowledged(2_500).await;
    services.publish(&events[4_000..]);
    assert_eq!(two.stop(Signal::TERM), Some(0));
    services.until_acknowledged(events.len()).await;
    services.check(&events);
    drop(three);
    // Nothing of a daemon is on its disk.
    assert!(!services.folder.path().join("one").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_work_on_the_same_services() {
    let services = Services::start().await;
    let events = generated(300);
    let lines: Vec<u8> =
        events.iter().flat_map(|event| [&event.payload[..], b"\n"].concat()).collect();
    services.run("publish -", &lines).await;
    // Nothing is left unsent when the command has ended.
    assert_eq!(services.pubsub.control().published(), events.len());
    let mut daemon = services.daemon("one");
    services.until_acknowledged(events.len()).await;
    assert_eq!(daemon.stop(Signal::TERM), Some(0));
    services.check(&events);

    let letters = services.run("dead-letters list --json", b"").await;
    let invalid = events.iter().filter(|event| event.expected.defect.is_some()).count();
    assert_eq!(letters.matches("\"id\"").count(), invalid, "{letters}");
    // The events are as invalid as before: their letters are open again, and nothing is published.
    for _ in 0..2 {
        let says = services.fail("dead-letters requeue").await;
        assert!(says.contains(&format!("{invalid} duties of events failed again")), "{says}");
    }
    let letters = services.run("dead-letters list --json", b"").await;
    assert_eq!(letters.matches("\"requeued_at\":null").count(), invalid, "{letters}");
    assert_eq!(services.pubsub.control().published(), events.len());
    let archived = services.run("archive cat", b"").await;
    assert_eq!(archived.lines().count(), events.len() - invalid);
}
