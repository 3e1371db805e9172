//! Why a replay is not done.

use kappa_actors::pipeline::{Failed, StartError};
use kappa_actors::port::{LogError, ReprocessError};
use kappa_actors::replay::JournalError;

use crate::status::BindError;

/// Why a replay does not begin, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be as it was asked for.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
        /// A suggested correction.
        hint: String,
    },
    /// Staging tables exist already, or cannot be made.
    #[error(transparent)]
    Staging(#[from] ReprocessError),
    /// Its journal cannot be kept.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The replay's own subscription expired or was removed, and with it the knowledge which events
    /// were replayed.
    #[error("the subscription of the replay {0} is gone: it expired or was removed")]
    Gone(String),
    /// The pipeline did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its status cannot be served.
    #[error(transparent)]
    Status(#[from] BindError),
    /// The actors failed for good.
    #[error("the actors failed for good: {0}")]
    Failed(#[from] Failed),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl ReplayError {
    pub(super) fn refused(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into(), hint: hint.into() }
    }
}
