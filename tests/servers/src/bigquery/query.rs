//! Queries, run by SQLite over the rows of every table the text names.
//!
//! A table has its full name there. A query that SQLite cannot run is refused as invalid:
//! <https://cloud.google.com/bigquery/docs/error-messages>.

mod functions;
mod limits;
mod parameters;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rand::seq::SliceRandom;
use rusqlite::types::{Value as Sql, ValueRef};
use rusqlite::{Connection, Statement as Prepared, params_from_iter};
use serde_json::{Map, Value, json};
use sqlparser::ast::Statement;

use super::dialect::{Translated, changed, translate};
use super::merge::{self, Affected};
use super::rest::Refused;
use super::state::State;
use super::table::Table;

fn invalid(error: impl std::fmt::Display) -> Refused {
    let told = error.to_string();
    match told.strip_prefix("no such table: ") {
        Some(table) => Refused::new(404, "notFound", format!("Not found: Table {table}")),
        None => Refused::new(400, "invalidQuery", told),
    }
}

fn sql(value: &Value) -> Sql {
    match value {
        Value::Null => Sql::Null,
        Value::Bool(value) => Sql::Integer(i64::from(*value)),
        Value::Number(number) => match number.as_i64() {
            Some(value) => Sql::Integer(value),
            None => Sql::Real(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Sql::Text(text.clone()),
        other => Sql::Text(other.to_string()),
    }
}

/// A value of a column, as a table of SQLite holds it.
fn held(kind: &str, value: &Value) -> Sql {
    match value {
        Value::String(text) if kind == "BYTES" => {
            BASE64_STANDARD.decode(text).map_or_else(|_| sql(value), Sql::Blob)
        }
        value => sql(value),
    }
}

fn load(db: &Connection, name: &str, table: &Table) -> rusqlite::Result<()> {
    if let Some(view) = table.resource["view"]["query"].as_str() {
        let view = translate(view).map_err(|error| {
            let failure = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR);
            rusqlite::Error::SqliteFailure(failure, Some(error))
        })?;
        return db.execute_batch(&format!("CREATE VIEW `{name}` AS {}", view.statement));
    }
    if table.columns.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = table.columns.iter().map(|c| format!("`{}`", c.name)).collect();
    db.execute_batch(&format!("CREATE TABLE `{name}` ({})", names.join(",")))?;
    let marks = vec!["?"; names.len()].join(",");
    let mut insert = db.prepare(&format!("INSERT INTO `{name}` VALUES ({marks})"))?;
    let mut rows = table.queried();
    // Nothing but ORDER BY gives rows an order:
    // https://cloud.google.com/bigquery/docs/reference/standard-sql/query-syntax#order_by_clause.
    rows.shuffle(&mut rand::rng());
    for row in rows {
        let cells = table.columns.iter();
        let cells = cells.map(|c| held(&c.kind, row.get(&c.name).unwrap_or(&Value::Null)));
        insert.execute(params_from_iter(cells))?;
    }
    Ok(())
}

fn json_of(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => value.into(),
        ValueRef::Real(value) => value.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => BASE64_STANDARD.encode(bytes).into(),
    }
}

/// A value of a type as `jobs.query` shows it: a string, or null.
fn shown(kind: &str, value: &Value) -> Value {
    let text = match (kind, value) {
        (_, Value::Null) => return json!({ "v": null }),
        ("BOOLEAN" | "BOOL", Value::Number(number)) => (number.as_i64() != Some(0)).to_string(),
        ("DATE", Value::Number(days)) => {
            let days = days.as_i64().and_then(|days| i32::try_from(days).ok());
            let date = days.and_then(chrono::NaiveDate::from_epoch_days);
            date.map(|date| date.to_string()).unwrap_or_default()
        }
        (_, Value::String(text)) => text.clone(),
        (_, other) => other.to_string(),
    };
    json!({ "v": text })
}

/// The result of a query, kept for its pages.
pub(super) struct Found {
    fields: Vec<Value>,
    rows: Vec<Value>,
}

/// Answers `jobs.query`.
pub(super) fn run(state: &mut State, body: &Value) -> Result<Value, Refused> {
    limits::check(body)?;
    let text = body["query"].as_str().unwrap_or_default();
    let db = Connection::open_in_memory().map_err(invalid)?;
    functions::register(&db).map_err(invalid)?;
    let text = &parameters::unnest(&db, text, &body["queryParameters"])?;
    let Translated { statement, arrays } = translate(text).map_err(invalid)?;
    let changes = changed(&statement);
    // https://cloud.google.com/bigquery/docs/change-data-capture#limitations: no mutating DML.
    if let Some(name) = &changes
        && !matches!(statement, Statement::Insert(_))
        && state.tables.get(name).is_some_and(|table| table.upserted)
    {
        let word = text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        let message = format!(
            "{word} DML statements are not supported over tables that had UPSERT streams: {name}"
        );
        return Err(invalid(message));
    }
    for (name, table) in &state.tables {
        load(&db, name, table).map_err(invalid)?;
    }
    let affected = match (&statement, &changes) {
        (Statement::Merge(merge), _) => Some(merge::run(&db, merge).map_err(invalid)?),
        (_, Some(_)) => Some(change(&db, &statement, body)?),
        (_, None) => None,
    };
    if body["dryRun"] == json!(true) {
        if affected.is_none() {
            db.prepare(&statement.to_string()).map_err(invalid)?;
        }
        return Ok(estimated(state, text));
    }
    if let (Some(affected), Some(name)) = (affected, changes) {
        keep(&db, &name, state).map_err(invalid)?;
        let Affected { inserted, updated, deleted } = affected;
        return Ok(json!({
            "kind": "bigquery#queryResponse", "jobComplete": true, "totalRows": "0",
            "jobReference": { "jobId": state.job(None) },
            "numDmlAffectedRows": (inserted + updated + deleted).to_string(),
            "dmlStats": {
                "insertedRowCount": inserted.to_string(), "updatedRowCount": updated.to_string(),
                "deletedRowCount": deleted.to_string(),
            },
        }));
    }
    let named: Vec<String> =
        state.tables.keys().filter(|name| text.contains(name.as_str())).cloned().collect();
    let found = find(&db, &statement, body, |column, first| kind(state, &named, column, first));
    let job = state.job(Some(with_arrays(found?, &arrays)));
    page(state, &job, "", most(&body["maxResults"]))
}

/// Answers a dry run: nothing is run, and there are statistics in place of rows.
/// <https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/query>: dryRun. The service knows
/// which columns and partitions a statement reads; here all of each named table count.
fn estimated(state: &State, text: &str) -> Value {
    let named = state.tables.iter().filter(|(name, _)| text.contains(&format!("`{name}`")));
    let rows = named.flat_map(|(_, table)| table.queried());
    let bytes: usize =
        rows.map(|row| row.values().map(|cell| cell.to_string().len()).sum::<usize>()).sum();
    json!({
        "kind": "bigquery#queryResponse", "jobComplete": true, "jobReference": {},
        "totalBytesProcessed": bytes.to_string(),
    })
}

/// A token is opaque: these signs have to be escaped in a URL.
const TOKEN_END: &str = "+/=";

/// Answers `jobs.getQueryResults`: a page of a query's result, by the token of the previous one.
/// <https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/getQueryResults>
pub(super) fn page(
    state: &State,
    job: &str,
    token: &str,
    most: Option<usize>,
) -> Result<Value, Refused> {
    let Some(found) = state.jobs.get(job) else {
        return Err(Refused::new(404, "notFound", format!("Not found: Job {job}")));
    };
    let Some(found) = found else {
        return Ok(json!({ "jobComplete": true, "totalRows": "0" }));
    };
    let from: usize = match token {
        "" => 0,
        token => token
            .strip_suffix(TOKEN_END)
            .and_then(|from| from.parse().ok())
            .ok_or_else(|| Refused::new(400, "invalid", "Invalid page token"))?,
    };
    // A page may be smaller than was asked for: the service bounds it in bytes.
    // https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/query: maxResults.
    let most = most.into_iter().chain(state.page_rows).min().unwrap_or(usize::MAX);
    let end = found.rows.len().min(from.saturating_add(most));
    let mut answer = json!({
        "kind": "bigquery#queryResponse", "jobComplete": true,
        "jobReference": { "jobId": job },
        "schema": { "fields": found.fields },
        "totalRows": found.rows.len().to_string(),
        "rows": found.rows.get(from..end).unwrap_or_default(),
    });
    if end < found.rows.len() {
        answer["pageToken"] = json!(format!("{end}{TOKEN_END}"));
    }
    Ok(answer)
}

/// A number of rows, as JSON or as a text.
fn most(value: &Value) -> Option<usize> {
    let text = value.as_str().map(str::to_owned).or(value.as_u64().map(|n| n.to_string()));
    text.and_then(|text| text.parse().ok())
}

/// Runs DML that SQLite understands.
fn change(db: &Connection, statement: &Statement, body: &Value) -> Result<Affected, Refused> {
    let mut prepared = db.prepare(&statement.to_string()).map_err(invalid)?;
    bind(&mut prepared, body)?;
    let rows = prepared.raw_execute().map_err(invalid)?;
    let mut affected = Affected::default();
    match statement {
        Statement::Insert(_) => affected.inserted = rows,
        Statement::Delete(_) => affected.deleted = rows,
        _ => affected.updated = rows,
    }
    Ok(affected)
}

fn bind(statement: &mut Prepared<'_>, body: &Value) -> Result<(), Refused> {
    for parameter in body["queryParameters"].as_array().into_iter().flatten() {
        let name = format!("@{}", parameter["name"].as_str().unwrap_or_default());
        if parameter["parameterType"]["type"] == "ARRAY" {
            continue;
        }
        let raw = &parameter["parameterValue"]["value"];
        let value = parameters::value(&parameter["parameterType"], raw)?;
        if let Some(at) = statement.parameter_index(&name).map_err(invalid)? {
            statement.raw_bind_parameter(at, value).map_err(invalid)?;
        }
    }
    Ok(())
}

/// Runs a query; `kind` returns the type of a column by its name and first value.
fn find(
    db: &Connection,
    statement: &Statement,
    body: &Value,
    kind: impl Fn(&str, Option<&Sql>) -> String,
) -> Result<Found, Refused> {
    let mut prepared = db.prepare(&statement.to_string()).map_err(invalid)?;
    bind(&mut prepared, body)?;
    let names: Vec<String> = prepared.column_names().map(str::to_owned).collect();
    let mut rows: Vec<Vec<Value>> = Vec::new();
    let mut first: Vec<Option<Sql>> = vec![None; names.len()];
    let mut found = prepared.raw_query();
    while let Some(row) = found.next().map_err(invalid)? {
        for (at, first) in first.iter_mut().enumerate().filter(|(_, first)| first.is_none()) {
            *first = Some(row.get(at).map_err(invalid)?).filter(|value| *value != Sql::Null);
        }
        let cells = (0..names.len()).map(|at| row.get_ref(at).map(json_of));
        rows.push(cells.collect::<Result<_, _>>().map_err(invalid)?);
    }
    let kinds = names.iter().zip(&first).map(|(name, first)| kind(name, first.as_ref()));
    let kinds: Vec<_> = kinds.collect();
    let fields = names.iter().zip(&kinds).map(|(name, kind)| json!({ "name": name, "type": kind }));
    let fields = fields.collect();
    let row = |row: &Vec<Value>| {
        let cells = row.iter().zip(&kinds).map(|(value, kind)| shown(kind, value));
        json!({ "f": cells.collect::<Vec<_>>() })
    };
    Ok(Found { fields, rows: rows.iter().map(row).collect() })
}

/// Shows the columns that hold arrays as such: a cell of cells.
fn with_arrays(mut found: Found, arrays: &[Option<usize>]) -> Found {
    for (at, most) in arrays.iter().enumerate() {
        let Some(most) = *most else { continue };
        found.fields[at]["mode"] = json!("REPEATED");
        for row in &mut found.rows {
            let cell = &mut row["f"][at]["v"];
            let elements: Vec<Value> =
                cell.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
            *cell = elements.iter().take(most).map(|it| shown("STRING", it)).collect();
        }
    }
    found
}

/// A result column's type: that of the table's column of its name, or what its first value is.
fn kind(state: &State, named: &[String], column: &str, first: Option<&Sql>) -> String {
    let tables = named.iter().filter_map(|name| state.tables.get(name));
    let known = tables.flat_map(|table| &table.columns).find(|known| known.name == column);
    let guess = match first {
        Some(Sql::Blob(_)) => "BYTES",
        Some(Sql::Integer(_)) => "INTEGER",
        Some(Sql::Real(_)) => "FLOAT",
        _ => "STRING",
    };
    let known =
        known.filter(|known| first.is_none() || (known.kind == "BYTES") == (guess == "BYTES"));
    known.map_or(guess.to_owned(), |known| known.kind.clone())
}

/// Takes over the table as a statement left it.
fn keep(db: &Connection, name: &str, state: &mut State) -> rusqlite::Result<()> {
    let Some(table) = state.tables.get_mut(name) else { return Ok(()) };
    if table.columns.is_empty() || table.upserted {
        return Ok(());
    }
    let mut statement = db.prepare(&format!("SELECT * FROM `{name}`"))?;
    let mut found = statement.query([])?;
    let mut records = Vec::new();
    while let Some(row) = found.next()? {
        let mut record = Map::new();
        for (at, column) in table.columns.iter().enumerate() {
            record.insert(column.name.clone(), json_of(row.get_ref(at)?));
        }
        records.push(record);
    }
    table.replace(records);
    Ok(())
}

/// Answers `tabledata.list`.
pub(super) fn data(table: &Table) -> Value {
    let rows: Vec<Value> = table
        .visible()
        .iter()
        .map(|row| {
            let cells = table
                .columns
                .iter()
                .map(|c| shown(&c.kind, row.get(&c.name).unwrap_or(&Value::Null)));
            json!({ "f": cells.collect::<Vec<_>>() })
        })
        .collect();
    json!({ "kind": "bigquery#tableDataList", "totalRows": rows.len().to_string(), "rows": rows })
}
