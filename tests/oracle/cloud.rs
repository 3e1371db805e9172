//! Pub/Sub, BigQuery and Cloud Storage of the test servers, and two replicas on one subscription.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::PubsubMessage;
use kappa::daemon::Daemon;
use kappa::wiring::open_ports;
use kappa_actors::pipeline::{Intake, Pipeline};
use kappa_actors::time::Timestamp;
use kappa_actors::vitals::Board;
use kappa_test_servers::bigquery::{AppendFault, BigQueryServer};
use kappa_test_servers::pubsub::PubSubServer;
use kappa_test_servers::storage::StorageServer;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::kept::Keeping;
use super::model::{Key, Letter, Message, Row};
use super::place::Place;
use super::project::{Project, runtime};
use super::random::Random;
use super::rules::{Rules, Table};

const TOPIC: &str = "projects/p/topics/t";
/// Replicas at work side by side.
const REPLICAS: usize = 2;
/// How long all may take to be acknowledged.
const TIMEOUT: Duration = Duration::from_secs(180);
/// After this long without an acknowledgement all leases end, as those of the dead do.
const LEASE: Duration = Duration::from_secs(1);

pub(crate) struct Cloud {
    pubsub: PubSubServer,
    bigquery: BigQueryServer,
    _storage: StorageServer,
    /// Whether readers ask a view.
    appends: bool,
    project: Project,
    replicas: Vec<Replica>,
    random: Random,
    /// Where the servers run. It ends last.
    _servers: Runtime,
}

/// A daemon on a runtime of its own.
struct Replica {
    running: Running,
    board: Arc<Board>,
    runtime: Runtime,
}

enum Running {
    Daemon(Box<Daemon>),
    /// Started before the rules changed.
    Older(Pipeline),
}

impl Replica {
    fn start(project: &Project, rules: &Rules, is_older: bool) -> Self {
        let (settings, blueprint) = project.settings(rules);
        let runtime = runtime();
        let (running, board) = runtime.block_on(async {
            if is_older {
                let (ports, board) = (open_ports(&settings).await.unwrap(), Board::new());
                let (plan, others) = (blueprint.plan(&settings), Arc::new(Vec::new));
                let on = Arc::clone(&board);
                let pipeline = Pipeline::start(plan, ports, on, Intake::UntilIdle, others).await;
                (Running::Older(pipeline.unwrap()), board)
            } else {
                let daemon = Daemon::start(settings, &blueprint, Intake::UntilIdle).await.unwrap();
                let board = Arc::clone(daemon.board());
                (Running::Daemon(Box::new(daemon)), board)
            }
        });
        Self { running, board, runtime }
    }

    fn stop(self) {
        let Self { running, runtime, .. } = self;
        runtime.block_on(async {
            match running {
                Running::Daemon(daemon) => daemon.stop().await,
                Running::Older(pipeline) => pipeline.stop(Duration::from_secs(30)).await,
            }
        });
    }

    /// All tasks end where they wait.
    fn kill(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

impl Cloud {
    pub(crate) fn new(seed: u64, small: bool, keeping: Keeping) -> Self {
        let servers = runtime();
        let (pubsub, bigquery, storage) = servers.block_on(async {
            let pubsub = PubSubServer::start().await.unwrap();
            let bigquery = BigQueryServer::start().await.unwrap();
            (pubsub, bigquery, StorageServer::start().await.unwrap())
        });
        pubsub.control().create(TOPIC, "projects/p/subscriptions/s", &json!({}));
        pubsub.control().keep(TOPIC, 86_400);
        storage.control().create_bucket("b", "STANDARD");
        let appends = keeping == Keeping::All;
        let settings = [
            ("gcp.project", "p"),
            ("event_log.backend", "pubsub"),
            ("event_log.subscription", "s"),
            ("event_log.pubsub.topic", "t"),
            ("event_log.pubsub.endpoint", &pubsub.grpc_endpoint()),
            ("event_log.pubsub.admin_endpoint", &pubsub.rest_endpoint()),
            ("warehouse.backend", "bigquery"),
            ("warehouse.bigquery.dataset", "d"),
            ("warehouse.bigquery.mode", if appends { "append" } else { "upsert" }),
            ("warehouse.bigquery.endpoint", &bigquery.rest_endpoint()),
            ("warehouse.bigquery.write_endpoint", &bigquery.grpc_endpoint()),
            ("archive.backend", "gcs"),
            ("archive.gcs.bucket", "b"),
            ("archive.gcs.endpoint", &storage.rest_endpoint()),
            ("archive.gcs.control_endpoint", &storage.grpc_endpoint()),
            ("actors.archive_window.grace", "1s"),
        ];
        let set = settings.map(|(key, value)| format!("{key}={value}")).to_vec();
        Self {
            pubsub,
            bigquery,
            _storage: storage,
            appends,
            project: Project::new(small, set),
            replicas: Vec::new(),
            random: Random::new(seed ^ 0x00c1_0d00),
            _servers: servers,
        }
    }

    /// Starts replicas until there are two.
    fn start(&mut self, rules: &Rules, is_older: bool) {
        let (project, missing) = (&self.project, REPLICAS - self.replicas.len());
        for _ in 0..missing {
            self.replicas.push(Replica::start(project, rules, is_older));
        }
    }

    /// Waits until all is acknowledged or `is_enough`.
    fn wait(&self, is_enough: impl Fn() -> bool) {
        let control = self.pubsub.control();
        let (began, mut last) = (Instant::now(), (usize::MAX, Instant::now()));
        loop {
            let left = control.unacknowledged_count();
            if left == 0 || is_enough() {
                return;
            }
            if left != last.0 {
                last = (left, Instant::now());
            } else if last.1.elapsed() > LEASE {
                control.expire_leases();
                last.1 = Instant::now();
            }
            assert!(began.elapsed() < TIMEOUT, "{left} messages are not acknowledged");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Works off everything, some of it more than once, and stops.
    fn work_off(&mut self, rules: &Rules, is_older: bool) {
        self.misbehave();
        self.start(rules, is_older);
        self.wait(|| false);
        self.replicas.drain(..).for_each(Replica::stop);
        assert_eq!(self.bigquery.control().violations(), [""; 0]);
    }

    /// Lets rows come more than once, or late.
    fn misbehave(&mut self) {
        let faults = [AppendFault::LosesAnswer, AppendFault::EndsWith(tonic::Code::Unavailable)];
        if self.random.chance(30) {
            let fault = *self.random.pick(&faults);
            self.bigquery.control().fail_appends(1 + self.random.below(3) as usize, fault);
        }
    }

    /// Runs a query, and gives its rows one by one.
    fn query(&self, sql: &str, mut row_of: impl FnMut(Vec<String>)) {
        let url = format!("{}/bigquery/v2/projects/p/queries", self.bigquery.rest_endpoint());
        let body = json!({ "query": sql, "useLegacySql": false, "maxResults": 10_000 });
        let mut answer = ureq::post(&url).send(body.to_string());
        loop {
            let text = answer.unwrap().body_mut().with_config().limit(1 << 30).read_to_string();
            let page: Value = serde_json::from_str(&text.unwrap()).unwrap();
            let text = |cell: &Value| cell["v"].as_str().unwrap().to_owned();
            for row in page["rows"].as_array().into_iter().flatten() {
                row_of(row["f"].as_array().unwrap().iter().map(text).collect());
            }
            let Some(token) = page["pageToken"].as_str() else { return };
            let job = page["jobReference"]["jobId"].as_str().unwrap();
            let url = format!("{url}/{job}");
            answer = ureq::get(&url).query("pageToken", token).query("maxResults", "10000").call();
        }
    }
}

impl Place for Cloud {
    fn project(&self) -> &Project {
        &self.project
    }

    fn publish(&mut self, _: &Rules, batches: &[Vec<String>]) {
        let control = self.pubsub.control();
        // Later than all before, so that no seek has passed over it.
        control.move_clock(100);
        for batch in batches {
            let data = batch.iter().map(|payload| payload.clone().into_bytes());
            control.store(TOPIC, data.map(|data| PubsubMessage { data, ..Default::default() }));
            // Times of one topic may decrease, or be equal in two requests.
            control.move_clock(self.random.below(3) as i64 * 10 - 20);
        }
        control.move_clock(100);
    }

    fn replays_log(&self) -> bool {
        // The end of a log of Pub/Sub is waited for.
        false
    }

    fn messages(&self, above: i64) -> Vec<Message> {
        let new = self.pubsub.control().kept(TOPIC, usize::try_from(above).unwrap());
        (above + 1..)
            .zip(new)
            .map(|(offset, message)| {
                let time = message.publish_time.unwrap();
                Message {
                    id: message.message_id,
                    micros: time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000,
                    payload: String::from_utf8(message.data).unwrap(),
                    offset,
                    in_log: true,
                }
            })
            .collect()
    }

    fn run(&mut self, rules: &Rules) {
        self.work_off(rules, false);
    }

    /// Kills one of the replicas. The other goes on.
    fn kill(&mut self, rules: &Rules, events: u64) {
        self.misbehave();
        self.start(rules, false);
        let board = Arc::clone(&self.replicas[0].board);
        self.wait(|| board.counters().acked.get() >= events / 2);
        self.replicas.remove(0).kill();
        self.pubsub.control().expire_leases();
    }

    fn run_older(&mut self, rules: &Rules) {
        self.work_off(rules, true);
    }

    fn letters(&self) -> Vec<Letter> {
        let rows = self.bigquery.control().rows("p.d.dead_letters");
        let is_open = |row: &&serde_json::Map<_, Value>| {
            row["requeued_at"].is_null() && row["replay_id"].is_null()
        };
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let letter = |row: &serde_json::Map<String, Value>| {
            let time = Timestamp::from_micros(row["publish_time"].as_i64().unwrap());
            (text(&row["message_id"]), time.to_string(), text(&row["duty"]))
        };
        rows.iter().filter(is_open).map(letter).collect()
    }

    fn read(&self, table: &Table, row_of: &mut dyn FnMut(Key, Row, Option<&str>)) {
        let name = format!("{}{}", table.name, if self.appends { "_deduplicated" } else { "" });
        if self.bigquery.control().resource(&format!("p.d.{name}")).is_none() {
            return;
        }
        let sql = format!("SELECT `_version`, {} FROM `p.d.{name}`", table.columns.join(", "));
        let mut rows = BTreeMap::new();
        self.query(&sql, |mut cells| {
            let version = BASE64_STANDARD.decode(cells.remove(0)).unwrap();
            let before = rows.insert(cells[..table.key].to_vec(), Row { version, cells });
            assert!(before.is_none(), "two rows of one key in {name}");
        });
        rows.into_iter().for_each(|(key, row)| row_of(key, row, None));
    }
}
