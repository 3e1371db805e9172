//! What the backends promise on Google Cloud, each suite with things of its own in a project.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use kappa::backend::bigquery::WriteMode;
use kappa::backend::gcs::{GcsArchive, GcsOptions};
use kappa::backend::pubsub::PubSubLog;
use kappa::wiring::cloud::{bigquery_options, gcs_options, pubsub_options};
use kappa_actors::dead_letter_table;
use kappa_actors::message::NewMessage;
use kappa_actors::port::{
    DeadLetterFilter, DeadLetterStore as _, EnsureError, Ensured, EventLog as _, Pulled, Refusal,
    Room, Warehouse, WriteError,
};
use kappa_actors::row::{Row, TableSpec};
use kappa_actors::testing::event_log::Abilities;
use kappa_actors::testing::warehouse::ReadBack;
use kappa_actors::testing::{archive_store, event_log, warehouse};
use kappa_actors::time::Timestamp;
use tokio::sync::Mutex;

use crate::dataset::Dataset;
use crate::letters::{any, letter};
use crate::project::Project;

/// How long the service may take to know of a change by itself: a new table or column.
const SPREADING: Duration = Duration::from_secs(10 * 60);
/// The pause between two tries.
const PAUSE: Duration = Duration::from_secs(2);
const AMPLE: Room = Room { messages: 1_000, bytes: 1 << 30 };

/// Pub/Sub as the event log.
pub(crate) async fn pubsub(project: &Project) {
    let fresh = async |messages: Vec<NewMessage>| {
        let log = log(project).await;
        publish(&log, messages).await;
        log
    };
    // A seek of the service is not exact to the message: see below for what it is.
    let abilities =
        Abilities { publish: true, empty: false, order: false, seek: false, backlog: false };
    event_log::conforms(fresh, abilities).await;
    a_seek_back_brings_what_was_acknowledged(&log(project).await).await;
}

/// A log with a topic of its own. Its subscription delivers exactly once, so that a repeat is the
/// client's fault, and in order, so that ordering keys come through.
async fn log(project: &Project) -> PubSubLog {
    let mut set = project.subscription();
    set.extend(["exactly_once", "ordering"].map(|key| format!("event_log.pubsub.{key}=true")));
    let settings = project.settings("event_log.backend=pubsub", &set);
    project.make(&settings).await;
    PubSubLog::connect(pubsub_options(&settings).unwrap()).await.unwrap()
}

async fn publish(log: &PubSubLog, messages: Vec<NewMessage>) {
    for outcome in log.publish(messages).await {
        outcome.unwrap();
    }
}

async fn a_seek_back_brings_what_was_acknowledged(log: &PubSubLog) {
    // Clocks may differ, here and there.
    let before = Timestamp::from_micros(Timestamp::now().micros() - 60_000_000);
    let messages = (0..10).map(|number| NewMessage::from_payload(number.to_string()));
    publish(log, messages.collect()).await;
    let all = pull_and_acknowledge(log).await;
    log.seek(before).await.unwrap();
    assert_eq!(pull_and_acknowledge(log).await, all);
    log.close().await;
}

/// The ids of ten messages.
async fn pull_and_acknowledge(log: &PubSubLog) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    while ids.len() < 10 {
        let Pulled::Messages(messages) = log.pull(AMPLE, Duration::from_secs(60)).await.unwrap()
        else {
            panic!("{} of 10 messages came", ids.len());
        };
        let leases: Vec<_> = messages.iter().map(|message| message.lease).collect();
        log.acknowledge(&leases).await.unwrap();
        ids.extend(messages.iter().map(|message| message.id.to_string()));
    }
    ids
}

/// BigQuery as the warehouse, in one of its modes.
pub(crate) async fn bigquery(project: &Project, mode: WriteMode) {
    let settings = project.settings("warehouse.backend=bigquery", &[project.dataset()]);
    let mut options = bigquery_options(&settings).unwrap();
    options.tables.mode = mode;
    let patient = Patient { dataset: Dataset::open(options, None), ensured: Mutex::default() };
    match mode {
        WriteMode::Upsert => {
            warehouse::conforms(&patient).await;
            letters_are_found_and_marked(&patient).await;
        }
        WriteMode::Append => warehouse::conforms_but_for_equal_versions(&patient).await,
    }
    patient.dataset.warehouse.close().await;
}

async fn letters_are_found_and_marked(patient: &Patient) {
    let warehouse = &patient.dataset.warehouse;
    let spec = Arc::new(dead_letter_table::spec());
    patient.ensure_table(&spec).await.unwrap();
    let one = letter("one", Bytes::from_static(b"{}"));
    let rows = Arc::new(vec![one.row(), letter("two", Bytes::new()).row()]);
    assert_eq!(patient.write(&spec, rows).await.unwrap(), []);
    assert_eq!(warehouse.get("one").await.unwrap(), Some(one));
    warehouse.mark_requeued(&["one".to_owned()], Timestamp::now()).await.unwrap();
    let marked = DeadLetterFilter { requeued: Some(true), ..any() };
    assert_eq!(warehouse.find(&marked).await.unwrap(), ["one"]);
    let by_prefix = DeadLetterFilter { id_prefix: Some("tw".into()), ..any() };
    assert_eq!(warehouse.find(&by_prefix).await.unwrap(), ["two"]);
}

/// A warehouse that waits as a writer does: for what is unavailable, and for appends to learn of a
/// table that stands.
struct Patient {
    dataset: Dataset,
    ensured: Mutex<Vec<TableSpec>>,
}

#[async_trait]
impl Warehouse for Patient {
    async fn ensure_table(&self, table: &TableSpec) -> Result<Ensured, EnsureError> {
        let began = Instant::now();
        loop {
            match self.dataset.ensure_table(table).await {
                Err(EnsureError::Unavailable(_)) if began.elapsed() < SPREADING => {}
                other => {
                    if other.is_ok() {
                        self.ensured.lock().await.push(table.clone());
                    }
                    return other;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn write(
        &self,
        table: &Arc<TableSpec>,
        rows: Arc<Vec<Row>>,
    ) -> Result<Vec<Refusal>, WriteError> {
        let began = Instant::now();
        loop {
            let error = match self.dataset.write(table, Arc::clone(&rows)).await {
                Err(error) if began.elapsed() < SPREADING => error,
                other => return other,
            };
            let stands = self.ensured.lock().await.contains(table);
            if matches!(error, WriteError::Gone(_)) && !stands {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[async_trait]
impl ReadBack for Patient {
    async fn read_back(&self, table: &TableSpec) -> Vec<Row> {
        self.dataset.read_back(table).await
    }
}

/// Cloud Storage as the archive.
pub(crate) async fn storage(project: &Project) {
    let settings = project.settings("archive.backend=gcs", &[project.bucket()]);
    project.make(&settings).await;
    let options = gcs_options(&settings).unwrap();
    // One for each check of the suite, and some to spare.
    let mut archives = Vec::new();
    for number in 0..20 {
        let prefix = format!("store-{number}/");
        archives.push(GcsArchive::connect(GcsOptions { prefix, ..options.clone() }).await.unwrap());
    }
    archive_store::conforms(|| archives.pop().unwrap()).await;
}

/// `kappa setup`, and `kappa check --connect` after it.
pub(crate) async fn setup(project: &Project) {
    let mut set = project.subscription();
    set.extend([project.dataset(), project.bucket()]);
    let made = async |state: &str, arguments: &[&str]| {
        let (code, told, error) = project.kappa(arguments, &set).await;
        assert_eq!((code, &*error), (Some(0), ""), "{told}");
        let things: Vec<_> = told.lines().filter(|line| line.starts_with(state)).collect();
        // Topic, subscription, dataset, the dead letters, four processors' tables, bucket.
        assert_eq!((things.len(), told.lines().count()), (9, 9), "{told}");
    };
    made("missing", &["setup", "--dry-run"]).await;
    made("created", &["setup"]).await;
    made("kept", &["setup"]).await;
    let (code, told, error) = project.kappa(&["check", "--connect"], &set).await;
    assert_eq!((code, &*error), (Some(0), ""), "{told}");
}
