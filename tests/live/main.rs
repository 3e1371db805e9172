//! The backends on Google Cloud itself. It costs money and needs a project: see `README.md` here.
#![cfg(feature = "gcp")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "../shared/dataset.rs"]
mod dataset;
mod grants;
#[path = "../shared/letters.rs"]
mod letters;
#[path = "../shared/patience.rs"]
mod patience;
#[path = "../shared/project.rs"]
mod project;
#[path = "../shared/roles.rs"]
mod roles_table;
#[path = "../shared/suites.rs"]
mod suites;

use std::env::{self, VarError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kappa::backend::bigquery::WriteMode;
use project::Project;
use roles_table::Grant;

/// Most of it is waiting for schemas to spread.
const PATIENCE: Duration = Duration::from_secs(45 * 60);

/// Whether there was a Ctrl-C: no further test begins.
static STOPPED: AtomicBool = AtomicBool::new(false);

async fn stopped() {
    if !STOPPED.load(Ordering::Relaxed) {
        tokio::signal::ctrl_c().await.unwrap();
        STOPPED.store(true, Ordering::Relaxed);
        eprintln!("stopped: removing the created resources");
    }
}

fn variable(name: &str) -> Option<String> {
    match env::var(name) {
        Ok(value) => Some(value).filter(|value| !value.is_empty()),
        Err(VarError::NotPresent) => None,
        Err(error) => panic!("{name}: {error}"),
    }
}

/// Runs a suite in the project that the environment names.
async fn live(suite: impl AsyncFnOnce(&Project)) {
    let Some(id) = variable("KAPPA_LIVE_PROJECT") else {
        panic!(
            "KAPPA_LIVE_PROJECT is not set: name a project on Google Cloud to make and remove \
             things in, at your cost; see tests/live/README.md"
        );
    };
    let location = variable("KAPPA_LIVE_LOCATION").unwrap_or_else(|| "EU".to_owned());
    let further = variable("KAPPA_LIVE_SET").unwrap_or_default();
    let further = further.split_whitespace().map(str::to_owned);
    Project::new(&id, &location, further).lend(PATIENCE, stopped(), suite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pubsub_is_an_event_log() {
    live(suites::pubsub).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bigquery_is_a_warehouse_by_upserts() {
    live(async |project| suites::bigquery(project, WriteMode::Upsert).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bigquery_is_a_warehouse_by_appends() {
    live(async |project| suites::bigquery(project, WriteMode::Append).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bigquery_is_audited_compared_and_merged_with_upserts() {
    live(async |project| suites::history(project, WriteMode::Upsert).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bigquery_is_audited_compared_and_merged_with_appends() {
    live(async |project| suites::history(project, WriteMode::Append).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_1962_and_2040_are_rows_or_dead_letters() {
    live(async |project| {
        suites::ages(project, WriteMode::Upsert).await;
        suites::ages(project, WriteMode::Append).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_needs_no_more_than_the_documented_roles() {
    let names = ["KAPPA_LIVE_ACCOUNT", "KAPPA_LIVE_ACCOUNT_CREDENTIALS"];
    let [Some(email), Some(file)] = names.map(variable) else {
        panic!(
            "{names:?} are not set: name a service account without roles, and its key; see README.md"
        )
    };
    let account = [format!("gcp.credentials={file}")];
    let member = format!("serviceAccount:{email}");
    let grant = async |project: &Project, grants: &[Grant], set: &[String]| {
        project.grant(&member, grants, set).await;
    };
    live(async |project| suites::roles(project, &account, &grant).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_day_s_apply_jobs_are_counted_with_the_bytes_that_they_read() {
    let location = variable("KAPPA_LIVE_LOCATION").unwrap_or_else(|| "EU".to_owned());
    live(async |project| drop(suites::apply_jobs(project, &location).await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cloud_storage_is_an_archive_store() {
    live(suites::storage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_makes_missing_resources_and_keeps_them() {
    live(suites::setup).await;
}
