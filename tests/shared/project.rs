//! A project on Google Cloud, or test servers instead of one, in which tests make resources of their own.
//!
//! - Every resource is noted before it is made, under a unique name that begins with `kappa-live-`.
//! - It is removed at the end, even if the test failed, hung or was stopped. A resource that cannot be
//!   removed fails the test and is named.

mod removal;

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use kappa::settings::{Settings, Sources};
use kappa::wiring::{Blueprint, set_up};

use removal::Made;

/// The configuration that users begin with.
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/gcp.toml");

/// The backends that are not looked at.
const NONE: [&str; 3] =
    ["event_log.backend=embedded", "warehouse.backend=embedded", "archive.backend=embedded"];

/// A project, and the resources made in it.
pub(crate) struct Project {
    id: String,
    /// Where everything is, as the command line takes it.
    set: Vec<String>,
    run: u32,
    named: AtomicUsize,
    made: Mutex<Vec<Made>>,
}

impl Project {
    /// A project in which nothing was made yet; `further` are settings of the form `key=value`.
    pub(crate) fn new(id: &str, location: &str, further: impl IntoIterator<Item = String>) -> Self {
        let mut set = vec![
            format!("gcp.project={id}"),
            format!("warehouse.bigquery.location={location}"),
            format!("archive.gcs.location={location}"),
            // A check asks right after it has written.
            "warehouse.bigquery.max_staleness=0s".to_owned(),
        ];
        set.extend(further);
        let (named, made) = (AtomicUsize::new(0), Mutex::default());
        Self { id: id.to_owned(), set, run: rand::random(), named, made }
    }

    /// Runs a suite, and removes its resources after any end. It ends early when it takes
    /// longer than `patience`, or when `stopped` ends.
    pub(crate) async fn lend(
        self,
        patience: Duration,
        stopped: impl Future<Output = ()>,
        suite: impl AsyncFnOnce(&Self),
    ) {
        let outcome = tokio::select! {
            biased;
            () = stopped => Err(None),
            () = tokio::time::sleep(patience) => Err(None),
            outcome = AssertUnwindSafe(suite(&self)).catch_unwind() => outcome.map_err(Some),
        };
        let left = self.remove().await;
        if !left.is_empty() {
            eprintln!("not removed, see tests/live/README.md:\n{}", left.join("\n"));
        }
        match outcome {
            Err(Some(panic)) => resume_unwind(panic),
            Err(None) => panic!("stopped, or longer than {patience:?}"),
            Ok(()) => assert!(left.is_empty(), "not removed: {left:?}"),
        }
    }

    /// A topic and a subscription; the settings that name them.
    pub(crate) fn subscription(&self) -> Vec<String> {
        let name = self.fresh_name();
        self.note(Made::Topic(format!("projects/{}/topics/{name}", self.id)));
        self.note(Made::Subscription(format!("projects/{}/subscriptions/{name}", self.id)));
        vec![format!("event_log.pubsub.topic={name}"), format!("event_log.subscription={name}")]
    }

    /// A dataset; the setting that names it.
    pub(crate) fn dataset(&self) -> String {
        let name = self.fresh_name().replace('-', "_");
        self.note(Made::Dataset(name.clone()));
        format!("warehouse.bigquery.dataset={name}")
    }

    /// A bucket; the setting that names it.
    pub(crate) fn bucket(&self) -> String {
        let name = self.fresh_name();
        self.note(Made::Bucket(name.clone()));
        format!("archive.gcs.bucket={name}")
    }

    /// The settings of a pipeline here whose one backend on Google Cloud is named by `backend`, such
    /// as `warehouse.backend=bigquery`.
    pub(crate) fn settings(&self, backend: &str, set: &[String]) -> Settings {
        let none = NONE.map(str::to_owned);
        let set = [&*self.set, &none, &[backend.to_owned()], set].concat();
        Settings::load(&Sources { files: vec![CONFIG.into()], set, ..Sources::default() }).unwrap()
    }

    /// Makes the resources that the settings name.
    pub(crate) async fn make(&self, settings: &Settings) {
        let blueprint = Blueprint::of(settings).unwrap();
        for thing in set_up(settings, &blueprint, false).await {
            let thing = thing.unwrap_or_else(|error| panic!("{}", error.0));
            assert_eq!(thing.state.to_string(), "created", "{thing:?}");
        }
    }

    /// Runs `kappa` with these arguments and settings; returns exit code, output and errors.
    pub(crate) async fn kappa(
        &self,
        arguments: &[&str],
        set: &[String],
    ) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kappa"));
        command.args(arguments).args(["--config", CONFIG]);
        for set in self.set.iter().chain(set) {
            command.args(["--set", set]);
        }
        // Settings of the caller's own pipeline must not affect the test.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("KAPPA__") {
                command.env_remove(name);
            }
        }
        let run = tokio::task::spawn_blocking(move || command.output().unwrap());
        let Output { status, stdout, stderr } = run.await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }

    fn fresh_name(&self) -> String {
        let number = self.named.fetch_add(1, Ordering::Relaxed);
        format!("kappa-live-{:08x}-{number}", self.run)
    }

    fn note(&self, made: Made) {
        self.made.lock().unwrap().push(made);
    }
}
