//! The dead letters, in BigQuery.
//!
//! A mark or a purge is another row of the letter's key with a higher sequence number:
//! BigQuery refuses UPDATE and DELETE on tables that upserts go to. A payload that is too large for a row is an object of the archive
//! store, put before the row that names it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use async_trait::async_trait;
use kappa_actors::dead_letter_table::{self, CLASS, DeadLetter, Mark, PURGED_AT, Stage};
use kappa_actors::fault_class::UNCLASSIFIED;
use kappa_actors::port::{
    DeadLetterFilter, DeadLetterStore, DeadLettersUnavailable, LetterGroup, Warehouse as _,
    WriteError, read_payload,
};
use kappa_actors::row::{Column, ColumnType, Row, TableSpec, Value};
use kappa_actors::time::Timestamp;
use serde_json::Value as Json;

use super::BigQueryWarehouse;
use super::audit::parameter;
use super::cell::value;
use super::encode::Change;
use super::query::Cells;
use super::rest::RestError;

/// A row may have 10 MB, and so may an answer to a query, in which bytes are base64: a third more.
const MAX_PAYLOAD_BYTES: usize = 6 << 20;

/// Letters that are purged by one write.
const PURGE_BATCH: usize = 1_000;

/// Columns that a purge empties, and that it therefore does not read. The version is made again.
const PURGED_COLUMNS: [&str; 7] =
    ["event_id", "event_type", "reason", "payload", "attributes", "ordering_key", "_version"];

fn unavailable(error: impl std::fmt::Display) -> DeadLettersUnavailable {
    DeadLettersUnavailable(error.to_string())
}

impl BigQueryWarehouse {
    /// Moves each payload that is too large for a row into the archive store, and returns the changed rows.
    pub(super) async fn put_away_payloads(
        &self,
        rows: Arc<Vec<Row>>,
    ) -> Result<Arc<Vec<Row>>, WriteError> {
        let is_large = |row: &Row| {
            dead_letter_table::payload(row).is_some_and(|payload| payload.len() > MAX_PAYLOAD_BYTES)
        };
        let (Some(store), true) = (&self.payloads, rows.iter().any(is_large)) else {
            return Ok(rows);
        };
        let mut rows = Vec::clone(&rows);
        for row in rows.iter_mut().filter(|row| is_large(row)) {
            let (Some(Value::Text(id)), Some(payload)) =
                (row.0.first(), dead_letter_table::payload(row))
            else {
                continue;
            };
            let name = dead_letter_table::object_of(id);
            // The name is the letter's: an existing object has this payload.
            let put = store.put_if_absent(&name, payload.clone()).await;
            put.map_err(|error| {
                WriteError::Unavailable(format!(
                    "a dead letter's payload cannot be stored: {error}"
                ))
            })?;
            dead_letter_table::move_payload(row, &name);
        }
        Ok(Arc::new(rows))
    }

    /// The table of dead letters as the source of a query; `None`: there is no table. Columns that a
    /// table from an earlier version lacks are NULL.
    pub(super) async fn letters_source(&self) -> Result<Option<String>, RestError> {
        let name = self.rest.sql_name(dead_letter_table::NAME);
        if self.letters_complete.load(Relaxed) {
            return Ok(Some(name));
        }
        let found = match self.rest.table(dead_letter_table::NAME).await {
            Err(RestError::NotFound(_)) => return Ok(None),
            found => found?,
        };
        let fields = found["schema"]["fields"].as_array().map_or(&[][..], Vec::as_slice);
        let lacks = |column: &str| fields.iter().all(|field| field["name"] != column);
        let later = [(CLASS, "STRING"), (PURGED_AT, "TIMESTAMP")];
        let lacking = later.into_iter().filter(|(column, _)| lacks(column));
        let nulls: String =
            lacking.map(|(column, kind)| format!(", CAST(NULL AS {kind}) AS {column}")).collect();
        if nulls.is_empty() {
            self.letters_complete.store(true, Relaxed);
            return Ok(Some(name));
        }
        Ok(Some(format!("(SELECT *{nulls} FROM {name})")))
    }

    /// Makes the table ready for rows of letters. Returns `None` if there is no table.
    async fn letters_to_change(&self) -> Result<Option<String>, DeadLettersUnavailable> {
        let source = self.letters_source().await.map_err(unavailable)?;
        if source.is_some() && !self.letters_complete.load(Relaxed) {
            self.ensure_table(&dead_letter_table::spec()).await.map_err(unavailable)?;
            return self.letters_source().await.map_err(unavailable);
        }
        Ok(source)
    }

    /// Writes rows of letters as marks or purges.
    async fn correct_letters(
        &self,
        spec: &Arc<TableSpec>,
        rows: Vec<Row>,
    ) -> Result<(), DeadLettersUnavailable> {
        let refused = self.writer(spec).await.write(&Arc::new(rows), Change::Correction).await;
        match refused.map_err(unavailable)?.first() {
            None => Ok(()),
            Some(refusal) => {
                let reason = &refusal.reason;
                Err(unavailable(format!("a change of a letter was refused: {reason}")))
            }
        }
    }

    /// Reads a letter's current row.
    async fn letter_row(&self, spec: &TableSpec, id: &str) -> Result<Option<Row>, RestError> {
        let Some(letters) = self.letters_source().await? else { return Ok(None) };
        let columns: Vec<_> = spec.columns.iter().map(|column| column.name.as_str()).collect();
        let sql = format!("SELECT {} FROM {letters} WHERE id = @id", columns.join(", "));
        let found = match self.rest.query(&sql, &[("id", id)]).await {
            Err(RestError::NotFound(_)) => return Ok(None),
            found => found?,
        };
        let row = found.into_iter().next().map(|cells| {
            let values = spec.columns.iter().zip(cells);
            let value = |(column, cell): (&Column, Json)| value(column.kind, &cell);
            Row(values.map(|cell| value(cell).unwrap_or(Value::Null)).collect())
        });
        Ok(row)
    }
}

#[async_trait]
impl DeadLetterStore for BigQueryWarehouse {
    async fn find(&self, filter: &DeadLetterFilter) -> Result<Vec<String>, DeadLettersUnavailable> {
        let letters = self.letters_source().await.map_err(unavailable)?;
        let Some(letters) = letters else { return Ok(Vec::new()) };
        let (wanted, parameters) = wanted(filter);
        let sql = format!(
            "SELECT id FROM {letters} WHERE {wanted} ORDER BY failed_at DESC, id LIMIT {}",
            i64::try_from(filter.limit).unwrap_or(i64::MAX),
        );
        let mut pages = self.rest.pages_with(&sql, &parameters).await.map_err(unavailable)?;
        let mut ids = Vec::new();
        while let Some(page) = pages.next().await.map_err(unavailable)? {
            ids.extend(page.iter().filter_map(|row| row.first()?.as_str()).map(str::to_owned));
        }
        Ok(ids)
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, DeadLettersUnavailable> {
        let row = self.letter_row(&dead_letter_table::spec(), id).await.map_err(unavailable)?;
        let Some(row) = row else { return Ok(None) };
        let mut letter = DeadLetter::from_row(&row).map_err(unavailable)?;
        read_payload(&mut letter, self.payloads.as_deref()).await?;
        Ok(Some(letter))
    }

    async fn mark_requeued(&self, marks: &[Mark]) -> Result<(), DeadLettersUnavailable> {
        let spec = Arc::new(dead_letter_table::spec());
        if self.letters_to_change().await?.is_none() {
            return Ok(());
        }
        for mark in marks {
            let id = &mark.id;
            let row = self.letter_row(&spec, id).await.map_err(unavailable)?;
            let Some(mut row) = row else { continue };
            // It failed again meanwhile, and stays open.
            if DeadLetter::from_row(&row).is_ok_and(|letter| letter.version() > mark.version) {
                continue;
            }
            mark.put_into(&mut row);
            self.correct_letters(&spec, vec![row]).await?;
        }
        Ok(())
    }

    async fn groups(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<LetterGroup>, DeadLettersUnavailable> {
        let letters = self.letters_source().await.map_err(unavailable)?;
        let Some(letters) = letters else { return Ok(Vec::new()) };
        let (wanted, parameters) = wanted(filter);
        let sql = format!(
            "SELECT stage, COALESCE(duty, '') AS of_duty, class, \
             COUNTIF(requeued_at IS NULL AND purged_at IS NULL) AS open, \
             COUNTIF(requeued_at IS NOT NULL AND purged_at IS NULL) AS requeued, \
             COUNTIF(purged_at IS NOT NULL) AS purged, \
             MIN(failed_at) AS first_failure, MAX(failed_at) AS last_failure, MIN(id) AS example \
             FROM {letters} WHERE {wanted} GROUP BY stage, of_duty, class \
             ORDER BY COUNT(*) DESC, stage, of_duty, class"
        );
        let mut pages = self.rest.pages_with(&sql, &parameters).await.map_err(unavailable)?;
        let mut groups = Vec::new();
        while let Some(page) = pages.next().await.map_err(unavailable)? {
            for row in &page {
                let unreadable = || unavailable(format!("unreadable group of letters: {row:?}"));
                groups.push(group(row).ok_or_else(unreadable)?);
            }
        }
        Ok(groups)
    }

    async fn purge(
        &self,
        filter: &DeadLetterFilter,
        at: Timestamp,
    ) -> Result<u64, DeadLettersUnavailable> {
        let Some(letters) = self.letters_to_change().await? else { return Ok(0) };
        let spec = Arc::new(dead_letter_table::spec());
        let (wanted, parameters) =
            wanted(&DeadLetterFilter { purged_too: false, ..filter.clone() });
        let is_read = |column: &&Column| !PURGED_COLUMNS.contains(&column.name.as_str());
        let read: Vec<_> = spec.columns.iter().filter(is_read).map(|it| &*it.name).collect();
        let sql = format!("SELECT {} FROM {letters} WHERE {wanted}", read.join(", "));
        // The pages are of one moment, so a table that shows changes late ends this too.
        let mut pages = self.rest.pages_with(&sql, &parameters).await.map_err(unavailable)?;
        let mut purged = 0;
        while let Some(page) = pages.next().await.map_err(unavailable)? {
            for batch in page.chunks(PURGE_BATCH) {
                let letter = |cells: &Cells| {
                    let mut cells = cells.iter();
                    let columns = spec.columns.iter();
                    let row = columns.map(|column| match is_read(&column) {
                        true => cells.next().and_then(|cell| value(column.kind, cell)),
                        false => None,
                    });
                    let row = Row(row.map(|value| value.unwrap_or(Value::Null)).collect());
                    DeadLetter::from_row(&row)
                };
                let letters = batch.iter().map(letter).collect::<Result<Vec<_>, _>>();
                let letters = letters.map_err(unavailable)?.into_iter();
                let rows = letters.map(|letter| letter.purged(at).row()).collect();
                self.correct_letters(&spec, rows).await?;
                purged += batch.len() as u64;
            }
        }
        Ok(purged)
    }
}

/// The condition of a filter, and its parameters.
fn wanted(filter: &DeadLetterFilter) -> (String, Json) {
    let mut wanted = vec!["TRUE".to_owned()];
    let mut parameters = Vec::new();
    let mut text = |name: &str, value: &Option<String>, condition: &str| {
        if let Some(value) = value {
            wanted.push(condition.to_owned());
            parameters.push(parameter(name, ColumnType::String, &Value::Text(value.into())));
        }
    };
    text("prefix", &filter.id_prefix, "SUBSTR(id, 1, LENGTH(@prefix)) = @prefix");
    text("reason", &filter.reason, "INSTR(reason, @reason) > 0");
    let of_class = format!("COALESCE(class, '{UNCLASSIFIED}') = @class");
    text("class", &filter.class, &of_class);
    if let Some(before) = filter.failed_before {
        wanted.push("failed_at < @before".to_owned());
        parameters.push(parameter("before", ColumnType::Timestamp, &Value::Timestamp(before)));
    }
    let mut plain = |condition: &str| wanted.push(condition.to_owned());
    match filter.requeued {
        Some(true) => plain("requeued_at IS NOT NULL"),
        Some(false) => plain("requeued_at IS NULL"),
        None => {}
    }
    if !filter.purged_too {
        plain("purged_at IS NULL");
    }
    if filter.live_only {
        plain("replay_id IS NULL");
    }
    (wanted.join(" AND "), parameters.into())
}

fn group(row: &Cells) -> Option<LetterGroup> {
    let text = |at: usize| row.get(at).and_then(Json::as_str);
    let count = |at: usize| text(at)?.parse().ok();
    let time = |at: usize| match value(ColumnType::Timestamp, row.get(at)?)? {
        Value::Timestamp(time) => Some(time),
        _ => None,
    };
    Some(LetterGroup {
        stage: Stage::from_name(text(0)?)?,
        duty: text(1)?.to_owned(),
        class: text(2).map(str::to_owned),
        open: count(3)?,
        requeued: count(4)?,
        purged: count(5)?,
        first: time(6)?,
        last: time(7)?,
        example: text(8)?.to_owned(),
    })
}
