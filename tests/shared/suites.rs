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

use crate::dataset::{Dataset, Sql};
use crate::letters::{any, letter};
use crate::patience::{PatientDataset, PatientStaging};
use crate::project::Project;
use crate::roles_table::{Grant, documented};

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

/// Settings of a pipeline with all three services, all of its own.
fn pipeline(project: &Project) -> Vec<String> {
    let mut set = project.subscription();
    set.extend([project.dataset(), project.bucket(), "status.listen=127.0.0.1:0".to_owned()]);
    set
}

/// Runs a command that must succeed; returns its output.
async fn done(project: &Project, arguments: &[&str], set: &[String]) -> String {
    let (code, told, error) = project.kappa(arguments, set).await;
    assert_eq!(code, Some(0), "kappa {arguments:?}\n{told}{error}");
    told
}

/// A file with an order of each of these times, whose ids are the times too.
fn orders(times: &[String]) -> tempfile::NamedTempFile {
    let line = |time: &String| {
        format!(
            r#"{{"event_id":"{time}","event_type":"order.placed","timestamp":"{time}","data":{{}}}}"#
        )
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), times.iter().map(line).collect::<Vec<_>>().join("\n")).unwrap();
    file
}

/// The ids of the orders that are rows, and the dead letters.
async fn outcome(project: &Project, set: &[String]) -> (BTreeSet<String>, String) {
    let settings = project.settings("warehouse.backend=bigquery", set);
    let sql = Sql::new(&bigquery_options(&settings).unwrap());
    let rows = sql.query(&format!("SELECT event_id FROM {}", sql.name("orders"))).await;
    let id = |cells: &Vec<serde_json::Value>| cells[0].as_str().unwrap().to_owned();
    let letters = done(project, &["dead-letters", "list", "--json"], set).await;
    (rows.iter().map(id).collect(), letters)
}

/// Events of 1962 and of 2040 are rows, or dead letters whose reason is the partition; and none keeps an
/// event of today from its table.
pub(crate) async fn ages(project: &Project, mode: WriteMode) {
    let mut set = pipeline(project);
    let mode = if mode == WriteMode::Append { "append" } else { "upsert" };
    set.push(format!("warehouse.bigquery.mode={mode}"));
    done(project, &["setup"], &set).await;
    let today = Timestamp::now().to_string();
    let old = ["1962-01-05T12:00:00Z".to_owned(), "2040-07-01T12:00:00Z".to_owned()];
    let file = orders(&[old[0].clone(), today.clone(), old[1].clone()]);
    done(project, &["publish", file.path().to_str().unwrap()], &set).await;
    done(project, &["run", "--until-idle", "--deadline", "20m"], &set).await;
    let (rows, letters) = outcome(project, &set).await;
    assert!(rows.contains(&today), "{rows:?}\n{letters}");
    for time in &old {
        let is_row = rows.contains(time);
        eprintln!(
            "{mode}: an event of {time} is {}",
            if is_row { "a row" } else { "a dead letter" }
        );
        let is_letter = letters.contains(&format!("\"event_id\":\"{time}\""));
        assert_ne!(is_row, is_letter, "{time}: {rows:?}\n{letters}");
    }
    let refused = old.iter().filter(|time| !rows.contains(*time)).count();
    assert_eq!(letters.matches("outside the allowed bounds").count(), refused, "{letters}");
}

/// The daemon, and `kappa check --connect`, under an account that has exactly the documented roles.
/// `account` are the settings that name it; `grant` gives it roles on what the settings name.
pub(crate) async fn roles(
    project: &Project,
    account: &[String],
    grant: impl AsyncFn(&Project, &[Grant], &[String]),
) {
    let set = pipeline(project);
    done(project, &["setup"], &set).await;
    let second = |n| Timestamp::now().before(Duration::from_secs(n)).to_string();
    let times: Vec<_> = (0..20).map(second).collect();
    let file = orders(&times);
    done(project, &["publish", file.path().to_str().unwrap()], &set).await;
    let under_it = [&set, account].concat();
    let roles_of = |command: &str| {
        let found = documented().into_iter().find(|(name, _)| name == command);
        found.unwrap_or_else(|| panic!("ops/iam.md has no {command}")).1
    };
    grant(project, &roles_of("run"), &set).await;
    // A grant takes minutes to reach every service.
    let arguments = ["run", "--until-idle", "--deadline", "2m"];
    let mut last = (None, String::new(), String::new());
    for _ in 0..5 {
        last = project.kappa(&arguments, &under_it).await;
        if last.0 == Some(0) {
            break;
        }
    }
    assert_eq!(last.0, Some(0), "{}{}", last.1, last.2);
    grant(project, &roles_of("check --connect"), &set).await;
    let told = done(project, &["check", "--connect"], &under_it).await;
    assert!(!told.contains("lacking"), "{told}");
    grant(project, &roles_of("dead-letters summary, list, show"), &set).await;
    let (rows, _) = outcome(project, &set).await;
    assert_eq!(rows.len(), times.len());
}

/// The jobs of the last day that applied upserts, and the bytes that they read. They begin some time after
/// the upserts, so these are of earlier runs too.
pub(crate) async fn apply_jobs(project: &Project, location: &str) -> Vec<(String, u64)> {
    bigquery(project, WriteMode::Upsert).await;
    let settings = project.settings("warehouse.backend=bigquery", &[project.dataset()]);
    let options = bigquery_options(&settings).unwrap();
    let view =
        format!("`{}.region-{}`.INFORMATION_SCHEMA.JOBS", options.project, location.to_lowercase());
    let sql = format!(
        "SELECT job_id, creation_time, total_bytes_processed FROM {view} \
         WHERE job_id LIKE '%cdc_background%'"
    );
    let day_ago = Timestamp::now().before(Duration::from_secs(86_400));
    let text = |cell: &serde_json::Value| cell.as_str().unwrap_or_default().to_owned();
    let rows = Sql::new(&options).query(&sql).await;
    let of_today = rows.iter().filter(|cells| {
        let created = text(&cells[1]).parse().map(Timestamp::from_micros);
        created.is_ok_and(|created| created > day_ago)
    });
    let jobs = of_today.map(|cells| (text(&cells[0]), text(&cells[2]).parse().unwrap_or_default()));
    let jobs: Vec<(String, u64)> = jobs.collect();
    let bytes: u64 = jobs.iter().map(|(_, bytes)| bytes).sum();
    eprintln!("apply jobs of the last day: {}, which read {bytes} bytes", jobs.len());
    jobs
}
