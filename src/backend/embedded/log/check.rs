//! Verifies `log.db` and `subscriptions.db`. Only reads.

use std::path::Path;

use super::events::Events;
use super::{FILE, SUBSCRIPTIONS_FILE, heal, subscription};
use crate::backend::embedded::check::Fault;
use crate::backend::embedded::sqlite;

/// How many holes are named.
const MOST_HOLES: usize = 20;

type Checked = Result<(String, Vec<Fault>), Fault>;

/// Verifies the version and the offsets of `log.db`.
pub(in crate::backend::embedded) fn events(dir: &Path) -> Checked {
    let events = Events::open_to_read(&dir.join(FILE)).map_err(Fault::from)?;
    let _snapshot = events.snapshot().map_err(Fault::from)?;
    let head = events.head().map_err(Fault::from)?;
    let holes = events.holes(&head).map_err(Fault::from)?;
    let faults = holes.iter().take(MOST_HOLES).map(|hole| {
        let problem = format!("the events with offsets {} to {} are missing", hole.first, hole.last);
        let hint = "stop the daemon and restore log.db from a backup that has them, or publish them \
                    again; `kappa seek` to a later time goes on without them";
        Fault::new(problem, hint)
    });
    let mut faults: Vec<_> = faults.collect();
    if let Some(more) = holes.len().checked_sub(MOST_HOLES).filter(|&more| more > 0) {
        faults.push(Fault::new(format!("{more} more ranges of events are missing"), "as above"));
    }
    let count = head.last_offset - head.removed_offset;
    let text = format!(
        "log {}, generation {}, offsets up to {}, {count} after the last one removed",
        events.name(),
        head.generation,
        head.last_offset
    );
    Ok((text, faults))
}

/// Verifies the version of `subscriptions.db`, and that it belongs to the `log.db` beside it.
pub(in crate::backend::embedded) fn subscriptions(dir: &Path) -> Checked {
    let path = dir.join(SUBSCRIPTIONS_FILE);
    let subscriptions = sqlite::open_to_read(&path, subscription::VERSION).map_err(Fault::from)?;
    let names = subscription::names(&subscriptions).map_err(Fault::from)?;
    let text = format!("subscriptions: {}", names.join(", "));
    let log = dir.join(FILE);
    if !log.exists() {
        let hint = "restore log.db from a backup, or let the daemon begin a new log";
        return Ok((text, vec![Fault::new("there is no log.db beside it", hint)]));
    }
    // A log that cannot be read is reported by its own name.
    let Ok(events) = Events::open_to_read(&log) else { return Ok((text, Vec::new())) };
    let mismatch = heal::mismatch(&events, &subscriptions).map_err(Fault::from)?;
    let faults = mismatch.map(|mismatch| {
        let hint = "restore both files from one backup, or let the next command that opens the log \
                    begin a new generation: no new event then counts as acknowledged";
        Fault::new(mismatch.to_string(), hint)
    });
    Ok((text, faults.into_iter().collect()))
}
