//! Each command runs with exactly the roles that `ops/iam.md` documents for it.

use std::collections::BTreeSet;
use std::process::Output;

use rustix::process::Signal;

use super::replicas::{Services, TOPIC, generated};
use super::roles_table::{Grant, documented};

/// Permissions of the predefined roles, as far as the servers here ask for them:
/// <https://cloud.google.com/pubsub/docs/access-control#roles>,
/// <https://cloud.google.com/bigquery/docs/access-control>,
/// <https://cloud.google.com/storage/docs/access-control/iam-roles>.
const ROLES: [(&str, &[&str]); 11] = [
    (
        "roles/pubsub.subscriber",
        &[
            "pubsub.subscriptions.consume",
            "pubsub.snapshots.seek",
            "pubsub.topics.attachSubscription",
        ],
    ),
    (
        "roles/pubsub.viewer",
        &["pubsub.subscriptions.get", "pubsub.topics.get", "pubsub.snapshots.get"],
    ),
    ("roles/pubsub.publisher", &["pubsub.topics.publish"]),
    (
        "roles/pubsub.editor",
        &[
            "pubsub.snapshots.create",
            "pubsub.snapshots.delete",
            "pubsub.snapshots.get",
            "pubsub.snapshots.seek",
            "pubsub.subscriptions.consume",
            "pubsub.subscriptions.create",
            "pubsub.subscriptions.delete",
            "pubsub.subscriptions.get",
            "pubsub.topics.attachSubscription",
            "pubsub.topics.create",
            "pubsub.topics.delete",
            "pubsub.topics.get",
            "pubsub.topics.publish",
        ],
    ),
    (
        "roles/bigquery.dataEditor",
        &[
            "bigquery.datasets.get",
            "bigquery.tables.create",
            "bigquery.tables.delete",
            "bigquery.tables.get",
            "bigquery.tables.getData",
            "bigquery.tables.list",
            "bigquery.tables.update",
            "bigquery.tables.updateData",
        ],
    ),
    (
        "roles/bigquery.dataViewer",
        &[
            "bigquery.datasets.get",
            "bigquery.tables.get",
            "bigquery.tables.getData",
            "bigquery.tables.list",
        ],
    ),
    ("roles/bigquery.jobUser", &["bigquery.jobs.create"]),
    (
        "roles/bigquery.user",
        &[
            "bigquery.datasets.create",
            "bigquery.datasets.get",
            "bigquery.jobs.create",
            "bigquery.tables.list",
        ],
    ),
    (
        "roles/storage.objectUser",
        &[
            "storage.objects.create",
            "storage.objects.delete",
            "storage.objects.get",
            "storage.objects.list",
            "storage.objects.update",
        ],
    ),
    ("roles/storage.objectViewer", &["storage.objects.get", "storage.objects.list"]),
    ("roles/storage.legacyBucketReader", &["storage.buckets.get", "storage.objects.list"]),
];

/// Of `roles/storage.admin`, which `setup` alone has.
const STORAGE_ADMIN: [&str; 2] = ["storage.buckets.create", "storage.buckets.get"];

pub(super) fn permissions(role: &str) -> &'static [&'static str] {
    if role == "roles/storage.admin" {
        return &STORAGE_ADMIN;
    }
    let found = ROLES.iter().find(|(name, _)| *name == role);
    found.unwrap_or_else(|| panic!("the permissions of {role}")).1
}

/// Leaves the account of all three servers these roles alone.
fn grant(services: &Services, grants: &[Grant]) {
    let all = |path_of: fn(&str) -> Option<&'static str>| {
        let grants = grants.iter().filter_map(move |grant| Some((path_of(&grant.on)?, grant)));
        grants.flat_map(|(path, grant)| {
            permissions(&grant.role).iter().map(move |name| (path.to_owned(), (*name).to_owned()))
        })
    };
    services.pubsub.control().grant_only(all(|on| match on {
        "topic" => Some(TOPIC),
        "subscription" => Some("projects/p/subscriptions/s"),
        "project" => Some("projects/p"),
        _ => None,
    }));
    services.bigquery.control().grant_only(all(|on| match on {
        "dataset" => Some("projects/p/datasets/d"),
        "project" => Some("projects/p"),
        _ => None,
    }));
    services.storage.control().grant_only(all(|on| match on {
        // The only one.
        "bucket" => Some("projects/_/buckets"),
        // The project of all buckets here.
        "project" => Some("projects/_"),
        _ => None,
    }));
}

fn roles_of(command: &str) -> Vec<Grant> {
    let commands = documented();
    let found = commands.into_iter().find(|(name, _)| name == command);
    found.unwrap_or_else(|| panic!("ops/iam.md has no {command}")).1
}

/// Runs a command with the roles of its line in `ops/iam.md`; returns its output.
async fn as_documented(services: &Services, command: &str, arguments: &str, code: i32) -> String {
    grant(services, &roles_of(command));
    let Output { status, stdout, stderr } = services.output(arguments, b"").await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(stdout), text(stderr));
    assert_eq!(status.code(), Some(code), "{command}: kappa {arguments}\n{out}{err}");
    assert!(!err.contains("grant ") && !err.contains("ermission"), "{command}\n{err}");
    out
}

/// A daemon that has the roles, until `count` messages are acknowledged.
async fn run_as(services: &Services, command: &str, name: &str, count: usize) {
    grant(services, &roles_of(command));
    let mut daemon = services.daemon(name);
    services.until_acknowledged(count).await;
    assert_eq!(daemon.stop(Signal::TERM), Some(0));
    let log = std::fs::read_to_string(services.folder.path().join(format!("{name}.log"))).unwrap();
    assert!(!log.contains("grant "), "{log}");
}

/// Commands of the document that run once the archive and the tables have history, in this order.
const COMMANDS: [(&str, &str, i32); 13] = [
    ("check --connect", "check --connect", 0),
    ("publish", "publish -", 0),
    ("archive list, cat, verify", "archive list", 0),
    ("archive list, cat, verify", "archive cat", 0),
    ("archive list, cat, verify", "archive verify", 0),
    ("audit", "audit --from 2020-01-01 --to 2100-01-01", 0),
    (
        "audit --acknowledged-before",
        "audit --from 2020-01-01 --to 2100-01-01 --acknowledged-before 2100-01-01",
        0,
    ),
    ("dead-letters summary, list, show", "dead-letters summary", 0),
    // The events are as invalid as before.
    ("dead-letters requeue", "dead-letters requeue", 1),
    ("replay", "replay --from 2020-01-01 --to 2100-01-01 --into live", 0),
    ("replay --into staging", "replay --from 2020-01-01 --to 2100-01-01 --into staging", 0),
    ("diff", "diff orders", 0),
    ("merge", "merge orders", 0),
];

/// Commands that have a test of their own.
const APART: [&str; 8] = [
    "run",
    "run, without a dataset",
    "run, a rule changed",
    "setup",
    "seek",
    "replay --source log",
    "replay --source dead-letters",
    "dead-letters purge",
];

#[test]
fn every_command_of_the_document_is_run() {
    let documented: BTreeSet<_> = documented().into_iter().map(|(command, _)| command).collect();
    let tested = COMMANDS.iter().map(|(command, ..)| *command).chain(APART);
    assert_eq!(documented, tested.map(str::to_owned).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_and_the_commands_need_no_more_than_their_roles() {
    let services = Services::start().await;
    services.pubsub.control().keep(TOPIC, 86_400);
    let events = generated(300);
    services.publish(&events[..150]);
    run_as(&services, "run, without a dataset", "one", 150).await;
    services.publish(&events[150..]);
    run_as(&services, "run", "two", 300).await;
    services.check(&events);
    for (command, arguments, code) in COMMANDS {
        let out = as_documented(&services, command, arguments, code).await;
        assert!(!out.contains("lacking"), "{command}\n{out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_read_with_no_more_than_the_roles_of_its_commands() {
    let services = Services::start().await;
    services.pubsub.control().keep(TOPIC, 86_400);
    let events = generated(200);
    services.publish(&events);
    run_as(&services, "run, without a dataset", "one", 200).await;
    let from = kappa_actors::time::Timestamp::now();
    let from = kappa_actors::time::Timestamp::from_micros(from.micros() - 3_600_000_000);
    let to = kappa_actors::time::Timestamp::now();
    let log = format!("replay --from {from} --to {to} --source log --into live");
    as_documented(&services, "replay --source log", &log, 0).await;
    let letters = "replay --source dead-letters --into staging";
    as_documented(&services, "replay --source dead-letters", letters, 0).await;
    let purge = "dead-letters purge --older-than 0s --yes";
    let purged = as_documented(&services, "dead-letters purge", purge, 0).await;
    assert!(!purged.starts_with("purged\t0\n"), "{purged}");
    as_documented(&services, "seek", &format!("seek --time {from}"), 0).await;
    assert_eq!(services.pubsub.control().snapshots(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_rule_asks_for_the_role_that_the_account_lacks() {
    let services = Services::start().await;
    services.publish(&generated(60));
    run_as(&services, "run, without a dataset", "one", 60).await;
    let changed = ["processors.orders.columns.currency.default=EUR".to_owned()];
    for (command, words) in [
        ("run", "grant roles/bigquery.jobUser on the project p"),
        ("run, a rule changed", "has changed since revision 0"),
    ] {
        grant(&services, &roles_of(command));
        let mut daemon = services.daemon_with("two", &changed);
        let ended = tokio::task::spawn_blocking(move || daemon.0.wait().unwrap()).await.unwrap();
        let log = std::fs::read_to_string(services.folder.path().join("two.log")).unwrap();
        assert!(!ended.success() && log.contains(words), "{command}: {log}");
        assert!(!log.contains("roles/bigquery.dataEditor"), "{command}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_makes_all_with_its_roles_and_check_names_a_missing_role() {
    let services = Services::start().await;
    services.pubsub.control().delete(TOPIC);
    services.pubsub.control().delete("projects/p/subscriptions/s");
    services.storage.control().remove_bucket("b");
    let bucket = "--set archive.gcs.bucket=events-of-p";
    let out = as_documented(&services, "setup", &format!("setup {bucket}"), 0).await;
    for kind in ["topic", "subscription", "dataset", "table", "bucket"] {
        assert!(out.contains(&format!("created\t{kind}\t")), "{kind}\n{out}");
    }
    let check = format!("check --connect {bucket}");
    as_documented(&services, "check --connect", &check, 0).await;

    // With the daemon's roles alone the check names those that it needs beyond them, and no other.
    grant(&services, &roles_of("run"));
    let told = services.fail(&check).await;
    for words in [
        "grant roles/pubsub.viewer on it",
        "storage.buckets.get",
        "grant roles/storage.legacyBucketReader on it",
    ] {
        assert!(told.contains(words), "{words}\n{told}");
    }
    for role in ["roles/pubsub.editor", "roles/storage.objectUser", "roles/bigquery"] {
        assert!(!told.contains(role), "{role}\n{told}");
    }
}
