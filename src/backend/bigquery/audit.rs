//! Answers an audit's questions about tables in BigQuery.
//!
//! A query bills the columns that it reads, not the rows that it answers: so as many keys as a
//! request may hold go with it as one parameter, an array, and only those come back that have not one
//! row at least as new as expected. It reads the partitions in which the rows should be, and all of
//! them only for the keys that have no row there, or an older one.

mod question;

use std::time::Duration;

use async_trait::async_trait;
use kappa_actors::dead_letter_table::Stage;
use kappa_actors::port::{
    Age, AuditError, Auditable, Current, CurrentRows, KeyCount, LetterMark, LetterQuery,
};
use kappa_actors::row::{ColumnType, TableSpec, Value};
use serde_json::{Value as Json, json};

pub(super) use self::question::parameter;
use self::question::{Near, Question};
use super::cell::value;
use super::query::Cells;
use super::rest::RestError;
use super::{BigQueryWarehouse, WriteMode};

/// Keys of 36 letters that such a request holds, and more would only wait for the next.
const BATCH: usize = 100_000;

impl From<RestError> for AuditError {
    fn from(error: RestError) -> Self {
        match error {
            RestError::Unavailable(_) => Self::Unavailable(error.to_string()),
            _ => Self::Mismatch(format!("the warehouse cannot be asked: {error}")),
        }
    }
}

#[async_trait]
impl Auditable for BigQueryWarehouse {
    fn staleness(&self, table: &TableSpec) -> Duration {
        match self.mode(table) {
            WriteMode::Upsert => self.table_options(&table.name).max_staleness,
            WriteMode::Append => Duration::ZERO,
        }
    }

    fn batch(&self) -> usize {
        BATCH
    }

    async fn current(&self, asked: &CurrentRows) -> Result<Vec<Current>, AuditError> {
        let question = Question::of(self, &asked.table, &asked.table.key);
        let lacking = question.lacking().await?;
        let Some(lacking) = lacking else {
            return Ok(vec![Current::MISSING; asked.keys.len()]);
        };
        let newer = Current { rows: 1, age: Age::Newer };
        let mut found = vec![newer; asked.keys.len()];
        let mut wrong: Vec<usize> = (0..asked.keys.len()).collect();
        if let Some((first, last)) = asked.near.as_ref().filter(|_| question.may_look_near()) {
            let near = question.near(first, last);
            question.compare(&near, asked, &lacking, &wrong, &mut found).await?;
            // A newer row may be in another partition.
            let is_wrong =
                |at: &usize| found[*at].rows == 0 || matches!(found[*at].age, Age::Older(_));
            wrong.retain(is_wrong);
        }
        question.compare(&Near::default(), asked, &lacking, &wrong, &mut found).await?;
        Ok(found)
    }

    async fn count(&self, asked: &KeyCount) -> Result<Vec<u64>, AuditError> {
        let mut counts = vec![1; asked.keys.len()];
        let question = Question::of(self, &asked.table, &asked.columns);
        let mut unknown: Vec<usize> = (0..asked.keys.len()).collect();
        if let Some((first, last)) = asked.near.as_ref().filter(|_| question.may_look_near()) {
            let near = question.near(first, last);
            question.count(&near, &asked.keys, &unknown, &mut counts).await?;
            unknown.retain(|&at| counts[at] == 0);
        }
        question.count(&Near::default(), &asked.keys, &unknown, &mut counts).await?;
        Ok(counts)
    }

    async fn letters(
        &self,
        LetterQuery { published, payloads }: LetterQuery,
        take: &mut (dyn FnMut(LetterMark) -> bool + Send),
    ) -> Result<(), AuditError> {
        let Some(letters) = self.letters_source().await? else { return Ok(()) };
        let payload = if payloads { "payload" } else { "CAST(NULL AS BYTES)" };
        let sql = format!(
            "SELECT message_id, publish_time, stage, processor, {payload} AS body, \
             purged_at FROM {letters} WHERE publish_time >= @from AND publish_time < @to AND requeued_at IS NULL \
             AND replay_id IS NULL"
        );
        let time = |name, time| parameter(name, ColumnType::Timestamp, &Value::Timestamp(time));
        let parameters = json!([time("from", published.from), time("to", published.to)]);
        let mut pages = match self.rest.pages_with(&sql, &parameters).await {
            Err(RestError::NotFound(_)) => return Ok(()),
            pages => pages?,
        };
        while let Some(page) = pages.next().await? {
            // A letter that kappa did not write accounts for nothing.
            if !page.iter().filter_map(mark).all(&mut *take) {
                break;
            }
        }
        Ok(())
    }
}

/// Identifies the letter of a row; none where no letter is like it.
fn mark(row: &Cells) -> Option<LetterMark> {
    let text = |at: usize| row.get(at).and_then(Json::as_str);
    let Value::Timestamp(publish_time) = value(ColumnType::Timestamp, row.get(1)?)? else {
        return None;
    };
    let payload = match value(ColumnType::Bytes, row.get(4)?)? {
        Value::Bytes(payload) => Some(*payload),
        _ => None,
    };
    Some(LetterMark {
        message_id: text(0)?.into(),
        publish_time,
        stage: Stage::from_name(text(2)?)?,
        processor: text(3).map(str::to_owned),
        payload,
        purged: !row.get(5)?.is_null(),
    })
}
