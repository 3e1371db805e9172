//! Compares the columns of staging table, live table and configuration.

use kappa_actors::port::{ReprocessError, Staged};
use kappa_actors::row::TableSpec;
use rusqlite::Connection;

use super::Error;
use crate::backend::embedded::warehouse::table;

fn mismatch(says: String) -> Error {
    Error::Says(ReprocessError::Mismatch(says))
}

/// Refuses a table without key and version: its rows cannot be matched, nor ordered.
pub(super) fn check_keyed(table: &TableSpec) -> Result<usize, Error> {
    match table.version {
        Some(version) if !table.key.is_empty() => Ok(version),
        _ => Err(mismatch(format!(
            "table {} has no key, so its rows cannot be compared: replay it into another table",
            table.name
        ))),
    }
}

/// Refuses an incomplete replay.
pub(super) fn check_complete(staged: &Staged, live: &str) -> Result<(), Error> {
    if staged.completed.is_some() {
        return Ok(());
    }
    let says = format!(
        "the staging table of {live} is not complete: the replay {} that began {} has not ended",
        staged.replay, staged.began
    );
    Err(Error::Says(ReprocessError::Taken(says)))
}

/// The staging table was made from the configuration; it must still be as configured.
pub(super) fn check_staging(connection: &Connection, staging: &TableSpec) -> Result<(), Error> {
    let Some(fit) = table::fit(connection, "main", staging)? else {
        let says = format!("there is no table {}", staging.name);
        return Err(Error::Says(ReprocessError::NotStaged(says)));
    };
    let [lacks, has] = [&fit.lacking, &fit.idle].map(|columns| columns.join(", "));
    match (lacks.as_str(), has.as_str()) {
        ("", "") => Ok(()),
        ("", more) => Err(changed(&staging.name, &format!("has {more}"))),
        (lacks, _) => Err(changed(&staging.name, &format!("lacks {lacks}"))),
    }
}

fn changed(staging: &str, how: &str) -> Error {
    mismatch(format!(
        "{staging} {how}: the configuration has changed since it was made; drop it and replay again"
    ))
}
