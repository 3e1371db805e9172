//! Lines without a position are imports: their rows lose against every row that a log wrote.

use kappa_actors::archive::{LineFormat, objects_between};
use kappa_actors::port::{ArchiveStore, Warehouse};
use kappa_actors::replay::ReplayRange;
use kappa_actors::row::TableSpec;

use std::sync::Arc;

use super::ReplayError;

/// Refuses to replay archived objects that hold payloads alone while one of the live tables has
/// rows: a log may have written them, and then the replayed rows would lose against them.
pub(super) async fn check(
    archive: &dyn ArchiveStore,
    range: ReplayRange,
    warehouse: &dyn Warehouse,
    tables: &[Arc<TableSpec>],
) -> Result<(), ReplayError> {
    let listed = objects_between(archive, range.from, range.to).await;
    let listed = listed.map_err(anyhow::Error::from)?;
    let payloads = listed.iter().filter(|object| object.format == LineFormat::Payload);
    let (count, Some(first)) = (payloads.clone().count(), payloads.clone().next()) else {
        return Ok(());
    };
    for table in tables {
        if !warehouse.is_empty(table).await.map_err(anyhow::Error::from)? {
            return Err(ReplayError::refused(
                format!(
                    "{count} of the archived files hold payloads without their positions, such as \
                     {}: their rows would lose against the rows of a log, and table {} has rows",
                    first.name, table.name
                ),
                "use --source log, or replay them as an import with --as-import: a row that a log \
                 wrote then stays as it is",
            ));
        }
    }
    Ok(())
}
