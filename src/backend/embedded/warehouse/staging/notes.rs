//! Which replay fills which staging table, and whether it has ended.

use kappa_actors::port::{ReprocessError, Staged, replayed_events, staging_name};
use kappa_actors::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::{Error, STAGING_FILE};
use crate::backend::embedded::warehouse::table::quoted;

/// No table that a replay fills has this name.
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS staging(\
    live TEXT PRIMARY KEY, replay TEXT NOT NULL, began INTEGER NOT NULL, completed INTEGER, \
    revision INTEGER NOT NULL)";

/// Notes that this replay fills the staging table of `live`, or finds that it does.
pub(super) fn begin(
    connection: &mut Connection,
    live: &str,
    replay: &str,
    revision: u16,
) -> Result<(), Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(SCHEMA)?;
    let name = staging_name(live);
    match note(&transaction, live)? {
        None => {
            let sql = "INSERT INTO staging(live, replay, began, revision) VALUES(?, ?, ?, ?)";
            let began = Timestamp::now().micros();
            transaction.execute(sql, params![live, replay, began, revision])?;
        }
        Some(staged) if staged.replay != replay => {
            let says = format!(
                "{name} belongs to the replay {} that began {}",
                staged.replay, staged.began
            );
            return Err(Error::Says(ReprocessError::Taken(says)));
        }
        Some(Staged { completed: Some(at), .. }) => {
            let says = format!("{name} is complete: the replay {replay} ended {at}");
            return Err(Error::Says(ReprocessError::Taken(says)));
        }
        Some(_) => {}
    }
    Ok(transaction.commit()?)
}

pub(super) fn complete(connection: &mut Connection, live: &str, replay: &str) -> Result<(), Error> {
    if standing(connection, live)?.replay != replay {
        return Err(absent(live));
    }
    // The first end counts: rows of a later version are not of this replay.
    let sql = "UPDATE staging SET completed = coalesce(completed, ?) WHERE live = ?";
    connection.execute(sql, params![Timestamp::now().micros(), live])?;
    Ok(())
}

/// The note on the staging table of `live`, with the count of its rows.
pub(super) fn find(connection: &Connection, live: &str) -> Result<Option<Staged>, Error> {
    let Some(staged) = note(connection, live)? else { return Ok(None) };
    let name = staging_name(live);
    let rows = if connection.table_exists(Some("main"), &name)? {
        let sql = format!("SELECT count(*) FROM main.{}", quoted(&name));
        connection.query_row(&sql, (), |row| row.get(0))?
    } else {
        0_i64
    };
    Ok(Some(Staged { rows: rows.unsigned_abs(), ..staged }))
}

/// The note, without the rows; it is an error if there is none.
pub(super) fn standing(connection: &Connection, live: &str) -> Result<Staged, Error> {
    note(connection, live)?.ok_or_else(|| absent(live))
}

/// Drops the staging table with its note; with the last of its replay, the ids of the events too.
pub(super) fn remove(connection: &mut Connection, live: &str) -> Result<bool, Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let Some(staged) = note(&transaction, live)? else { return Ok(false) };
    let drop = |table: &str| {
        transaction.execute_batch(&format!("DROP TABLE IF EXISTS main.{}", quoted(table)))
    };
    drop(&staging_name(live))?;
    transaction.execute("DELETE FROM staging WHERE live = ?", [live])?;
    let others = "SELECT count(*) FROM staging WHERE replay = ?";
    if transaction.query_row(others, [&staged.replay], |row| row.get::<_, i64>(0))? == 0 {
        drop(&replayed_events(&staged.replay).name)?;
    }
    transaction.commit()?;
    Ok(true)
}

fn note(connection: &Connection, live: &str) -> Result<Option<Staged>, Error> {
    if !connection.table_exists(Some("main"), "staging")? {
        return Ok(None);
    }
    if !connection.column_exists(Some("main"), "staging", "revision")? {
        let says = format!(
            "{} was made by an earlier kappa, which noted no revisions: delete the file and replay \
             again; it holds staging tables alone, no live ones",
            connection.path().unwrap_or(STAGING_FILE)
        );
        return Err(Error::Says(ReprocessError::Mismatch(says)));
    }
    let sql = "SELECT replay, began, completed, revision FROM main.staging WHERE live = ?";
    let staged = connection.query_row(sql, [live], |row| {
        let completed: Option<i64> = row.get(2)?;
        Ok(Staged {
            replay: row.get(0)?,
            revision: row.get(3)?,
            began: Timestamp::from_micros(row.get(1)?),
            completed: completed.map(Timestamp::from_micros),
            rows: 0,
        })
    });
    Ok(staged.optional()?)
}

fn absent(live: &str) -> Error {
    let says = format!("{live} has no staging table: nothing was replayed into it");
    Error::Says(ReprocessError::NotStaged(says))
}
