//! The promises of the backends on Google Cloud; each suite has resources of its own in a project.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kappa::backend::bigquery::{BigQueryOptions, BigQueryStaging, BigQueryWarehouse, WriteMode};
use kappa::backend::gcs::{GcsArchive, GcsOptions};
use kappa::backend::pubsub::PubSubLog;
use kappa::wiring::cloud::{bigquery_options, gcs_options, pubsub_options};
use kappa_actors::dead_letter_table;
use kappa_actors::message::NewMessage;
use kappa_actors::port::{
    DeadLetterFilter, DeadLetterStore as _, EventLog as _, Pulled, Reprocessing as _, Room,
    Warehouse as _,
};
use kappa_actors::testing::event_log::Abilities;
use kappa_actors::testing::{archive_store, auditable, event_log, reprocessing, warehouse};
use kappa_actors::time::Timestamp;

use crate::dataset::Dataset;
use crate::letters::{any, letter};
use crate::patience::{PatientDataset, PatientStaging};
use crate::project::Project;

const AMPLE: Room = Room { messages: 1_000, bytes: 1 << 30 };

/// Pub/Sub as the event log.
pub(crate) async fn pubsub(project: &Project) {
    let fresh = async |messages: Vec<NewMessage>| {
        let log = log(project).await;
        publish(&log, messages).await;
        log
    };
    // A seek of the service is not exact to the message; the check below covers it.
    let abilities =
        Abilities { publish: true, empty: false, order: false, seek: false, backlog: false };
    event_log::conforms(fresh, abilities).await;
    a_seek_back_brings_acknowledged_messages(&log(project).await).await;
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

async fn a_seek_back_brings_acknowledged_messages(log: &PubSubLog) {
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
    let patient = PatientDataset::new(Dataset::open(dataset(project, mode), None));
    match mode {
        WriteMode::Upsert => {
            warehouse::conforms_but_for_equal_versions(&patient).await;
            letters_are_found_and_marked(&patient).await;
        }
        WriteMode::Append => warehouse::conforms_but_for_equal_versions(&patient).await,
    }
    patient.dataset.warehouse.close().await;
}

/// Runs the pipeline, audits it, and then compares and merges staging tables.
pub(crate) async fn history(project: &Project, mode: WriteMode) {
    let patient = PatientDataset::new(Dataset::open(dataset(project, mode), None));
    auditable::conforms(&patient, &patient.dataset.warehouse).await;
    patient.dataset.warehouse.close().await;
    let options = dataset(project, mode);
    let patient = PatientDataset::new(Dataset::open(options.clone(), None));
    let beside = BigQueryWarehouse::connect(options, None).unwrap();
    let staging = PatientStaging::new(BigQueryStaging::beside(beside));
    reprocessing::conforms(&patient, &staging).await;
    if mode == WriteMode::Upsert {
        reprocessing::a_removed_row_does_not_come_back(&patient, &staging).await;
    }
    staging.warehouse().close().await;
    patient.dataset.warehouse.close().await;
}

/// A dataset of its own.
fn dataset(project: &Project, mode: WriteMode) -> BigQueryOptions {
    let settings = project.settings("warehouse.backend=bigquery", &[project.dataset()]);
    let mut options = bigquery_options(&settings).unwrap();
    options.tables.mode = Some(mode);
    options
}

async fn letters_are_found_and_marked(patient: &PatientDataset) {
    let warehouse = &patient.dataset.warehouse;
    let spec = Arc::new(dead_letter_table::spec());
    patient.ensure_table(&spec).await.unwrap();
    let one = letter("one", Bytes::from_static(b"{}"));
    let rows = Arc::new(vec![one.row(), letter("two", Bytes::new()).row()]);
    assert_eq!(patient.write(&spec, rows).await.unwrap(), []);
    assert_eq!(warehouse.get("one").await.unwrap(), Some(one));
    let one = warehouse.get("one").await.unwrap().unwrap();
    warehouse.mark_requeued(&[one.mark(Timestamp::now())]).await.unwrap();
    let marked = DeadLetterFilter { requeued: Some(true), ..any() };
    assert_eq!(warehouse.find(&marked).await.unwrap(), ["one"]);
    let by_prefix = DeadLetterFilter { id_prefix: Some("tw".into()), ..any() };
    assert_eq!(warehouse.find(&by_prefix).await.unwrap(), ["two"]);
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
        // Topic, subscription, dataset, the dead letters, four processors' tables and views, bucket.
        assert_eq!((things.len(), told.lines().count()), (13, 13), "{told}");
    };
    made("missing", &["setup", "--dry-run"]).await;
    made("created", &["setup"]).await;
    made("kept", &["setup"]).await;
    let (code, told, error) = project.kappa(&["check", "--connect"], &set).await;
    assert_eq!((code, &*error), (Some(0), ""), "{told}");
}
