//! The dead letters, in BigQuery.
//!
//! A mark is another row of the same key with a higher sequence number: BigQuery refuses UPDATE on
//! tables that upserts go to. A payload that is too large for a row is an object of the archive
//! store, put before the row that names it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use kappa_actors::dead_letter_table::{self, DeadLetter, Mark};
use kappa_actors::port::{
    DeadLetterFilter, DeadLetterStore, DeadLettersUnavailable, StoreError, WriteError,
};
use kappa_actors::row::{Column, Row, TableSpec, Value};
use serde_json::Value as Json;

use super::BigQueryWarehouse;
use super::cell::value;
use super::encode::Change;
use super::rest::RestError;

/// A row may have 10 MB, and so may an answer to a query, in which bytes are base64: a third more.
const MAX_PAYLOAD_BYTES: usize = 6 << 20;

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
            let name = format!("dead-letters/{id}");
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

    /// Reads a letter's current row.
    async fn letter_row(&self, spec: &TableSpec, id: &str) -> Result<Option<Row>, RestError> {
        let columns: Vec<_> = spec.columns.iter().map(|column| column.name.as_str()).collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE id = @id",
            columns.join(", "),
            self.rest.sql_name(&spec.name)
        );
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
        let mut wanted = vec!["TRUE"];
        let mut parameters = Vec::new();
        if let Some(prefix) = &filter.id_prefix {
            wanted.push("SUBSTR(id, 1, LENGTH(@prefix)) = @prefix");
            parameters.push(("prefix", prefix.as_str()));
        }
        if let Some(reason) = &filter.reason {
            wanted.push("INSTR(reason, @reason) > 0");
            parameters.push(("reason", reason.as_str()));
        }
        if filter.live_only {
            wanted.push("replay_id IS NULL");
        }
        wanted.extend(filter.requeued.map(|requeued| {
            if requeued { "requeued_at IS NOT NULL" } else { "requeued_at IS NULL" }
        }));
        let sql = format!(
            "SELECT id FROM {} WHERE {} ORDER BY failed_at DESC, id LIMIT {}",
            self.rest.sql_name(dead_letter_table::NAME),
            wanted.join(" AND "),
            i64::try_from(filter.limit).unwrap_or(i64::MAX),
        );
        match self.rest.query(&sql, &parameters).await {
            Err(RestError::NotFound(_)) => Ok(Vec::new()),
            Err(error) => Err(unavailable(error)),
            Ok(rows) => {
                let ids = rows.iter().filter_map(|row| row.first()?.as_str());
                Ok(ids.map(str::to_owned).collect())
            }
        }
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, DeadLettersUnavailable> {
        let row = self.letter_row(&dead_letter_table::spec(), id).await.map_err(unavailable)?;
        let Some(mut row) = row else { return Ok(None) };
        if let Some(name) = dead_letter_table::payload_object(&row).map(str::to_owned) {
            let Some(store) = &self.payloads else {
                return Err(unavailable(format!("its payload is {name} of an archive not given")));
            };
            let read = |error: StoreError| unavailable(format!("payload of {id}: {error}"));
            let chunks = store.read(&name).await.map_err(read)?;
            let payload: Vec<Bytes> = chunks.try_collect().await.map_err(read)?;
            dead_letter_table::set_payload(&mut row, payload.concat().into());
        }
        DeadLetter::from_row(&row).map(Some).map_err(unavailable)
    }

    async fn mark_requeued(&self, marks: &[Mark]) -> Result<(), DeadLettersUnavailable> {
        let spec = Arc::new(dead_letter_table::spec());
        for mark in marks {
            let id = &mark.id;
            let row = self.letter_row(&spec, id).await.map_err(unavailable)?;
            let Some(mut row) = row else { continue };
            // It failed again meanwhile, and stays open.
            if DeadLetter::from_row(&row).is_ok_and(|letter| letter.version() > mark.version) {
                continue;
            }
            mark.put_into(&mut row);
            let writer = self.writer(&spec).await;
            let refused = writer.write(&Arc::new(vec![row]), Change::Correction).await;
            if let Some(refusal) = refused.map_err(unavailable)?.first() {
                return Err(unavailable(format!(
                    "the mark on {id} was refused: {}",
                    refusal.reason
                )));
            }
        }
        Ok(())
    }
}
