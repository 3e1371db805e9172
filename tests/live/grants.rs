//! Roles granted on a test's resources, over REST.

use std::collections::BTreeMap;

use google_cloud_auth::credentials::Credentials;
use kappa::wiring::cloud::{bigquery_options, gcs_options, pubsub_options};
use reqwest::Method;
use serde_json::{Value, json};

use crate::dataset::headers;
use crate::project::Project;
use crate::roles_table::Grant;

impl Project {
    /// Grants roles to `member` on the resources that `set` names. A role on the project cannot be granted for a test.
    pub(crate) async fn grant(&self, member: &str, grants: &[Grant], set: &[String]) {
        let mut roles: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for Grant { role, on } in grants.iter().filter(|grant| grant.on != "project") {
            roles.entry(on).or_default().push(role);
        }
        for (on, roles) in roles {
            match on {
                "topic" | "subscription" => self.grant_on_log(on, member, &roles, set).await,
                "dataset" => self.grant_on_dataset(member, &roles, set).await,
                "bucket" => self.grant_on_bucket(member, &roles, set).await,
                other => panic!("roles on {other}"),
            }
        }
    }

    async fn grant_on_log(&self, on: &str, member: &str, roles: &[&str], set: &[String]) {
        let settings = self.settings("event_log.backend=pubsub", set);
        let options = pubsub_options(&settings).unwrap();
        let name = match on {
            "topic" => format!("topics/{}", settings.event_log.pubsub.topic),
            _ => format!("subscriptions/{}", settings.event_log.subscription),
        };
        let url = format!("https://pubsub.googleapis.com/v1/projects/{}/{name}", options.project);
        let policy = json!({ "policy": { "bindings": bindings(member, roles) } });
        let url = format!("{url}:setIamPolicy");
        asked(Method::POST, &url, &options.credentials, Some(&policy)).await;
    }

    async fn grant_on_dataset(&self, member: &str, roles: &[&str], set: &[String]) {
        let options = bigquery_options(&self.settings("warehouse.backend=bigquery", set)).unwrap();
        let (project, dataset) = (&options.project, &options.dataset);
        let url = format!(
            "https://bigquery.googleapis.com/bigquery/v2/projects/{project}/datasets/{dataset}"
        );
        let found = asked(Method::GET, &url, &options.credentials, None).await;
        let mut access = found["access"].as_array().cloned().unwrap_or_default();
        let email = member.trim_start_matches("serviceAccount:");
        access.extend(roles.iter().map(|role| json!({ "role": role, "userByEmail": email })));
        let body = json!({ "access": access });
        asked(Method::PATCH, &url, &options.credentials, Some(&body)).await;
    }

    async fn grant_on_bucket(&self, member: &str, roles: &[&str], set: &[String]) {
        let options = gcs_options(&self.settings("archive.backend=gcs", set)).unwrap();
        let url = format!("https://storage.googleapis.com/storage/v1/b/{}/iam", options.bucket);
        let mut policy = asked(Method::GET, &url, &options.credentials, None).await;
        let mut all = policy["bindings"].as_array().cloned().unwrap_or_default();
        all.extend(bindings(member, roles));
        policy["bindings"] = all.into();
        asked(Method::PUT, &url, &options.credentials, Some(&policy)).await;
    }
}

fn bindings(member: &str, roles: &[&str]) -> Vec<Value> {
    roles.iter().map(|role| json!({ "role": role, "members": [member] })).collect()
}

async fn asked(method: Method, url: &str, who: &Credentials, body: Option<&Value>) -> Value {
    let mut request = reqwest::Client::new().request(method, url);
    if let Some(body) = body {
        request = request.json(body);
    }
    let answer = request.headers(headers(who).await).send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{url}: {status}: {text}");
    serde_json::from_str(&text).unwrap_or_default()
}
