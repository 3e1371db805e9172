//! The process of the servers: it prints its addresses on one line, then answers each line of its
//! standard input with one, and ends with it.

use std::io::{BufRead as _, BufWriter, Read as _, Write};
use std::time::{Duration, UNIX_EPOCH};

use flate2::read::MultiGzDecoder;
use kappa_test_servers::bigquery::BigQueryServer;
use kappa_test_servers::pubsub::PubSubServer;
use kappa_test_servers::storage::StorageServer;
use serde_json::json;
use tokio::runtime::Runtime;

/// The argument that makes this process serve.
pub const ARGUMENT: &str = "serve";

/// The project of everything.
pub const PROJECT: &str = "bench";
/// The topic's full name.
pub const TOPIC: &str = "projects/bench/topics/events";
/// The tables of events.
pub const TABLES: [&str; 4] = ["orders", "users", "products", "other"];

const SUBSCRIPTION: &str = "projects/bench/subscriptions/kappa";
/// The bucket.
pub const BUCKET: &str = "archive";

struct Servers {
    pubsub: PubSubServer,
    bigquery: BigQueryServer,
    storage: StorageServer,
}

/// Serves until standard input ends.
pub fn serve() {
    let runtime = Runtime::new().unwrap();
    let servers = runtime.block_on(async {
        Servers {
            pubsub: PubSubServer::start().await.unwrap(),
            bigquery: BigQueryServer::start().await.unwrap(),
            storage: StorageServer::start().await.unwrap(),
        }
    });
    servers.pubsub.control().create(TOPIC, SUBSCRIPTION, &json!({}));
    servers.bigquery.control().keep_only("event_id");
    servers.storage.control().create_bucket(BUCKET, "STANDARD");
    let mut out = BufWriter::new(std::io::stdout().lock());
    let [pubsub, bigquery] = [servers.pubsub.grpc_endpoint(), servers.bigquery.grpc_endpoint()];
    let [admin, rest] = [servers.pubsub.rest_endpoint(), servers.bigquery.rest_endpoint()];
    let [http, grpc] = [servers.storage.rest_endpoint(), servers.storage.grpc_endpoint()];
    writeln!(out, "{pubsub} {admin} {rest} {bigquery} {http} {grpc}").unwrap();
    out.flush().unwrap();
    for line in std::io::stdin().lock().lines() {
        servers.answer(&line.unwrap(), &mut out);
        out.flush().unwrap();
    }
}

impl Servers {
    fn answer(&self, line: &str, out: &mut impl Write) {
        let bigquery = self.bigquery.control();
        let table = |name: &str| format!("{PROJECT}.kappa.{name}");
        match line.split_once(' ').unwrap_or((line, "")) {
            ("delay-appends", ms) => {
                bigquery.delay_answers(Duration::from_millis(ms.parse().unwrap()));
                writeln!(out).unwrap();
            }
            ("delay-uploads", ms) => {
                let delay = Duration::from_millis(ms.parse().unwrap());
                self.storage.control().delay_uploads(delay);
                writeln!(out).unwrap();
            }
            ("acknowledged", _) => {
                writeln!(out, "{}", self.pubsub.control().acknowledged_count()).unwrap();
            }
            ("appended", _) => {
                let counts = TABLES.map(|name| bigquery.appended_count(&table(name)));
                writeln!(out, "{}", counts.iter().sum::<usize>()).unwrap();
            }
            ("keys", name) => {
                for arrival in bigquery.arrivals(&table(name)) {
                    let micros = arrival.visible.duration_since(UNIX_EPOCH).unwrap().as_micros();
                    write!(out, "{}={micros} ", arrival.key).unwrap();
                }
                writeln!(out).unwrap();
            }
            ("archived", _) => writeln!(out, "{}", self.archived()).unwrap(),
            ("violations", _) => writeln!(out, "{}", bigquery.violations().join("; ")).unwrap(),
            (other, _) => panic!("unknown command {other:?}"),
        }
    }

    /// Lines in the objects of events.
    fn archived(&self) -> usize {
        let objects = self.storage.control().objects(BUCKET);
        let of_events = objects.iter().filter(|(name, _)| name.contains(".jsonl"));
        let lines = of_events.map(|(_, body)| {
            let mut text = Vec::new();
            MultiGzDecoder::new(&body[..]).read_to_end(&mut text).unwrap();
            text.iter().filter(|byte| **byte == b'\n').count()
        });
        lines.sum()
    }
}
