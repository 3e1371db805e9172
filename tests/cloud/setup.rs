//! `kappa setup` against servers that know nothing yet.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use kappa_test_servers::bigquery::BigQueryServer;
use kappa_test_servers::grpc;
use kappa_test_servers::storage::StorageServer;
use serde_json::{Value, json};

/// Topics and subscriptions by their full names.
type Admin = Arc<Mutex<BTreeMap<String, Value>>>;

/// <https://cloud.google.com/pubsub/docs/reference/rest>: GET describes, PUT creates.
async fn admin(
    method: Method,
    Path(name): Path<String>,
    State(books): State<Admin>,
    body: String,
) -> (StatusCode, Json<Value>) {
    let error = |code: StatusCode, status: &str| {
        let error = json!({ "code": code.as_u16(), "message": name, "status": status });
        (code, Json(json!({ "error": error })))
    };
    let mut books = books.lock().unwrap();
    if let Some(of) = name.strip_suffix(":testIamPermissions") {
        // An empty answer, not an error, for what does not exist.
        let asked: Value = serde_json::from_str(&body).unwrap();
        let held = books.contains_key(of).then(|| asked["permissions"].clone());
        return (StatusCode::OK, Json(json!({ "permissions": held.unwrap_or(json!([])) })));
    }
    match (method, books.get(&name)) {
        (Method::GET, Some(found)) => (StatusCode::OK, Json(found.clone())),
        (Method::GET, None) => error(StatusCode::NOT_FOUND, "NOT_FOUND"),
        (Method::PUT, Some(_)) => error(StatusCode::CONFLICT, "ALREADY_EXISTS"),
        (Method::PUT, None) => {
            let mut made: Value = serde_json::from_str(&body).unwrap();
            made["name"] = json!(name);
            let topic = made["topic"].as_str().unwrap_or_default();
            if name.contains("/subscriptions/") && !books.contains_key(topic) {
                return error(StatusCode::NOT_FOUND, "NOT_FOUND");
            }
            books.insert(name, made.clone());
            (StatusCode::OK, Json(made))
        }
        _ => error(StatusCode::NOT_IMPLEMENTED, "UNIMPLEMENTED"),
    }
}

struct Project {
    admin: Admin,
    bigquery: BigQueryServer,
    storage: StorageServer,
    pubsub: String,
}

impl Project {
    async fn start() -> Self {
        let books = Admin::default();
        let (listener, address) = grpc::listen().await.unwrap();
        let router = axum::Router::new()
            .route("/v1/{*path}", axum::routing::any(admin))
            .with_state(Arc::clone(&books));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            admin: books,
            bigquery: BigQueryServer::start().await.unwrap(),
            storage: StorageServer::start().await.unwrap(),
            pubsub: format!("http://{address}"),
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
            &format!("event_log.pubsub.endpoint={}", self.pubsub),
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
    assert!(project.admin.lock().unwrap().is_empty());
    assert!(project.bigquery.control().requests().iter().all(|request| request.starts_with("GET")));

    let (code, told, error) = project.setup("").await;
    assert_eq!((code, sorted(&told), error), (Some(0), all("created"), String::new()));
    let made = project.admin.lock().unwrap()["projects/proj/subscriptions/kappa"].clone();
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
    project.admin.lock().unwrap().get_mut(name).unwrap()["deadLetterPolicy"] = letters.clone();
    let (code, told, _) = project.setup("--set warehouse.bigquery.max_staleness=1m").await;
    assert_eq!(code, Some(1));
    let differs = [
        "differs\tsubscription\tprojects/proj/subscriptions/kappa\n\
         \tdead-letter topic\tis projects/proj/topics/lost\tconfigured none",
        "differs\ttable\tproj.kappa.orders\n\
         \tmax_staleness\tis 0-0 0 0:15:0\tconfigured 0-0 0 0:1:0",
    ];
    for lines in differs {
        assert!(told.contains(lines), "{told}");
    }
    assert_eq!(project.admin.lock().unwrap()[name]["deadLetterPolicy"], letters);
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
