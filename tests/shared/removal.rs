//! Removes the resources of a test over REST: kappa itself never removes a topic, a dataset or a bucket.

use std::fmt;
use std::time::Duration;

use kappa::backend::gcs::GcsArchive;
use kappa::settings::Settings;
use kappa::wiring::cloud::{bigquery_options, gcs_options, pubsub_options};
use kappa_actors::port::{ArchiveStore as _, ObjectRef};

use super::Project;
use crate::dataset::headers;

/// How often one removal is tried.
const ATTEMPTS: usize = 3;
/// The pause between them.
const PAUSE: Duration = Duration::from_secs(1);

/// A thing that may have been made.
#[derive(Clone, Debug)]
pub(crate) enum Made {
    /// By its full name.
    Topic(String),
    /// By its full name.
    Subscription(String),
    /// With all its tables.
    Dataset(String),
    /// With all its objects.
    Bucket(String),
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(name) | Self::Subscription(name) => write!(f, "{name}"),
            Self::Dataset(name) => write!(f, "dataset {name}"),
            Self::Bucket(name) => write!(f, "bucket {name}"),
        }
    }
}

impl Project {
    /// Removes all resources, the newest first, and returns those that are left.
    pub(super) async fn remove(&self) -> Vec<String> {
        let mut left = Vec::new();
        let made = std::mem::take(&mut *self.made.lock().unwrap());
        for made in made.iter().rev() {
            if let Err(told) = self.remove_one(made).await {
                left.push(format!("{made}: {told}"));
            }
        }
        left
    }

    async fn remove_one(&self, made: &Made) -> Result<(), String> {
        let mut told = String::new();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            match self.try_to_remove(made).await {
                Ok(()) => return Ok(()),
                Err(error) => told = error,
            }
        }
        Err(told)
    }

    async fn try_to_remove(&self, made: &Made) -> Result<(), String> {
        let settings = self.settings("archive.backend=embedded", &[]);
        let (url, credentials) = match made {
            Made::Topic(name) | Made::Subscription(name) => {
                let options = pubsub_options(&settings).map_err(told)?;
                let base = options.admin_endpoint.or(options.endpoint);
                let base = base.unwrap_or_else(|| "https://pubsub.googleapis.com".to_owned());
                (format!("{base}/v1/{name}"), options.credentials)
            }
            Made::Dataset(name) => {
                let options = bigquery_options(&settings).map_err(told)?;
                let base = options.endpoint;
                let base = base.unwrap_or_else(|| "https://bigquery.googleapis.com".to_owned());
                let path = format!("bigquery/v2/projects/{}/datasets/{name}", options.project);
                (format!("{base}/{path}?deleteContents=true"), options.credentials)
            }
            Made::Bucket(name) => {
                self.empty(name, &settings).await?;
                let options = gcs_options(&settings).map_err(told)?;
                let base = options.endpoint;
                let base = base.unwrap_or_else(|| "https://storage.googleapis.com".to_owned());
                (format!("{base}/storage/v1/b/{name}"), options.credentials)
            }
        };
        let request = reqwest::Client::new().delete(url).headers(headers(&credentials).await);
        let answer = request.send().await.map_err(told)?;
        // A resource may be noted and never made.
        if answer.status().is_success() || answer.status().as_u16() == 404 {
            return Ok(());
        }
        Err(format!("{}: {}", answer.status(), answer.text().await.unwrap_or_default()))
    }

    async fn empty(&self, bucket: &str, settings: &Settings) -> Result<(), String> {
        let mut options = gcs_options(settings).map_err(told)?;
        bucket.clone_into(&mut options.bucket);
        let archive = GcsArchive::connect(options).await.map_err(told)?;
        let objects = match archive.list("").await {
            Ok(objects) => objects,
            Err(error) if error.to_string().contains("there is no bucket") => return Ok(()),
            Err(error) => return Err(told(error)),
        };
        for object in objects {
            let object = ObjectRef { name: object.name, generation: object.generation };
            archive.delete(&object).await.map_err(told)?;
        }
        Ok(())
    }
}

fn told(error: impl fmt::Display) -> String {
    error.to_string()
}
