//! The times of the watchdog: in their order, and longer than a call of the chosen backends may take.

use super::Check;
use crate::settings::tree;

/// Each must not be longer than the next.
const ORDER: [&str; 3] = [
    "actors.watchdog.degraded_after",
    "actors.watchdog.restart_after",
    "actors.watchdog.exit_after",
];

/// How long one attempt of a backend may take: the key that chooses it, its name, the time.
const ATTEMPTS: [(&str, &str, &str); 2] = [
    ("warehouse.backend", "bigquery", "warehouse.bigquery.request_timeout"),
    ("archive.backend", "gcs", "archive.gcs.attempt_timeout"),
];

impl Check<'_> {
    pub(super) fn watchdog(&mut self) {
        for pair in ORDER.windows(2) {
            self.not_longer(pair[0], pair[1]);
        }
        for (choice, backend, timeout) in ATTEMPTS {
            let chosen = tree::get(self.tree, choice).map(tree::show);
            if chosen.is_some_and(|chosen| chosen.trim_matches('"') == backend) {
                // A call that its backend ends in time is no hang.
                self.not_longer(timeout, ORDER[1]);
            }
        }
    }
}
