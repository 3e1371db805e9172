//! The dead letters, read back from their table.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use compact_str::CompactString;
use kappa_actors::dead_letter_table::{self, DeadLetter, Mark, Stage};
use kappa_actors::port::{DeadLetterFilter, DeadLetterStore, DeadLettersUnavailable};
use kappa_actors::processor::VERSION_COLUMN;
use kappa_actors::time::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::EmbeddedWarehouse;
use super::table::{list, quoted, words};

impl EmbeddedWarehouse {
    /// Runs `work` where there is a table of dead letters; elsewhere there is nothing to find.
    async fn on_letters<T: Default + Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DeadLettersUnavailable> {
        let done = self.call(|connection| {
            if connection.table_exists(Some("main"), dead_letter_table::NAME)? {
                work(connection)
            } else {
                Ok(T::default())
            }
        });
        let unavailable = |error| DeadLettersUnavailable(self.named(words(&error)));
        done.await.map_err(DeadLettersUnavailable)?.map_err(unavailable)
    }
}

#[async_trait]
impl DeadLetterStore for EmbeddedWarehouse {
    async fn find(&self, filter: &DeadLetterFilter) -> Result<Vec<String>, DeadLettersUnavailable> {
        let DeadLetterFilter { id_prefix, reason, requeued, live_only, limit } = filter.clone();
        self.on_letters(move |connection| {
            let sql = "SELECT id FROM dead_letters \
                WHERE (?1 IS NULL OR substr(id, 1, length(?1)) = ?1) \
                AND (?2 IS NULL OR instr(reason, ?2) > 0) \
                AND (?3 IS NULL OR (requeued_at IS NOT NULL) = ?3) \
                AND (NOT ?4 OR replay_id IS NULL) \
                ORDER BY failed_at DESC, rowid DESC LIMIT ?5";
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let found = params![id_prefix, reason, requeued, live_only, limit];
            connection.prepare(sql)?.query_map(found, |row| row.get(0))?.collect()
        })
        .await
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, DeadLettersUnavailable> {
        let id = id.to_owned();
        self.on_letters(move |connection| {
            connection.query_row(&format!("{} WHERE id = ?", select()), [id], letter).optional()
        })
        .await
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
}

/// The columns of a letter, in the order of [`dead_letter_table`]. No payload is an object here.
fn select() -> String {
    let mut columns = dead_letter_table::spec().columns;
    let left_out = [dead_letter_table::PAYLOAD_OBJECT, VERSION_COLUMN];
    columns.retain(|column| !left_out.contains(&column.name.as_str()));
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
        payload: Bytes::from(row.get::<_, Vec<u8>>(7)?),
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
        duty: row.get::<_, Option<String>>(16)?.unwrap_or_default(),
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
