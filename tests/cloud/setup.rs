//! `kappa setup` against servers that know nothing yet.

use std::process::{Command, Output};

use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::PubsubMessage;
use kappa_test_servers::bigquery::BigQueryServer;
use kappa_test_servers::pubsub::PubSubServer;
use kappa_test_servers::storage::StorageServer;
use serde_json::json;

struct Project {
    bigquery: BigQueryServer,
    storage: StorageServer,
    pubsub: PubSubServer,
}

impl Project {
    async fn start() -> Self {
        Self {
            bigquery: BigQueryServer::start().await.unwrap(),
            storage: StorageServer::start().await.unwrap(),
            pubsub: PubSubServer::start().await.unwrap(),
        }
    }

    async fn setup(&self, arguments: &str) -> (Option<i32>, String, String) {
        self.run("setup", arguments).await
    }

    async fn run(&self, command: &str, arguments: &str) -> (Option<i32>, String, String) {
        let verb = command;
        let mut command = Command::new(env!("CARGO_BIN_EXE_kappa"));
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/gcp.toml");
        command.args([verb, "--config", file]);
        for set in [
            "gcp.project=proj",
            "archive.gcs.bucket=events-of-proj",
            &format!("event_log.pubsub.endpoint={}", self.pubsub.rest_endpoint()),
            &format!("warehouse.bigquery.endpoint={}", self.bigquery.rest_endpoint()),
            &format!("archive.gcs.endpoint={}", self.storage.rest_endpoint()),
            &format!("archive.gcs.control_endpoint={}", self.storage.grpc_endpoint()),
        ] {
            command.args(["--set", set]);
        }
        command.args(arguments.split_whitespace());
        let run = tokio::task::spawn_blocking(move || command.output().unwrap());
        let Output { status, stdout, stderr } = run.await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }
}

/// Returns the resources, one a line, each with its state.
fn all(state: &str) -> String {
    let things = [
        "view\tproj.kappa.orders_deduplicated",
        "view\tproj.kappa.users_deduplicated",
        "view\tproj.kappa.products_deduplicated",
        "view\tproj.kappa.other_deduplicated",
        "topic\tprojects/proj/topics/events",
        "subscription\tprojects/proj/subscriptions/kappa",
        "dataset\tproj.kappa",
        "table\tproj.kappa.dead_letters",
        "table\tproj.kappa.orders",
        "table\tproj.kappa.users",
        "table\tproj.kappa.products",
        "table\tproj.kappa.other",
        "bucket\tevents-of-proj",
    ];
    let mut lines: Vec<_> = things.iter().map(|thing| format!("{state}\t{thing}")).collect();
    lines.sort();
    lines.join("\n")
}

fn sorted(told: &str) -> String {
    let mut lines: Vec<_> = told.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_resources_are_made_once_and_differences_are_reported() {
    let project = Project::start().await;
    let (code, told, error) = project.setup("--dry-run").await;
    assert_eq!((code, sorted(&told), error), (Some(0), all("missing"), String::new()));
    assert!(project.pubsub.control().resource("projects/proj/topics/events").is_none());
    assert!(project.bigquery.control().requests().iter().all(|request| request.starts_with("GET")));

    let (code, told, error) = project.setup("").await;
    assert_eq!((code, sorted(&told), error), (Some(0), all("created"), String::new()));
    let made = project.pubsub.control().resource("projects/proj/subscriptions/kappa").unwrap();
    assert_eq!(
        (&made["ackDeadlineSeconds"], made["retainAckedMessages"].as_bool().unwrap_or_default()),
        (&120.into(), false)
    );
    assert_eq!(made["messageRetentionDuration"], "604800s");
    assert!(made["deadLetterPolicy"].is_null(), "{made}");
    let bucket = project.storage.control().made_bucket("events-of-proj");
    assert_eq!(bucket, Some(("EU".to_owned(), vec![("composing/".to_owned(), 30)])));
    assert_eq!(project.storage.control().soft_deleted_for("events-of-proj"), Some(0));
    let topic = project.pubsub.control().resource("projects/proj/topics/events").unwrap();
    assert_eq!(topic["messageRetentionDuration"], "86400s");

    let (code, told, error) = project.setup("").await;
    assert_eq!((code, sorted(&told), error), (Some(0), all("kept"), String::new()));

    let letters = json!({ "deadLetterTopic": "projects/proj/topics/lost" });
    let name = "projects/proj/subscriptions/kappa";
    project.pubsub.control().change(name, "deadLetterPolicy", letters.clone());
    project.bigquery.control().change("proj.kappa.dead_letters", "labels", json!({ "a": "b" }));
    let (code, told, _) = project.setup("").await;
    assert_eq!(code, Some(1));
    let differs = [
        "differs from the configuration\tsubscription\tprojects/proj/subscriptions/kappa\n\
         \tdead-letter topic\tis projects/proj/topics/lost\tconfigured none",
        "differs from the configuration\ttable\tproj.kappa.dead_letters\n\
         \tlabels\tis {\"a\":\"b\"}\tconfigured none",
    ];
    for lines in differs {
        assert!(told.contains(lines), "{told}");
    }
    assert_eq!(project.pubsub.control().resource(name).unwrap()["deadLetterPolicy"], letters);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_different_view_and_lifecycle_are_reported_and_left() {
    let project = Project::start().await;
    let (_, told, error) = project.setup("").await;
    assert!(told.contains("created\tview\tproj.kappa.orders_deduplicated"), "{told}{error}");
    let (code, told, _) = project.setup("").await;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("kept\tview\tproj.kappa.orders_deduplicated"), "{told}");

    let view = json!({ "query": "SELECT * FROM `proj.kappa.orders`" });
    project.bigquery.control().change("proj.kappa.orders_deduplicated", "view", view.clone());
    project.storage.control().drop_lifecycle("events-of-proj");
    let (code, told, _) = project.setup("").await;
    assert_eq!(code, Some(1));
    for lines in [
        "differs from the configuration\tview\tproj.kappa.orders_deduplicated\n\
         \tquery\tis SELECT * FROM `proj.kappa.orders`\tconfigured SELECT `event_id`",
        "differs from the configuration\tbucket\tevents-of-proj\n\
         \tlifecycle\tis 0 rules, none of which does\tconfigured to delete composing/ after 30 days",
    ] {
        assert!(told.contains(lines), "{told}");
    }
    let left = project.bigquery.control().resource("proj.kappa.orders_deduplicated").unwrap();
    assert_eq!(left["view"], view);
    assert_eq!(project.storage.control().made_bucket("events-of-proj").unwrap().1, []);

    // A missing view alone is reported and made.
    project.bigquery.control().delete_table("proj.kappa.orders_deduplicated");
    let (_, told, _) = project.setup("--dry-run").await;
    assert!(told.contains("missing\tview\tproj.kappa.orders_deduplicated"), "{told}");
    let (_, told, _) = project.setup("").await;
    assert!(told.contains("created\tview\tproj.kappa.orders_deduplicated"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_warns_of_a_dead_letter_topic_that_is_attached() {
    let project = Project::start().await;
    project.setup("").await;
    let (_, told, _) = project.run("check", "--connect").await;
    assert!(!told.contains("dead-letter topic"), "{told}");
    let letters = json!({ "deadLetterTopic": "projects/proj/topics/lost" });
    let name = "projects/proj/subscriptions/kappa";
    project.pubsub.control().change(name, "deadLetterPolicy", letters);
    let (code, told, _) = project.run("check", "--connect").await;
    assert_eq!(code, Some(0), "a warning does not change it");
    let warning = "warning\tprojects/proj/subscriptions/kappa has the dead-letter topic \
                   projects/proj/topics/lost: what kappa gives back";
    assert!(told.contains(warning) && told.contains("detach it"), "{told}");
}

/// The settings that make a table of latest states.
const LATEST: &str = "--set processors.users.key=['entity_id'] --set processors.users.cluster_by=[] \
                      --set processors.users.order_by=event_timestamp";

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_latest_states_takes_upserts_and_is_clustered_by_its_key() {
    let project = Project::start().await;
    let (code, told, error) = project.setup(LATEST).await;
    assert_eq!((code, &*error), (Some(0), ""), "{told}");
    assert!(!told.contains("users_deduplicated") && !told.contains("warning"), "{told}");
    let users = project.bigquery.control().resource("proj.kappa.users").unwrap();
    assert_eq!(users["tableConstraints"]["primaryKey"]["columns"], json!(["entity_id"]));
    assert_eq!(users["maxStaleness"], "0-0 0 4:0:0");
    assert_eq!(users["clustering"]["fields"], json!(["entity_id"]));
    let orders = project.bigquery.control().resource("proj.kappa.orders").unwrap();
    assert!(orders["tableConstraints"].is_null() && orders["maxStaleness"].is_null(), "{orders}");

    let quick = format!("{LATEST} --set warehouse.bigquery.max_staleness=15m");
    let (code, told, _) = project.setup(&quick).await;
    assert_eq!(code, Some(1), "{told}");
    let differs = "\tmax_staleness\tis 0-0 0 4:0:0\tconfigured 0-0 0 0:15:0";
    let warning = "warning\ttable users takes upserts: BigQuery reads the whole table to apply them, \
                   every 15m, for up to $18000 a month";
    assert!(told.contains(differs) && told.contains(warning), "{told}");
}

/// Final files become cold; parts, which live for minutes, never do.
#[tokio::test(flavor = "multi_thread")]
async fn a_storage_class_is_set_by_a_rule_on_final_files_alone() {
    let project = Project::start().await;
    let cold = "--set archive.gcs.storage_class=COLDLINE --set archive.gcs.prefix=k/";
    let (code, told, _) = project.setup(cold).await;
    assert_eq!(code, Some(0), "{told}");
    let control = project.storage.control();
    let names = ["k/parts/a.jsonl", "k/events/dt=2026-11-28/a.jsonl", "k/composing/a", "events/b"];
    for name in names {
        control.put("events-of-proj", name, "x");
    }
    control.grow_old("events-of-proj", 1);
    let classes = names.map(|name| control.storage_class("events-of-proj", name).unwrap());
    assert_eq!(classes, ["STANDARD", "COLDLINE", "STANDARD", "STANDARD"]);
    let (code, _, _) = project.setup(cold).await;
    assert_eq!(code, Some(0), "the rule is found again");
    let colder = cold.replace("COLDLINE", "ARCHIVE");
    let (code, told, _) = project.setup(&colder).await;
    let differs = "\tlifecycle\tis 2 rules, none of which does\tconfigured to set the class ARCHIVE of \
                   k/events/ after 1 days";
    assert!(code == Some(1) && told.contains(differs), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_costs_more_than_it_needs_to_is_a_warning_of_setup_and_check() {
    let project = Project::start().await;
    project.setup("").await;
    project.storage.control().spoil_bucket("events-of-proj", "NEARLINE");
    let control = project.pubsub.control();
    let topic = "projects/proj/topics/events";
    control.keep(topic, 604_800);
    control.change("projects/proj/subscriptions/kappa", "retainAckedMessages", json!(true));
    for (command, arguments) in [("setup", ""), ("check", "--connect")] {
        let (code, told, error) = project.run(command, arguments).await;
        assert_eq!((code, &*error), (Some(0), ""), "a warning does not change it: {told}");
        for warning in [
            "warning\tevents-of-proj has soft delete",
            "warning\tevents-of-proj makes objects of the class NEARLINE",
            "warning\tprojects/proj/topics/events keeps all messages for 7days",
            "warning\tprojects/proj/subscriptions/kappa keeps acknowledged messages for 7days",
        ] {
            assert!(told.contains(warning), "{command}: {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_service_that_refuses_hides_no_other() {
    let project = Project::start().await;
    project.bigquery.control().revoke(true);
    let (code, told, error) = project.setup("").await;
    assert_eq!(code, Some(1));
    assert!(told.contains("created\ttopic") && told.contains("created\tbucket"), "{told}");
    assert!(error.contains("grant roles/bigquery.dataEditor on proj.kappa"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_asks_the_services_and_names_missing_resources_and_permissions() {
    let project = Project::start().await;
    let (code, told, error) = project.run("check", "--connect").await;
    assert_eq!(code, Some(1));
    assert!(sorted(&told).contains("missing\tbucket\tevents-of-proj"), "{told}");
    assert!(error.contains("13 things are missing") && error.contains("kappa setup"), "{error}");

    project.setup("").await;
    let (code, told, error) = project.run("check", "--connect").await;
    assert_eq!((code, &*error), (Some(0), ""), "{told}");

    project.bigquery.control().deny("bigquery.tables.updateData");
    project.storage.control().deny("storage.objects.delete");
    let (code, told, error) = project.run("check", "--connect").await;
    assert_eq!(code, Some(1));
    assert!(error.contains("6 permissions are lacking"), "{error}");
    for line in [
        "lacking\tbigquery.tables.updateData\tproj.kappa.orders\tgrant roles/bigquery.dataEditor",
        "lacking\tstorage.objects.delete\tprojects/_/buckets/events-of-proj\t\
         grant roles/storage.objectUser",
    ] {
        assert!(told.contains(line), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_is_made_as_it_is_configured_or_refused_in_the_words_of_the_service() {
    let project = Project::start().await;
    let (code, _, error) = project.setup("--set event_log.pubsub.filter=data:x").await;
    assert_eq!(code, Some(1));
    assert!(error.contains("a filter looks at attributes"), "{error}");
    let name = "projects/proj/subscriptions/kappa";
    assert!(project.pubsub.control().resource(name).is_none());

    let (code, _, error) = project.setup("--set event_log.pubsub.filter=attributes:shop").await;
    assert_eq!(code, Some(0), "{error}");
    let message = |attributes: &[(&str, &str)]| PubsubMessage {
        data: "{}".into(),
        attributes: attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..Default::default()
    };
    let messages = [message(&[("shop", "7")]), message(&[("other", "7")]), message(&[])];
    project.pubsub.control().store("projects/proj/topics/events", messages);
    assert_eq!(project.pubsub.control().unacknowledged_count(), 1);
}
