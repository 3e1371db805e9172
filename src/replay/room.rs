//! Makes room for a replay's staging tables, and removes the remains of one that did not begin.

use std::sync::Arc;

use kappa_actors::port::{ArchiveStore, ReprocessError, Reprocessing, staging_name};
use kappa_actors::replay::Journal;
use kappa_actors::row::TableSpec;

use super::{ReplayError, ReplayPlan};

/// Removes the staging tables and the journal of a replay that did not begin.
pub(super) async fn undo(
    archive: Arc<dyn ArchiveStore>,
    staging: Option<Arc<dyn Reprocessing>>,
    tables: &[Arc<TableSpec>],
    id: &str,
) {
    // Errors are ignored: the caller returns the first error already, and the next replay reports
    // tables that were not dropped.
    if let Some(staging) = staging {
        for table in tables {
            if let Ok(Some(standing)) = staging.staged(&table.name).await
                && standing.replay == id
            {
                let _ = staging.drop_staging(&table.name).await;
            }
        }
    }
    if let Ok(resumed) = Journal::resume::<ReplayPlan>(archive, id).await {
        let _ = resumed.journal.finish().await;
    }
}

/// Looks whether the staging tables are free; an earlier replay's are dropped if that is wanted.
pub(super) async fn make_room(
    staging: &dyn Reprocessing,
    tables: &[Arc<TableSpec>],
    replace: bool,
) -> Result<(), ReplayError> {
    for table in tables {
        let Some(standing) = staging.staged(&table.name).await? else { continue };
        if replace {
            staging.drop_staging(&table.name).await?;
            continue;
        }
        let ended = match standing.completed {
            Some(at) => format!("ended {at}"),
            None => "has not ended".to_owned(),
        };
        return Err(ReprocessError::Taken(format!(
            "{} belongs to the replay {} that began {} and {ended}",
            staging_name(&table.name),
            standing.replay,
            standing.began,
        ))
        .into());
    }
    Ok(())
}
