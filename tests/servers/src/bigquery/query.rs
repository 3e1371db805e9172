//! Queries, run by SQLite over the rows of every table the text names.
//!
//! SQLite takes BigQuery's backticks and named parameters as they are, so a table stands there
//! under its full name. What SQLite cannot run is refused as an invalid query.

use chrono::NaiveDate;
use rusqlite::types::{Value as Sql, ValueRef};
use rusqlite::{Connection, params_from_iter};
use serde_json::{Map, Value, json};

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

fn load(db: &Connection, name: &str, table: &Table) -> rusqlite::Result<()> {
    if let Some(view) = table.resource["view"]["query"].as_str() {
        return db.execute_batch(&format!("CREATE VIEW `{name}` AS {view}"));
    }
    if table.columns.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = table.columns.iter().map(|c| format!("`{}`", c.name)).collect();
    db.execute_batch(&format!("CREATE TABLE `{name}` ({})", names.join(",")))?;
    let marks = vec!["?"; names.len()].join(",");
    let mut insert = db.prepare(&format!("INSERT INTO `{name}` VALUES ({marks})"))?;
    for row in table.visible() {
        let cells = table.columns.iter().map(|c| sql(row.get(&c.name).unwrap_or(&Value::Null)));
        insert.execute(params_from_iter(cells))?;
    }
    Ok(())
}

fn json_of(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => value.into(),
        ValueRef::Real(value) => value.into(),
        ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into(),
    }
}

/// A value of this type as `jobs.query` shows it: a string, or null. Timestamps are microseconds,
/// as with `formatOptions.useInt64Timestamp`:
/// <https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/getQueryResults>.
fn shown(kind: &str, value: &Value) -> Value {
    let text = match (kind, value) {
        (_, Value::Null) => return json!({ "v": null }),
        (_, Value::String(text)) => text.clone(),
        ("BOOLEAN" | "BOOL", value) => (value == &json!(1) || value == &json!(true)).to_string(),
        ("DATE", value) => {
            let days = value.as_i64().and_then(|days| i32::try_from(days).ok());
            let date = days.and_then(NaiveDate::from_epoch_days);
            date.map_or_else(|| value.to_string(), |date| date.to_string())
        }
        (_, other) => other.to_string(),
    };
    json!({ "v": text })
}

/// Answers `jobs.query`.
pub(super) fn run(state: &mut State, body: &Value) -> Result<Value, Refused> {
    let text = body["query"].as_str().unwrap_or_default();
    let named: Vec<String> =
        state.tables.keys().filter(|name| text.contains(name.as_str())).cloned().collect();
    let db = Connection::open_in_memory().map_err(invalid)?;
    for (name, table) in &state.tables {
        load(&db, name, table).map_err(invalid)?;
    }
    let mut statement = db.prepare(text).map_err(invalid)?;
    let changes = !statement.readonly();
    let word = text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    // https://cloud.google.com/bigquery/docs/change-data-capture#limitations: no mutating DML.
    let upserted = named.iter().find(|name| {
        word != "INSERT" && state.tables.get(*name).is_some_and(|table| table.upserted)
    });
    if let (true, Some(name)) = (changes, upserted) {
        let message = format!(
            "{word} DML statements are not supported over tables that had UPSERT streams: {name}"
        );
        return Err(invalid(message));
    }
    for parameter in body["queryParameters"].as_array().into_iter().flatten() {
        let name = format!("@{}", parameter["name"].as_str().unwrap_or_default());
        let raw = &parameter["parameterValue"]["value"];
        let value = match (parameter["parameterType"]["type"].as_str(), raw.as_str()) {
            (Some("INT64"), Some(text)) => Sql::Integer(text.parse().map_err(invalid)?),
            (Some("FLOAT64"), Some(text)) => Sql::Real(text.parse().map_err(invalid)?),
            _ => sql(raw),
        };
        if let Some(at) = statement.parameter_index(&name).map_err(invalid)? {
            statement.raw_bind_parameter(at, value).map_err(invalid)?;
        }
    }
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut rows: Vec<Vec<Value>> = Vec::new();
    let mut found = statement.raw_query();
    while let Some(row) = found.next().map_err(invalid)? {
        let cells = (0..names.len()).map(|at| row.get_ref(at).map(json_of));
        rows.push(cells.collect::<Result<_, _>>().map_err(invalid)?);
    }
    drop(found);
    drop(statement);
    if changes {
        for name in &named {
            keep(&db, name, state).map_err(invalid)?;
        }
        let affected = db.changes().to_string();
        return Ok(
            json!({ "kind": "bigquery#queryResponse", "jobComplete": true, "numDmlAffectedRows": affected, "totalRows": "0" }),
        );
    }
    let first = |at: usize| rows.first().map(|row| &row[at]);
    let kinds = names.iter().enumerate().map(|(at, name)| kind(state, &named, name, first(at)));
    let kinds: Vec<String> = kinds.collect();
    let fields = names.iter().zip(&kinds).map(|(name, kind)| json!({ "name": name, "type": kind }));
    let fields: Vec<Value> = fields.collect();
    let show = |row: &Vec<Value>| {
        let cells = kinds.iter().zip(row).map(|(kind, value)| shown(kind, value));
        json!({ "f": cells.collect::<Vec<_>>() })
    };
    let rows: Vec<Value> = rows.iter().map(show).collect();
    Ok(json!({
        "kind": "bigquery#queryResponse", "jobComplete": true, "schema": { "fields": fields },
        "totalRows": rows.len().to_string(), "rows": rows,
    }))
}

/// A result column's type: that of the table's column of its name, or what the first value is.
fn kind(state: &State, named: &[String], column: &str, first: Option<&Value>) -> String {
    let tables = named.iter().filter_map(|name| state.tables.get(name));
    let known = tables.flat_map(|table| &table.columns).find(|known| known.name == column);
    let guess = match first {
        Some(Value::Number(number)) if number.is_i64() => "INTEGER",
        Some(Value::Number(_)) => "FLOAT",
        _ => "STRING",
    };
    known.map_or(guess.to_owned(), |known| known.kind.clone())
}

/// Takes over what a query made of a table.
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
