//! The queries of an audit about one table.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::NaiveDate;
use kappa_actors::port::{Age, AuditError, Current, CurrentRows};
use kappa_actors::row::{ColumnType, Row, TableSpec, Value};
use kappa_actors::version::Version;
use serde_json::{Value as Json, json};

use crate::backend::bigquery::cell::value;
use crate::backend::bigquery::query::Cells;
use crate::backend::bigquery::rest::RestError;
use crate::backend::bigquery::{BigQueryWarehouse, WriteMode, schema};

/// A request may have 10 MB: <https://cloud.google.com/bigquery/quotas#query_jobs>
const MAX_KEYS_BYTES: usize = 8 << 20;

/// The queries about one table.
pub(super) struct Question<'a> {
    warehouse: &'a BigQueryWarehouse,
    table: &'a TableSpec,
    columns: &'a [usize],
    /// Whether several rows of a key are one to a reader: the view shows the newest.
    is_seen_once: bool,
}

/// A part of the table.
#[derive(Default)]
pub(super) struct Near {
    condition: String,
    parameters: Vec<Json>,
}

impl<'a> Question<'a> {
    pub(super) fn of(
        warehouse: &'a BigQueryWarehouse,
        table: &'a TableSpec,
        columns: &'a [usize],
    ) -> Self {
        let is_keyed = !table.key.is_empty() && *columns == *table.key;
        // Queries read the table behind the view: partitions can be chosen there, but keys repeat.
        let is_seen_once = is_keyed && warehouse.mode(table) == WriteMode::Append;
        Self { warehouse, table, columns, is_seen_once }
    }

    /// Whether a key that was found in some partitions has no row in others: readers see one row of
    /// a key, but may see many rows with the same value of another column.
    pub(super) fn may_look_near(&self) -> bool {
        *self.columns == self.table.key && self.table.partition_by.is_some()
    }

    /// The partitions between two values.
    pub(super) fn near(&self, first: &Value, last: &Value) -> Near {
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

    /// Indexes of the columns that the table lacks; `None`: there is no table.
    pub(super) async fn lacking(&self) -> Result<Option<Vec<usize>>, AuditError> {
        let found = match self.warehouse.rest.table(&self.table.name).await {
            Err(RestError::NotFound(_)) => return Ok(None),
            found => found?,
        };
        let gap = schema::compare(self.table, self.warehouse.mode(self.table), &found);
        Ok(Some(gap.map_err(AuditError::Mismatch)?.missing))
    }

    /// Counts the keys at these places.
    pub(super) async fn count(
        &self,
        near: &Near,
        keys: &[Row],
        places: &[usize],
        counts: &mut [u64],
    ) -> Result<(), AuditError> {
        places.iter().for_each(|&place| counts[place] = 1);
        let key = |place: usize| self.key(&keys[place]);
        let mut take = |place: usize, row: &Cells| {
            let count = row.get(1)?.as_str()?.parse::<u64>().ok()?;
            counts[place] = if self.is_seen_once { count.min(1) } else { count };
            Some(())
        };
        let found = self.ask(&self.counts(near), near, None, places, key, &mut take).await?;
        if !found {
            places.iter().for_each(|&place| counts[place] = 0);
        }
        Ok(())
    }

    /// Compares the current rows of the keys at these places with the expected versions.
    pub(super) async fn compare(
        &self,
        near: &Near,
        asked: &CurrentRows,
        lacking: &[usize],
        places: &[usize],
        found: &mut [Current],
    ) -> Result<(), AuditError> {
        for &place in places {
            found[place] = Current { rows: 1, age: Age::Newer };
        }
        let key = |place: usize| {
            let mut key = self.key(&asked.keys[place]);
            let version = BASE64_STANDARD.encode(asked.expected[place].to_bytes());
            key["structValues"]["v"] = json!({ "value": version });
            key
        };
        let mut take = |place: usize, row: &Cells| {
            let rows = row.get(1)?.as_str()?.parse::<u64>().ok()?;
            let version = match value(ColumnType::Bytes, row.get(2)?)? {
                Value::Bytes(bytes) => Version::from_bytes(&bytes),
                _ => None,
            };
            let rows = if self.is_seen_once { rows.min(1) } else { rows };
            let of_one = Current::of(version, &asked.expected[place], Box::default);
            let age = if rows == 0 { Age::Newer } else { of_one.age };
            found[place] = Current { rows, age };
            Some(())
        };
        let wants_values = !asked.columns.is_empty();
        let sql = self.versions(near, lacking, wants_values);
        if !self.ask(&sql, near, Some("v"), places, key, &mut take).await? {
            places.iter().for_each(|&place| found[place] = Current::MISSING);
            return Ok(());
        }
        if !wants_values {
            return Ok(());
        }
        let is_same = |place: &&usize| matches!(found[**place].age, Age::Same(_));
        let same: Vec<usize> = places.iter().filter(is_same).copied().collect();
        let mut take = |place: usize, row: &Cells| {
            let cells = asked.columns.iter().zip(row.get(1..)?);
            let values: Option<Box<[Value]>> =
                cells.map(|(&column, cell)| value(self.table.columns[column].kind, cell)).collect();
            found[place].age = Age::Same(values?);
            Some(())
        };
        let sql = self.values(near, lacking, &asked.columns);
        self.ask(&sql, near, Some("v"), &same, key, &mut take).await.map(drop)
    }

    /// Runs a query over the keys at these places, in as few requests as hold them. `take` reads
    /// each row by the place of its key, which is the first cell. Returns whether there is a table.
    async fn ask(
        &self,
        sql: &str,
        near: &Near,
        version: Option<&str>,
        places: &[usize],
        key: impl Fn(usize) -> Json,
        take: &mut (dyn FnMut(usize, &Cells) -> Option<()> + Send),
    ) -> Result<bool, AuditError> {
        let (mut rest, mut request) = (places, Vec::new());
        while !rest.is_empty() {
            let mut bytes = 0;
            request.clear();
            for &place in rest {
                let key = key(place);
                bytes += key.to_string().len() + 1;
                if bytes > MAX_KEYS_BYTES && !request.is_empty() {
                    break;
                }
                request.push(key);
            }
            let (now, later) = rest.split_at(request.len());
            let mut parameters = near.parameters.clone();
            parameters.push(self.keys(std::mem::take(&mut request), version));
            let mut pages = match self.warehouse.rest.pages_with(sql, &parameters.into()).await {
                Err(RestError::NotFound(_)) => return Ok(false),
                pages => pages?,
            };
            while let Some(page) = pages.next().await? {
                for row in page {
                    let number = row.first().and_then(|cell| cell.as_str()?.parse().ok());
                    let place = number.and_then(|number: usize| now.get(number));
                    if place.and_then(|&place| take(place, &row)).is_none() {
                        return Err(AuditError::Unavailable(format!(
                            "{row:?} does not answer the query"
                        )));
                    }
                }
            }
            rest = later;
        }
        Ok(true)
    }

    /// The parameter with the keys, each with a version if `version` names its field.
    fn keys(&self, keys: Vec<Json>, version: Option<&str>) -> Json {
        let columns = self.names().map(|(name, column)| {
            json!({ "name": name, "type": { "type": sql_type(self.table.columns[column].kind) } })
        });
        let version =
            version.map(|name| json!({ "name": name, "type": { "type": "BYTES" } })).into_iter();
        json!({
            "name": "keys",
            "parameterType": { "type": "ARRAY", "arrayType": {
                "type": "STRUCT",
                "structTypes": columns.chain(version).collect::<Vec<_>>(),
            }},
            "parameterValue": { "arrayValues": keys },
        })
    }

    /// Selects the place of each key that has no row or several, and the number of its rows.
    fn counts(&self, near: &Near) -> String {
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

    /// The place of each key whose current row is not newer than expected, or is not one, with the
    /// number of its rows and their greatest version. Rows of the expected version too, if `same`.
    fn versions(&self, near: &Near, lacking: &[usize], same: bool) -> String {
        let wrong = if self.is_seen_once { "= 0" } else { "<> 1" };
        let older = if same { "<=" } else { "<" };
        format!(
            "SELECT n, COUNT(t.tk0) AS _audit_rows, MAX(t.tv) AS _audit_version \
             FROM UNNEST(@keys) AS k WITH OFFSET AS n LEFT JOIN {} ON {} GROUP BY n \
             HAVING COUNT(t.tk0) {wrong} OR MAX(t.tv) IS NULL OR MAX(t.tv) {older} MAX(k.v)",
            self.source(near, lacking, &[]),
            self.same_key(),
        )
    }

    /// The place of each key with the columns of its row that has the expected version.
    fn values(&self, near: &Near, lacking: &[usize], columns: &[usize]) -> String {
        let named = columns.iter().map(|&at| format!(", t.tc{at} AS `{}`", self.name(at)));
        format!(
            "SELECT n AS _audit_key{} FROM UNNEST(@keys) AS k WITH OFFSET AS n JOIN {} \
             ON {} AND t.tv = k.v",
            named.collect::<String>(),
            self.source(near, lacking, columns),
            self.same_key(),
        )
    }

    /// The rows of the table, their columns under other names.
    fn source(&self, near: &Near, lacking: &[usize], columns: &[usize]) -> String {
        let value = |at: usize| match lacking.contains(&at) {
            true => format!("CAST(NULL AS {})", sql_type(self.table.columns[at].kind)),
            false => format!("`{}`", self.name(at)),
        };
        let key = self.names().map(|(name, column)| format!("{} AS t{name}", value(column)));
        let version = self.table.version.map(|at| format!("{} AS tv", value(at)));
        let columns = columns.iter().map(|&at| format!("{} AS tc{at}", value(at)));
        let selected: Vec<_> = key.chain(version).chain(columns).collect();
        format!(
            "(SELECT {} FROM {}{}) AS t",
            selected.join(", "),
            self.warehouse.rest.sql_name(&self.table.name),
            near.condition
        )
    }

    fn same_key(&self) -> String {
        let equal = self.names().map(|(name, _)| format!("t.t{name} = k.{name}"));
        equal.collect::<Vec<_>>().join(" AND ")
    }

    fn name(&self, at: usize) -> &str {
        &self.table.columns[at].name
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
pub(in crate::backend::bigquery) fn parameter(name: &str, kind: ColumnType, value: &Value) -> Json {
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
