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

/// The things, each line beginning with how it stands.
fn all(state: &str) -> String {
    let things = [
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
async fn what_is_missing_is_made_once_and_what_differs_is_told_and_left() {
    let project = Project::start().await;
    let (code, told, error) = project.setup("--dry-run").await;
    assert_eq!((code, sorted(&told), error), (Some(0), all("missing"), String::new()));
    assert!(project.pubsub.control().resource("projects/proj/topics/events").is_none());
    assert!(project.bigquery.control().requests().iter().all(|request| request.starts_with("GET")));

    let (code, told, error) = project.setup("").await;
    assert_eq!((code, sorted(&told), error), (Some(0), all("created"), String::new()));
    let made = project.pubsub.control().resource("projects/proj/subscriptions/kappa").unwrap();
    assert_eq!(
        (&made["ackDeadlineSeconds"], &made["retainAckedMessages"]),
        (&120.into(), &true.into())
    );
    assert_eq!(made["messageRetentionDuration"], "604800s");
    assert!(made["deadLetterPolicy"].is_null(), "{made}");
    let bucket = project.storage.control().made_bucket("events-of-proj");
    assert_eq!(bucket, Some(("EU".to_owned(), vec![("composing/".to_owned(), 30)])));

    let (code, told, error) = project.setup("").await;
    assert_eq!((code, sorted(&told), error), (Some(0), all("kept"), String::new()));

    let letters = json!({ "deadLetterTopic": "projects/proj/topics/lost" });
    let name = "projects/proj/subscriptions/kappa";
    project.pubsub.control().change(name, "deadLetterPolicy", letters.clone());
    let (code, told, _) = project.setup("--set warehouse.bigquery.max_staleness=1m").await;
    assert_eq!(code, Some(1));
    let differs = [
        "differs from the configuration\tsubscription\tprojects/proj/subscriptions/kappa\n\
         \tdead-letter topic\tis projects/proj/topics/lost\tconfigured none",
        "differs from the configuration\ttable\tproj.kappa.orders\n\
         \tmax_staleness\tis 0-0 0 0:15:0\tconfigured 0-0 0 0:1:0",
    ];
    for lines in differs {
        assert!(told.contains(lines), "{told}");
    }
    assert_eq!(project.pubsub.control().resource(name).unwrap()["deadLetterPolicy"], letters);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_and_a_lifecycle_that_differ_are_told_and_left() {
    let project = Project::start().await;
    let append = "--set warehouse.bigquery.each.orders.mode=append";
    let (_, told, error) = project.setup(append).await;
    assert!(told.contains("created\tview\tproj.kappa.orders_deduplicated"), "{told}{error}");
    let (code, told, _) = project.setup(append).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("kept\tview\tproj.kappa.orders_deduplicated"), "{told}");

    let view = json!({ "query": "SELECT * FROM `proj.kappa.orders`" });
    project.bigquery.control().change("proj.kappa.orders_deduplicated", "view", view.clone());
    project.storage.control().drop_lifecycle("events-of-proj");
    let (code, told, _) = project.setup(append).await;
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

    // A view alone that is missing is told and made.
    project.bigquery.control().delete_table("proj.kappa.orders_deduplicated");
    let (_, told, _) = project.setup(&format!("{append} --dry-run")).await;
    assert!(told.contains("missing\tview\tproj.kappa.orders_deduplicated"), "{told}");
    let (_, told, _) = project.setup(append).await;
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
async fn check_asks_the_services_and_names_what_is_missing_and_lacking() {
    let project = Project::start().await;
    let (code, told, error) = project.run("check", "--connect").await;
    assert_eq!(code, Some(1));
    assert!(sorted(&told).contains("missing\tbucket\tevents-of-proj"), "{told}");
    assert!(error.contains("9 things are missing") && error.contains("kappa setup"), "{error}");

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
