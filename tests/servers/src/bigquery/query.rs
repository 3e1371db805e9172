//! Queries, run by SQLite over the rows of every table the text names.
//!
//! A table has its full name there. A query that SQLite cannot run is refused as invalid:
//! <https://cloud.google.com/bigquery/docs/error-messages>.

mod functions;
mod jobs;
mod joins;
mod limits;
mod loaded;
mod parameters;

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, Statement as Prepared};
use serde_json::{Map, Value, json};
use sqlparser::ast::Statement;

use super::dialect::{Translated, changed, translate};
use super::merge::{self, Affected};
use super::rest::Refused;
use super::state::{State, path_of};
use super::table::{Table, json_of};

pub(super) use loaded::Loaded;

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
    kinds: Vec<String>,
    /// Of each column, the most elements of the array that it holds; `None`: no array.
    arrays: Vec<Option<usize>>,
    rows: Vec<Vec<Value>>,
}

impl Found {
    /// A row as `jobs.query` shows it; a column that holds an array as a cell of cells.
    fn shown(&self, row: &[Value]) -> Value {
        let cell = |(at, (value, kind)): (usize, (&Value, &String))| {
            let cell = shown(kind, value);
            let Some(most) = self.arrays.get(at).copied().flatten() else { return cell };
            let elements = cell["v"].as_str().and_then(|text| serde_json::from_str(text).ok());
            let elements: Vec<Value> = elements.unwrap_or_default();
            let elements = elements.iter().take(most).map(|it| shown("STRING", it));
            json!({ "v": elements.collect::<Vec<_>>() })
        };
        let cells = row.iter().zip(&self.kinds).enumerate().map(cell);
        json!({ "f": cells.collect::<Vec<_>>() })
    }
}

/// Answers `jobs.query`.
pub(super) fn run(state: &mut State, body: &Value) -> Result<Value, Refused> {
    limits::check(body)?;
    let text = body["query"].as_str().unwrap_or_default();
    let mut loaded = state.loaded.take().map_or_else(Loaded::open, Ok).map_err(invalid)?;
    let answer = answer(state, &mut loaded, text, body);
    state.loaded = Some(loaded);
    answer
}

fn answer(
    state: &mut State,
    loaded: &mut Loaded,
    text: &str,
    body: &Value,
) -> Result<Value, Refused> {
    let named = named(state, text);
    for name in &named {
        let table = &state.tables[name];
        if table.view().is_none() {
            loaded.load(name, table).map_err(invalid)?;
        }
    }
    loaded.reorder().map_err(invalid)?;
    // Rolled back: the next query loads the rows that a statement left.
    let db = loaded.db.unchecked_transaction().map_err(invalid)?;
    for name in &named {
        loaded::make_view(&db, name, &state.tables[name]).map_err(invalid)?;
    }
    let text = &jobs::offer(state, &db, text)?;
    let text = &parameters::unnest(&db, text, &body["queryParameters"])?;
    let Translated { mut statement, arrays } = translate(text).map_err(invalid)?;
    joins::index_full_joins(&db, &mut statement).map_err(invalid)?;
    let changes = changed(&statement);
    if let Some(name) = &changes {
        check_change(state, name, &statement, text)?;
    }
    permit(state, &named, changes.as_deref())?;
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
    let mut found =
        find(&db, &statement, body, |column, first| kind(state, &named, column, first))?;
    for (field, _) in found.fields.iter_mut().zip(&arrays).filter(|(_, most)| most.is_some()) {
        field["mode"] = json!("REPEATED");
    }
    found.arrays = arrays;
    let job = state.job(Some(found));
    page(state, &job, "", most(&body["maxResults"]))
}

/// Answers a dry run: nothing is run, and there are statistics in place of rows.
/// <https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/query>: dryRun. The service knows
/// which columns and partitions a statement reads; here all of each named table count.
fn estimated(state: &State, text: &str) -> Value {
    let named = state.tables.iter().filter(|(name, _)| text.contains(&format!("`{name}`")));
    let rows = named.flat_map(|(_, table)| table.visible());
    let size = |row: Map<String, Value>| -> usize {
        row.values().map(|cell| cell.to_string().len()).sum()
    };
    let bytes: usize = rows.map(size).sum();
    json!({
        "kind": "bigquery#queryResponse", "jobComplete": true, "jobReference": {},
        "totalBytesProcessed": bytes.to_string(),
    })
}

/// The tables and views that a text names, with those that the views name.
fn named(state: &State, text: &str) -> Vec<String> {
    let named = |text: &str| -> Vec<String> {
        let text = text.replace('`', "");
        state.tables.keys().filter(|name| text.contains(name.as_str())).cloned().collect()
    };
    let mut all = named(text);
    let mut next = 0;
    while let Some(name) = all.get(next) {
        let view = state.tables[name].view().map(named).unwrap_or_default();
        let new: Vec<_> = view.into_iter().filter(|name| !all.contains(name)).collect();
        all.extend(new);
        next += 1;
    }
    all
}

/// Refuses a query of tables that the caller may not read, or change. The tables below a view
/// count too: <https://cloud.google.com/bigquery/docs/views#required_permissions>.
fn permit(state: &State, named: &[String], changes: Option<&str>) -> Result<(), Refused> {
    for name in named {
        state.require("bigquery.tables.getData", &path_of(name))?;
    }
    match changes {
        Some(name) => state.require("bigquery.tables.updateData", &path_of(name)),
        None => Ok(()),
    }
}

/// Refuses DML that changes a table with upserts:
/// <https://cloud.google.com/bigquery/docs/change-data-capture#limitations>.
fn check_change(
    state: &State,
    name: &str,
    statement: &Statement,
    text: &str,
) -> Result<(), Refused> {
    let is_upserted = state.tables.get(name).is_some_and(|table| table.upserted);
    if !is_upserted || matches!(statement, Statement::Insert(_)) {
        return Ok(());
    }
    let word = text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    Err(invalid(format!(
        "{word} DML statements are not supported over tables that had UPSERT streams: {name}"
    )))
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
    let Some((_, found)) = state.jobs.iter().find(|(name, _)| name == job) else {
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
    let rows = found.rows.get(from..end).unwrap_or_default().iter();
    let mut answer = json!({
        "kind": "bigquery#queryResponse", "jobComplete": true,
        "jobReference": { "jobId": job },
        "schema": { "fields": found.fields },
        "totalRows": found.rows.len().to_string(),
        "rows": rows.map(|row| found.shown(row)).collect::<Vec<_>>(),
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
        let cells = (0..names.len()).map(|at| row.get(at).map(|value: Sql| json_of(&value)));
        rows.push(cells.collect::<Result<_, _>>().map_err(invalid)?);
    }
    let kinds = names.iter().zip(&first).map(|(name, first)| kind(name, first.as_ref()));
    let kinds: Vec<_> = kinds.collect();
    let fields = names.iter().zip(&kinds).map(|(name, kind)| json!({ "name": name, "type": kind }));
    Ok(Found { fields: fields.collect(), kinds, arrays: Vec::new(), rows })
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
    let width = table.columns.len();
    let rows = statement.query_map((), |row| (0..width).map(|at| row.get(at)).collect())?;
    let rows = rows.collect::<rusqlite::Result<_>>()?;
    table.replace(rows);
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
