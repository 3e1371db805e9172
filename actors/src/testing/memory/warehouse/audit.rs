//! What stands in memory, asked by an audit.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;

use super::{Fault, MemoryWarehouse};
use crate::dead_letter_table::{self, DeadLetter};
use crate::port::{AuditError, Auditable, KeyCount, LetterMark};
use crate::replay::ReplayRange;
use crate::row::{Row, TableSpec};

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
        published: ReplayRange,
        take: &mut (dyn FnMut(LetterMark) -> bool + Send),
    ) -> Result<(), AuditError> {
        self.answers(dead_letter_table::NAME)?;
        for row in self.rows(dead_letter_table::NAME) {
            let letter = DeadLetter::from_row(&row);
            let letter = letter.map_err(|error| AuditError::Mismatch(error.to_string()))?;
            let DeadLetter { message_id, event_id, stage, processor, publish_time, .. } = letter;
            if published.holds(publish_time)
                && !take(LetterMark { message_id, event_id, stage, processor })
            {
                break;
            }
        }
        Ok(())
    }
}
