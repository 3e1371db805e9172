//! The clients of both protocols, and the time that a call has.
//!
//! A connection whose other end fell silent stays open for the crates, and every later call would
//! take it again. So a call that used up its time costs the clients, and the next has new ones.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use google_cloud_gax::retry_policy::RetryPolicyExt as _;
use google_cloud_storage::Error;
use google_cloud_storage::client::{Storage, StorageControl};
use google_cloud_storage::retry_policy::RetryableErrors;
use kappa_actors::port::StoreError;
use tokio::time::{Instant, timeout};

use super::GcsOptions;
use crate::backend::gcp;

/// The share of a call's time that the crates get for their retries: after it they return the last error,
/// which is more useful than a timeout.
const RETRIES: f64 = 0.9;

pub(super) struct Clients {
    options: GcsOptions,
    made: Mutex<Made>,
}

#[derive(Clone)]
struct Made {
    storage: Storage,
    control: StorageControl,
}

impl Clients {
    pub(super) async fn connect(options: GcsOptions) -> Result<Self, StoreError> {
        let made = Mutex::new(make(&options).await?);
        Ok(Self { options, made })
    }

    pub(super) fn storage(&self) -> Storage {
        self.made().storage.clone()
    }

    pub(super) fn control(&self) -> StorageControl {
        self.made().control.clone()
    }

    /// The answer to one call, its retries included, or the error that there is none.
    pub(super) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let (began, patience) = (Instant::now(), self.options.attempt_timeout);
        let answer = match timeout(patience, call).await {
            Ok(Err(error)) if error.is_timeout() => Err(self.silence()),
            Ok(answer) => answer,
            Err(_) => Err(self.silence()),
        };
        if answer.is_err() && began.elapsed() >= patience.mul_f64(RETRIES) {
            self.renew().await;
        }
        answer
    }

    /// As [`Self::answer`], for a stream that may end.
    pub(super) async fn next<T>(
        &self,
        next: impl Future<Output = Option<Result<T, Error>>>,
    ) -> Option<Result<T, Error>> {
        self.answer(async { next.await.transpose() }).await.transpose()
    }

    fn silence(&self) -> Error {
        let patience = humantime::format_duration(self.options.attempt_timeout);
        Error::timeout(format!("no answer within {patience}"))
    }

    async fn renew(&self) {
        // What could be made once can be made again.
        if let Ok(made) = make(&self.options).await {
            *self.made() = made;
        }
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn make(options: &GcsOptions) -> Result<Made, StoreError> {
    let refused = |error: google_cloud_gax::client_builder::Error| {
        StoreError::Refused(format!("no client for Cloud Storage can be made: {error}"))
    };
    let patience: Duration = options.attempt_timeout.mul_f64(RETRIES);
    let mut storage = Storage::builder()
        .with_credentials(options.credentials.clone())
        .with_retry_policy(RetryableErrors.with_time_limit(patience));
    let mut control = StorageControl::builder()
        .with_credentials(options.credentials.clone())
        .with_retry_policy(RetryableErrors.with_time_limit(patience));
    if let Some(universe) = gcp::universe(&options.credentials).await {
        storage = storage.with_universe_domain(universe.clone());
        control = control.with_universe_domain(universe);
    }
    if let Some(endpoint) = &options.endpoint {
        storage = storage.with_endpoint(endpoint.clone());
    }
    if let Some(endpoint) = options.control_endpoint.as_ref().or(options.endpoint.as_ref()) {
        control = control.with_endpoint(endpoint.clone());
    }
    Ok(Made {
        storage: storage.build().await.map_err(refused)?,
        control: control.build().await.map_err(refused)?,
    })
}
