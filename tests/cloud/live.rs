//! The suites of `tests/live`, on the servers here: they run, and leave nothing behind.

use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use kappa::backend::bigquery::WriteMode;
use kappa_test_servers::bigquery::BigQueryServer;
use kappa_test_servers::pubsub::PubSubServer;
use kappa_test_servers::storage::StorageServer;

use crate::project::Project;
use crate::roles::permissions;
use crate::roles_table::Grant;
use crate::suites;

const PATIENCE: Duration = Duration::from_secs(120);

struct Servers {
    bigquery: BigQueryServer,
    storage: StorageServer,
    pubsub: PubSubServer,
}

impl Servers {
    async fn start() -> Self {
        Self {
            bigquery: BigQueryServer::start().await.unwrap(),
            storage: StorageServer::start().await.unwrap(),
            pubsub: PubSubServer::start().await.unwrap(),
        }
    }

    fn project(&self) -> Project {
        let endpoints = [
            format!("event_log.pubsub.endpoint={}", self.pubsub.grpc_endpoint()),
            format!("event_log.pubsub.admin_endpoint={}", self.pubsub.rest_endpoint()),
            format!("warehouse.bigquery.endpoint={}", self.bigquery.rest_endpoint()),
            format!("warehouse.bigquery.write_endpoint={}", self.bigquery.grpc_endpoint()),
            format!("archive.gcs.endpoint={}", self.storage.rest_endpoint()),
            format!("archive.gcs.control_endpoint={}", self.storage.grpc_endpoint()),
        ];
        Project::new("proj", "EU", endpoints)
    }

    /// Runs a suite; returns the resources that it left.
    async fn left_by(&self, suite: impl AsyncFnOnce(&Project)) -> Vec<String> {
        self.project().lend(PATIENCE, pending(), suite).await;
        self.left()
    }

    fn left(&self) -> Vec<String> {
        let mut left = self.pubsub.control().resources();
        left.extend(self.bigquery.control().datasets());
        left.extend(self.storage.control().buckets());
        left
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_of_the_event_log_runs_and_leaves_nothing() {
    assert_eq!(Servers::start().await.left_by(suites::pubsub).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suites_of_the_warehouse_run_and_leave_nothing() {
    for mode in [WriteMode::Upsert, WriteMode::Append] {
        let servers = Servers::start().await;
        let left = servers.left_by(async |project| suites::bigquery(project, mode).await).await;
        assert_eq!(left, [""; 0]);
        assert_eq!(servers.bigquery.control().violations(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suites_of_history_run_and_leave_nothing() {
    for mode in [WriteMode::Upsert, WriteMode::Append] {
        let servers = Servers::start().await;
        let left = servers.left_by(async |project| suites::history(project, mode).await).await;
        assert_eq!(left, [""; 0]);
        assert_eq!(servers.bigquery.control().violations(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_of_the_archive_store_runs_and_leaves_nothing() {
    assert_eq!(Servers::start().await.left_by(suites::storage).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_of_setup_runs_and_leaves_nothing() {
    assert_eq!(Servers::start().await.left_by(suites::setup).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_of_old_and_future_events_runs_and_leaves_nothing() {
    for mode in [WriteMode::Upsert, WriteMode::Append] {
        let servers = Servers::start().await;
        let left = servers.left_by(async |project| suites::ages(project, mode).await).await;
        assert_eq!(left, [""; 0]);
        assert_eq!(servers.bigquery.control().violations(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_of_the_documented_roles_runs_and_leaves_nothing() {
    let servers = Servers::start().await;
    let grant = async |_: &Project, grants: &[Grant], set: &[String]| {
        let name = |key: &str| {
            let found = set.iter().find_map(|set| set.strip_prefix(&format!("{key}=")));
            found.unwrap().to_owned()
        };
        let path = |on: &str| match on {
            "topic" => format!("projects/proj/topics/{}", name("event_log.pubsub.topic")),
            "subscription" => {
                format!("projects/proj/subscriptions/{}", name("event_log.subscription"))
            }
            "dataset" => format!("projects/proj/datasets/{}", name("warehouse.bigquery.dataset")),
            "bucket" => format!("projects/_/buckets/{}", name("archive.gcs.bucket")),
            _ => "projects/proj".to_owned(),
        };
        let all: Vec<_> = grants
            .iter()
            .flat_map(|grant| {
                let path = path(&grant.on);
                permissions(&grant.role).iter().map(move |it| (path.clone(), (*it).to_owned()))
            })
            .collect();
        servers.pubsub.control().grant_only(all.clone());
        servers.bigquery.control().grant_only(all.clone());
        servers.storage.control().grant_only(all);
    };
    let left = servers.left_by(async |project| {
        suites::roles(project, &[], &grant).await;
        // The resources are removed as their owner does it.
        servers.pubsub.control().grant_all();
        servers.bigquery.control().grant_all();
        servers.storage.control().grant_all();
    });
    assert_eq!(left.await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_of_apply_jobs_counts_their_bytes_and_leaves_no_resource() {
    let servers = Servers::start().await;
    let left = servers.left_by(async |project| {
        let jobs = suites::apply_jobs(project, "EU").await;
        assert!(!jobs.is_empty() && jobs.iter().all(|(_, bytes)| *bytes > 0), "{jobs:?}");
    });
    assert_eq!(left.await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suite_that_fails_half_way_fails_and_leaves_nothing() {
    let servers = Servers::start().await;
    let failing = servers.left_by(async |project| {
        suites::setup(project).await;
        assert_eq!(servers.left().len(), 4);
        panic!("half way");
    });
    let panic = AssertUnwindSafe(failing).catch_unwind().await.unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"half way"));
    assert_eq!(servers.left(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suite_that_is_stopped_fails_and_leaves_nothing() {
    let servers = Servers::start().await;
    let (made, stopped) = tokio::sync::oneshot::channel();
    let hanging = async |project: &Project| {
        suites::setup(project).await;
        made.send(()).unwrap();
        pending().await
    };
    let stopped = stopped.map(Result::unwrap);
    let stopped = servers.project().lend(PATIENCE, stopped, hanging);
    AssertUnwindSafe(stopped).catch_unwind().await.unwrap_err();
    assert_eq!(servers.left(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_cannot_be_removed_is_named_and_the_others_are_removed() {
    let servers = Servers::start().await;
    let refusing = servers.left_by(async |project| {
        suites::setup(project).await;
        servers.bigquery.control().revoke(true);
    });
    let panic = AssertUnwindSafe(refusing).catch_unwind().await.unwrap_err();
    let told = panic.downcast_ref::<String>().unwrap();
    let left = servers.left();
    assert_eq!(left.len(), 1, "{left:?}");
    let dataset = left[0].strip_prefix("proj.").unwrap();
    assert!(told.contains(&format!("dataset {dataset}: 403")), "{told}");
}
