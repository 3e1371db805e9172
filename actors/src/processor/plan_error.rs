//! Errors of a processor's configuration.

/// A mistake in the configuration: where, what, and a way out. Reads as a sentence that begins
/// with the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} {reason}")]
pub struct PlanError {
    /// The full key, such as `processors.orders.columns.total.default`.
    pub key: String,
    /// The fault, as a predicate: `is 3000`.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<String>,
}
