//! Which messages are in flight, and by which leases.

use std::collections::{HashMap, HashSet};

use compact_str::CompactString;
use foldhash::fast::RandomState;

use crate::message::Lease;

/// Leases by message id. Repeats are rare: what only they need has a table of its own, and that of all
/// messages stays small enough for a processor's cache.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    newest: HashMap<CompactString, Lease, RandomState>,
    /// Earlier leases of a message, which the newest replaced.
    replaced: HashMap<CompactString, Vec<Lease>>,
}

impl InFlight {
    /// Notes a lease; whether its message was not in flight before.
    pub(super) fn take_in(&mut self, id: &CompactString, lease: Lease) -> bool {
        let Some(older) = self.newest.insert(id.clone(), lease) else { return true };
        self.replaced.entry(id.clone()).or_default().push(older);
        false
    }

    /// Strikes a message off, and adds its leases to `leases`.
    pub(super) fn remove(&mut self, id: &CompactString, leases: &mut Vec<Lease>) {
        leases.extend(self.newest.remove(id));
        if !self.replaced.is_empty() {
            leases.extend(self.replaced.remove(id).into_iter().flatten());
        }
    }

    /// Strikes all messages off but `these`; the leases, and how many messages.
    pub(super) fn take_all_but(&mut self, these: &HashSet<CompactString>) -> (Vec<Lease>, usize) {
        let taken: Vec<_> = self.newest.keys().filter(|id| !these.contains(*id)).cloned().collect();
        let mut leases = Vec::new();
        taken.iter().for_each(|id| self.remove(id, &mut leases));
        (leases, taken.len())
    }
}
