//! The times of the watchdog: in their order, and longer than a call of the chosen backends may take.

use super::{Check, is_default, span};
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

    fn not_longer(&mut self, shorter: &str, longer: &str) {
        let values = tree::get(self.tree, shorter).zip(tree::get(self.tree, longer));
        let Some((first, most)) = values else { return };
        if span(first).zip(span(most)).is_some_and(|(first, most)| first > most) {
            // Blame what the user wrote, not a default.
            let blamed = if is_default(most) { first } else { most };
            let (first, most) = (tree::show(first), tree::show(most));
            let reason = format!("{shorter} is {first}, more than {longer}, {most}");
            self.report(blamed, reason, format!("lower {shorter}, or raise {longer}"));
        }
    }
}
