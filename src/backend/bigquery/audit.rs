//! What stands in BigQuery, asked by an audit.
//!
//! A query bills the columns that it reads, not the rows that it answers: so as many keys as a
//! request may hold go with it as one parameter, an array, and only those come back that do not
//! stand once. It reads the partitions in which the rows should be, and all of them only for the keys
//! that it has not found there.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::NaiveDate;
use kappa_actors::dead_letter_table::{self, Stage};
use kappa_actors::port::{AuditError, Auditable, KeyCount, LetterMark};
use kappa_actors::replay::ReplayRange;
use kappa_actors::row::{ColumnType, Row, TableSpec, Value};
use serde_json::{Value as Json, json};

use super::query::Cells;
use super::rest::RestError;
use super::{BigQueryWarehouse, WriteMode};

/// A request may have 10 MB: <https://cloud.google.com/bigquery/quotas#query_jobs>
const MAX_KEYS_BYTES: usize = 8 << 20;

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

    async fn count(&self, asked: &KeyCount) -> Result<Vec<u64>, AuditError> {
        let mut counts = vec![1; asked.keys.len()];
        let question = Question::of(self, asked);
        let mut unknown: Vec<usize> = (0..asked.keys.len()).collect();
        if let Some((first, last)) = asked.near.as_ref().filter(|_| question.may_look_near()) {
            let near = question.near(first, last);
            question.ask(&near, &asked.keys, &unknown, &mut counts).await?;
            unknown.retain(|&at| counts[at] == 0);
        }
        question.ask(&Near::default(), &asked.keys, &unknown, &mut counts).await?;
        Ok(counts)
    }

    async fn letters(
        &self,
        published: ReplayRange,
        take: &mut (dyn FnMut(LetterMark) -> bool + Send),
    ) -> Result<(), AuditError> {
        let sql = format!(
            "SELECT message_id, event_id, stage, processor FROM {} \
             WHERE publish_time >= @from AND publish_time < @to",
            self.rest.sql_name(dead_letter_table::NAME)
        );
        let time = |name, time| parameter(name, ColumnType::Timestamp, &Value::Timestamp(time));
        let parameters = json!([time("from", published.from), time("to", published.to)]);
        let mut pages = match self.rest.pages_with(&sql, &parameters).await {
            Err(RestError::NotFound(_)) => return Ok(()),
            pages => pages?,
        };
        while let Some(page) = pages.next().await? {
            // A letter that somebody else wrote accounts for nothing.
            if !page.iter().filter_map(mark).all(&mut *take) {
                break;
            }
        }
        Ok(())
    }
}

/// What tells the letter of a row from others; none where no letter is like it.
fn mark(row: &Cells) -> Option<LetterMark> {
    let text = |at: usize| row.get(at).and_then(Json::as_str);
    Some(LetterMark {
        message_id: text(0)?.into(),
        event_id: text(1).map(Into::into),
        stage: Stage::from_name(text(2)?)?,
        processor: text(3).map(str::to_owned),
    })
}

/// What is asked of one table.
struct Question<'a> {
    warehouse: &'a BigQueryWarehouse,
    table: &'a TableSpec,
    columns: &'a [usize],
    /// Whether several rows of a key are one to a reader: the view shows the newest.
    is_seen_once: bool,
}

/// A part of the table.
#[derive(Default)]
struct Near {
    condition: String,
    parameters: Vec<Json>,
}

impl<'a> Question<'a> {
    fn of(warehouse: &'a BigQueryWarehouse, asked: &'a KeyCount) -> Self {
        let KeyCount { table, columns, .. } = asked;
        let is_keyed = !table.key.is_empty() && *columns == table.key;
        // The table behind the view has whatever the view shows, and its partitions can be chosen.
        let is_seen_once = is_keyed && warehouse.mode(table) == WriteMode::Append;
        Self { warehouse, table, columns, is_seen_once }
    }

    /// Whether no row of a key that was found in some partitions can stand in others: a key has one
    /// row to a reader, and any other column may have many.
    fn may_look_near(&self) -> bool {
        *self.columns == self.table.key && self.table.partition_by.is_some()
    }

    /// The partitions between two values.
    fn near(&self, first: &Value, last: &Value) -> Near {
        let column = self.table.partition_by.and_then(|at| self.table.columns.get(at));
        let Some(column) = column else { return Near::default() };
        Near {
            condition: format!(" WHERE `{}` BETWEEN @first AND @last", column.name),
            parameters: vec![
                parameter("first", column.kind, first),
                parameter("last", column.kind, last),
            ],
        }
    }

    /// Counts the keys at these places, in as few requests as hold them.
    async fn ask(
        &self,
        near: &Near,
        keys: &[Row],
        places: &[usize],
        counts: &mut [u64],
    ) -> Result<(), AuditError> {
        let (mut rest, mut request) = (places, Vec::new());
        while !rest.is_empty() {
            let mut bytes = 0;
            request.clear();
            for &place in rest {
                let key = self.key(&keys[place]);
                bytes += key.to_string().len() + 1;
                if bytes > MAX_KEYS_BYTES && !request.is_empty() {
                    break;
                }
                request.push(key);
            }
            let (now, later) = rest.split_at(request.len());
            self.ask_once(near, std::mem::take(&mut request), now, counts).await?;
            rest = later;
        }
        Ok(())
    }

    async fn ask_once(
        &self,
        near: &Near,
        keys: Vec<Json>,
        places: &[usize],
        counts: &mut [u64],
    ) -> Result<(), AuditError> {
        let mut parameters = near.parameters.clone();
        parameters.push(json!({
            "name": "keys",
            "parameterType": { "type": "ARRAY", "arrayType": {
                "type": "STRUCT",
                "structTypes": self.names().map(|(name, column)| json!({
                    "name": name,
                    "type": { "type": sql_type(self.table.columns[column].kind) },
                })).collect::<Vec<_>>(),
            }},
            "parameterValue": { "arrayValues": keys },
        }));
        for &place in places {
            counts[place] = 1;
        }
        let sql = self.sql(near);
        let mut pages = match self.warehouse.rest.pages_with(&sql, &parameters.into()).await {
            Err(RestError::NotFound(_)) => {
                places.iter().for_each(|&place| counts[place] = 0);
                return Ok(());
            }
            pages => pages?,
        };
        while let Some(page) = pages.next().await? {
            for row in page {
                let number = |at: usize| row.get(at)?.as_str()?.parse::<u64>().ok();
                let place = number(0).and_then(|n| places.get(usize::try_from(n).ok()?));
                let (Some(&place), Some(count)) = (place, number(1)) else {
                    return Err(AuditError::Unavailable(format!("{row:?} is no count of a key")));
                };
                counts[place] = if self.is_seen_once { count.min(1) } else { count };
            }
        }
        Ok(())
    }

    /// The place of each key that does not stand once, and how often it does.
    fn sql(&self, near: &Near) -> String {
        let columns = self.names().map(|(name, column)| {
            // Under other names, or `n` might be one of them.
            format!("`{}` AS t{name}", self.table.columns[column].name)
        });
        let equal = self.names().map(|(name, _)| format!("t.t{name} = k.{name}"));
        format!(
            "SELECT n, COUNT(t.tk0) AS standing \
             FROM UNNEST(@keys) AS k WITH OFFSET AS n \
             LEFT JOIN (SELECT {columns} FROM {table}{near}) AS t ON {equal} \
             GROUP BY n HAVING COUNT(t.tk0) <> 1",
            columns = columns.collect::<Vec<_>>().join(", "),
            table = self.warehouse.rest.sql_name(&self.table.name),
            near = near.condition,
            equal = equal.collect::<Vec<_>>().join(" AND "),
        )
    }

    /// The fields of a key, each with its column.
    fn names(&self) -> impl Iterator<Item = (String, usize)> + '_ {
        self.columns.iter().enumerate().map(|(at, &column)| (format!("k{at}"), column))
    }

    fn key(&self, Row(values): &Row) -> Json {
        let fields = self.names().zip(values);
        let fields = fields.map(|((name, _), value)| (name, json!({ "value": shown(value) })));
        json!({ "structValues": fields.collect::<serde_json::Map<_, _>>() })
    }
}

/// A parameter that is one value.
fn parameter(name: &str, kind: ColumnType, value: &Value) -> Json {
    json!({
        "name": name,
        "parameterType": { "type": sql_type(kind) },
        "parameterValue": { "value": shown(value) },
    })
}

/// A value as parameters have it: a text, whatever its type.
fn shown(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Text(text) => text.as_str().into(),
        Value::Integer(integer) => integer.to_string().into(),
        Value::Float(float) => float.to_string().into(),
        Value::Boolean(truth) => truth.to_string().into(),
        Value::Timestamp(time) => time.to_string().into(),
        Value::Date(days) => NaiveDate::from_epoch_days(*days).map(|day| day.to_string()).into(),
        Value::Bytes(bytes) => BASE64_STANDARD.encode(&**bytes).into(),
        Value::Version(version) => BASE64_STANDARD.encode(version.to_bytes()).into(),
    }
}

/// The type's name in SQL.
const fn sql_type(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Integer => "INT64",
        ColumnType::Float => "FLOAT64",
        ColumnType::Boolean => "BOOL",
        kind => kind.name(),
    }
}
