//! The dead letters, read back from their table.

use std::sync::Arc;

use async_trait::async_trait;
use compact_str::CompactString;
use kappa_actors::dead_letter_table::{self, DeadLetter, Mark, Stage};
use kappa_actors::port::{
    DeadLetterFilter, DeadLetterStore, DeadLettersUnavailable, LetterGroup, read_payload,
};
use kappa_actors::processor::VERSION_COLUMN;
use kappa_actors::time::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use super::EmbeddedWarehouse;
use super::table::{self, list, quoted, words};

/// Letters purged in one transaction: the daemon's own commits wait for it.
const PURGE_BATCH: usize = 1_000;

/// Whether the filter with the parameters of [`wanted`] means a letter.
const WANTED: &str = "(?1 IS NULL OR substr(id, 1, length(?1)) = ?1) \
    AND (?2 IS NULL OR instr(reason, ?2) > 0) \
    AND (?3 IS NULL OR coalesce(class, 'unclassified') = ?3) \
    AND (?4 IS NULL OR (requeued_at IS NOT NULL) = ?4) \
    AND (?5 OR purged_at IS NULL) \
    AND (?6 IS NULL OR failed_at < ?6) \
    AND (NOT ?7 OR replay_id IS NULL)";

impl EmbeddedWarehouse {
    /// Runs `work` where there is a table of dead letters; elsewhere there is nothing to find. A table
    /// from an earlier version gets the columns that it lacks.
    async fn on_letters<T: Default + Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DeadLettersUnavailable> {
        let done = self.call(|connection| {
            let spec = dead_letter_table::spec();
            match table::fit(connection, "main", &spec)? {
                None => return Ok(T::default()),
                Some(fit) if fit.lacking.is_empty() => {}
                Some(_) => drop(table::ensure(connection, &spec)?),
            }
            Ok(work(connection)?)
        });
        let unavailable = |error| match error {
            table::Error::Mismatch(reason) => DeadLettersUnavailable(self.named(reason)),
            table::Error::Sqlite(error) => DeadLettersUnavailable(self.named(words(&error))),
        };
        done.await.map_err(DeadLettersUnavailable)?.map_err(unavailable)
    }
}

#[async_trait]
impl DeadLetterStore for EmbeddedWarehouse {
    async fn find(&self, filter: &DeadLetterFilter) -> Result<Vec<String>, DeadLettersUnavailable> {
        let filter = filter.clone();
        self.on_letters(move |connection| {
            let sql = format!(
                "SELECT id FROM dead_letters WHERE {WANTED} \
                 ORDER BY failed_at DESC, rowid DESC LIMIT {}",
                limit(&filter)
            );
            connection.prepare(&sql)?.query_map(wanted(&filter), |row| row.get(0))?.collect()
        })
        .await
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, DeadLettersUnavailable> {
        let id = id.to_owned();
        let found = self.on_letters(move |connection| {
            connection.query_row(&format!("{} WHERE id = ?", select()), [id], letter).optional()
        });
        let Some(mut letter) = found.await? else { return Ok(None) };
        read_payload(&mut letter, self.payloads.as_deref()).await?;
        Ok(Some(letter))
    }

    async fn mark_requeued(&self, marks: &[Mark]) -> Result<(), DeadLettersUnavailable> {
        let marks = marks.to_vec();
        self.on_letters(move |connection| {
            let transaction = connection.transaction()?;
            {
                let sql = "UPDATE dead_letters SET requeued_at = ?1, _version = ?2 \
                    WHERE id = ?3 AND _version <= ?2";
                let mut update = transaction.prepare(sql)?;
                for Mark { id, at, version } in &marks {
                    let version = version.to_bytes();
                    update.execute(params![at.to_string(), version.as_ref(), id])?;
                }
            }
            transaction.commit()
        })
        .await
    }

    async fn groups(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<LetterGroup>, DeadLettersUnavailable> {
        let filter = filter.clone();
        self.on_letters(move |connection| {
            let sql = format!(
                "SELECT stage, coalesce(duty, '') AS of_duty, class, \
                 sum(requeued_at IS NULL AND purged_at IS NULL), \
                 sum(requeued_at IS NOT NULL AND purged_at IS NULL), \
                 sum(purged_at IS NOT NULL), min(failed_at), max(failed_at), min(id) \
                 FROM dead_letters WHERE {WANTED} GROUP BY stage, of_duty, class \
                 ORDER BY count(*) DESC, stage, of_duty, class"
            );
            connection.prepare(&sql)?.query_map(wanted(&filter), group)?.collect()
        })
        .await
    }

    async fn purge(
        &self,
        filter: &DeadLetterFilter,
        at: Timestamp,
    ) -> Result<u64, DeadLettersUnavailable> {
        let filter = DeadLetterFilter { purged_too: false, limit: PURGE_BATCH, ..filter.clone() };
        let mut purged = 0;
        loop {
            let filter = filter.clone();
            let batch = self.on_letters(move |connection| purge(connection, &filter, at)).await?;
            purged += batch as u64;
            if batch < PURGE_BATCH {
                return Ok(purged);
            }
        }
    }
}

/// Purges letters up to the filter's limit.
fn purge(
    connection: &mut Connection,
    filter: &DeadLetterFilter,
    at: Timestamp,
) -> rusqlite::Result<usize> {
    let transaction = connection.transaction()?;
    let mut purged = 0;
    {
        let sql = format!(
            "SELECT id, message_id, publish_time, failed_at FROM dead_letters \
             WHERE {WANTED} LIMIT {}",
            limit(filter)
        );
        let mut select = transaction.prepare(&sql)?;
        let letters = select.query_map(wanted(filter), |row| {
            let message = text(row, 1)?.unwrap_or_default();
            let (published, failed_at) = (time(row, 2)?, time(row, 3)?);
            let message = (&*message, published.unwrap_or_default());
            let version = DeadLetter::purged_version(message, failed_at.unwrap_or_default());
            Ok((row.get::<_, String>(0)?, version))
        })?;
        let letters = letters.collect::<rusqlite::Result<Vec<_>>>()?;
        let mut update = transaction.prepare(
            "UPDATE dead_letters SET event_id = NULL, event_type = NULL, reason = '', \
             payload = NULL, attributes = NULL, ordering_key = NULL, purged_at = ?1, \
             _version = ?2 WHERE id = ?3",
        )?;
        for (id, version) in letters {
            let version = version.to_bytes();
            purged += update.execute(params![at.to_string(), version.as_ref(), id])?;
        }
    }
    transaction.commit()?;
    Ok(purged)
}

/// The parameters of [`WANTED`].
fn wanted(filter: &DeadLetterFilter) -> impl Params + '_ {
    let DeadLetterFilter { id_prefix, reason, class, requeued, live_only, .. } = filter;
    let before = filter.failed_before.map(|before| before.to_string());
    (id_prefix, reason, class, requeued, filter.purged_too, before, live_only)
}

fn limit(filter: &DeadLetterFilter) -> i64 {
    i64::try_from(filter.limit).unwrap_or(i64::MAX)
}

fn group(row: &Row<'_>) -> rusqlite::Result<LetterGroup> {
    let count = |at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.unsigned_abs());
    Ok(LetterGroup {
        stage: Stage::from_name(&row.get::<_, String>(0)?).ok_or_else(|| unreadable(row, 0))?,
        duty: row.get(1)?,
        class: row.get(2)?,
        open: count(3)?,
        requeued: count(4)?,
        purged: count(5)?,
        first: time(row, 6)?.unwrap_or_default(),
        last: time(row, 7)?.unwrap_or_default(),
        example: row.get(8)?,
    })
}

/// The columns of a letter, in the order of [`dead_letter_table`].
fn select() -> String {
    let mut columns = dead_letter_table::spec().columns;
    columns.retain(|column| column.name != VERSION_COLUMN);
    format!("SELECT {} FROM dead_letters", list(columns.iter().map(|it| quoted(&it.name))))
}

fn letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    Ok(DeadLetter {
        id: row.get(0)?,
        event_id: text(row, 1)?,
        event_type: text(row, 2)?,
        stage: Stage::from_name(&row.get::<_, String>(3)?).ok_or_else(|| unreadable(row, 3))?,
        actor: row.get(4)?,
        processor: row.get(5)?,
        reason: row.get(6)?,
        payload: row.get::<_, Option<Vec<u8>>>(7)?.unwrap_or_default().into(),
        attributes: row
            .get::<_, Option<String>>(8)?
            .map(|json| serde_json::from_str(&json).map(Arc::new).map_err(|_| unreadable(row, 8)))
            .transpose()?,
        message_id: text(row, 9)?.unwrap_or_default(),
        publish_time: time(row, 10)?.unwrap_or_default(),
        failed_at: time(row, 11)?.unwrap_or_default(),
        attempts: row.get(12)?,
        requeued_at: time(row, 13)?,
        replay_id: row.get(14)?,
        ordering_key: text(row, 15)?.unwrap_or_default(),
        payload_object: row.get(16)?,
        duty: row.get::<_, Option<String>>(17)?.unwrap_or_default(),
        class: text(row, 18)?,
        purged_at: time(row, 19)?,
    })
}

fn text(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<CompactString>> {
    Ok(row.get::<_, Option<String>>(at)?.map(CompactString::from))
}

fn time(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Timestamp>> {
    row.get::<_, Option<String>>(at)?
        .map(|text| Timestamp::parse_rfc3339(&text).map_err(|_| unreadable(row, at)))
        .transpose()
}

/// A column that another program wrote.
fn unreadable(row: &Row<'_>, at: usize) -> rusqlite::Error {
    let name = row.as_ref().column_name(at).unwrap_or_default().to_owned();
    rusqlite::Error::InvalidColumnType(at, name, Type::Text)
}
