//! Answers an audit's questions about tables in memory.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;

use super::{Fault, MemoryWarehouse};
use crate::dead_letter_table::{self, DeadLetter};
use crate::port::{AuditError, Auditable, Current, CurrentRows, KeyCount, LetterMark, LetterQuery};
use crate::row::{Row, TableSpec, Value};
use crate::version::Version;

/// Few, so that tests need several.
const BATCH: usize = 7;

impl MemoryWarehouse {
    fn answers(&self, table: &str) -> Result<(), AuditError> {
        match self.state().faults.get(table) {
            Some(Fault::Unavailable) => Err(AuditError::Unavailable("told to be".to_owned())),
            Some(Fault::Gone) | None => Ok(()),
        }
    }
}

#[async_trait]
impl Auditable for MemoryWarehouse {
    fn staleness(&self, table: &TableSpec) -> Duration {
        self.state().staleness.get(&table.name).copied().unwrap_or_default()
    }

    fn batch(&self) -> usize {
        BATCH
    }

    async fn current(&self, asked: &CurrentRows) -> Result<Vec<Current>, AuditError> {
        self.answers(&asked.table.name)?;
        let state = self.state();
        let Some(table) = state.tables.get(&asked.table.name) else {
            return Ok(vec![Current::MISSING; asked.keys.len()]);
        };
        let rows = table.rows_as(&asked.table).into_iter().map(|row| {
            let key: Vec<_> = asked.table.key.iter().map(|&column| &row.0[column]).collect();
            (format!("{key:?}"), row)
        });
        let rows: HashMap<_, _> = rows.collect();
        let current = |(key, expected): (&Row, &Version)| {
            let Some(Row(values)) = rows.get(&format!("{:?}", key.0)) else {
                return Current::MISSING;
            };
            let version = match asked.table.version.map(|at| &values[at]) {
                Some(Value::Version(version)) => Some(**version),
                Some(Value::Bytes(bytes)) => Version::from_bytes(bytes),
                _ => None,
            };
            let values = || asked.columns.iter().map(|&at| values[at].clone()).collect();
            Current::of(version, expected, values)
        };
        Ok(asked.keys.iter().zip(&*asked.expected).map(current).collect())
    }

    async fn count(&self, asked: &KeyCount) -> Result<Vec<u64>, AuditError> {
        self.answers(&asked.table.name)?;
        let state = self.state();
        let Some(table) = state.tables.get(&asked.table.name) else {
            return Ok(vec![0; asked.keys.len()]);
        };
        let mut counts: HashMap<String, u64> = HashMap::new();
        for row in table.rows_as(&asked.table) {
            let key: Vec<_> = asked.columns.iter().map(|&column| &row.0[column]).collect();
            *counts.entry(format!("{key:?}")).or_default() += 1;
        }
        let count = |key: &Row| counts.get(&format!("{:?}", key.0)).copied().unwrap_or(0);
        Ok(asked.keys.iter().map(count).collect())
    }

    async fn letters(
        &self,
        asked: LetterQuery,
        take: &mut (dyn FnMut(LetterMark) -> bool + Send),
    ) -> Result<(), AuditError> {
        self.answers(dead_letter_table::NAME)?;
        for row in self.rows(dead_letter_table::NAME) {
            let letter = DeadLetter::from_row(&row);
            let letter = letter.map_err(|error| AuditError::Mismatch(error.to_string()))?;
            let is_meant = letter.requeued_at.is_none() && letter.replay_id.is_none();
            let DeadLetter { message_id, publish_time, stage, processor, payload, .. } = letter;
            let purged = letter.purged_at.is_some();
            let payload = Some(payload).filter(|_| asked.payloads && !purged);
            let mark = LetterMark { message_id, publish_time, stage, processor, payload, purged };
            if is_meant && asked.published.holds(publish_time) && !take(mark) {
                break;
            }
        }
        Ok(())
    }
}
