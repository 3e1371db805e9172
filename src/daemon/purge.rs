//! Purges the dead letters that are older than `dead_letters.max_age`.

use std::sync::Arc;
use std::time::Duration;

use kappa_actors::fault_class::UNCLASSIFIED;
use kappa_actors::port::{DeadLetterFilter, LetterGroup};
use kappa_actors::time::Timestamp;
use kappa_actors::vitals::Board;

use crate::settings::Settings;
use crate::wiring::open_dead_letters;

/// The longest time between two purges.
const MOST_PAUSE: Duration = Duration::from_secs(3600);
/// The shortest one.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// Purges again and again; it may be cancelled at any time. Several daemons may do it at once.
pub(super) async fn old_letters(settings: Settings, max_age: Duration, board: Arc<Board>) {
    let pause = (max_age / 10).clamp(LEAST_PAUSE, MOST_PAUSE);
    loop {
        match once(&settings, max_age).await {
            Ok(purged) => board.counters().letters_purged.add(purged),
            Err(error) => tracing::warn!(%error, "old dead letters could not be purged"),
        }
        tokio::time::sleep(pause).await;
    }
}

async fn once(settings: &Settings, max_age: Duration) -> anyhow::Result<u64> {
    let Some(store) = open_dead_letters(settings).await? else { return Ok(0) };
    let now = Timestamp::now();
    let filter =
        DeadLetterFilter { failed_before: Some(now.before(max_age)), ..DeadLetterFilter::ALL };
    let groups = store.groups(&filter).await?;
    if groups.is_empty() {
        return Ok(0);
    }
    let purged = store.purge(&filter, now).await?;
    for LetterGroup { stage, duty, class, open, requeued, .. } in &groups {
        let class = class.as_deref().unwrap_or(UNCLASSIFIED);
        let stage = stage.name();
        tracing::warn!(stage, duty, class, open, requeued, "old dead letters were purged");
    }
    Ok(purged)
}
