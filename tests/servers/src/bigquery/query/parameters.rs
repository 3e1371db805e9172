//! Parameters of a query, as values of SQLite:
//! <https://cloud.google.com/bigquery/docs/reference/rest/v2/QueryParameter#QueryParameterValue>.
//!
//! An array of structs becomes a table, and `UNNEST(@name)` in the text names it. The service takes other arrays and
//! more types too.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, NaiveDate};
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params_from_iter};
use serde_json::Value;

use super::{Refused, invalid};

/// The value of a parameter, or of a field, as a table's rows hold it.
pub(super) fn value(kind: &Value, raw: &Value) -> Result<Sql, Refused> {
    let Some(text) = raw.as_str() else { return Ok(super::sql(raw)) };
    let kind = kind["type"].as_str().unwrap_or_default();
    let wrong = || invalid(format!("Invalid value {text:?} of a parameter of type {kind}"));
    Ok(match kind {
        "INT64" => Sql::Integer(text.parse().map_err(|_| wrong())?),
        "FLOAT64" => Sql::Real(text.parse().map_err(|_| wrong())?),
        "BOOL" => Sql::Integer(text.parse::<bool>().map_err(|_| wrong())?.into()),
        "TIMESTAMP" => {
            let time = DateTime::parse_from_rfc3339(text).map_err(|_| wrong())?;
            Sql::Integer(time.timestamp_micros())
        }
        "DATE" => {
            let day: NaiveDate = text.parse().map_err(|_| wrong())?;
            Sql::Integer(day.to_epoch_days().into())
        }
        "BYTES" => Sql::Blob(BASE64_STANDARD.decode(text).map_err(|_| wrong())?),
        "STRING" | "NUMERIC" => Sql::Text(text.to_owned()),
        _ => return Err(wrong()),
    })
}

/// Makes a table of each parameter that is an array, and the text that names these tables.
pub(super) fn unnest(db: &Connection, text: &str, parameters: &Value) -> Result<String, Refused> {
    let mut text = text.to_owned();
    for parameter in parameters.as_array().into_iter().flatten() {
        if parameter["parameterType"]["type"] != "ARRAY" {
            continue;
        }
        let name = parameter["name"].as_str().unwrap_or_default();
        let unnest = format!("UNNEST(@{name})");
        let Some((before, rest)) = text.split_once(&unnest) else {
            return Err(invalid(format!("@{name} is an array: only UNNEST takes it")));
        };
        let (alias, rest) = word_behind(rest, " AS ");
        let (offset, rest) = word_behind(rest, " WITH OFFSET AS ");
        let table = format!("@{name}");
        fill(db, &table, offset.unwrap_or("offset"), parameter)?;
        let alias = alias.map(|alias| format!(" AS {alias}")).unwrap_or_default();
        text = format!("{before}`{table}`{alias}{rest}");
    }
    Ok(text)
}

/// Returns the word after `key` at the beginning of `text`, and the rest of the text.
fn word_behind<'a>(text: &'a str, key: &str) -> (Option<&'a str>, &'a str) {
    let Some(rest) = text.strip_prefix(key) else { return (None, text) };
    let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let (word, rest) = rest.split_at(end.unwrap_or(rest.len()));
    (Some(word), rest)
}

fn fill(db: &Connection, table: &str, offset: &str, parameter: &Value) -> Result<(), Refused> {
    let kind = &parameter["parameterType"]["arrayType"];
    let fields = kind["structTypes"].as_array();
    let (Some(fields), true) = (fields, kind["type"] == "STRUCT") else {
        return Err(invalid(format!("{table}: arrays of structs alone are known here")));
    };
    let names: Vec<&str> =
        fields.iter().map(|field| field["name"].as_str().unwrap_or_default()).collect();
    let columns: Vec<String> =
        names.iter().chain([&offset]).map(|name| format!("`{name}`")).collect();
    let columns = columns.join(",");
    db.execute_batch(&format!("CREATE TABLE `{table}` ({columns})")).map_err(invalid)?;
    let marks = vec!["?"; names.len() + 1].join(",");
    let mut insert =
        db.prepare(&format!("INSERT INTO `{table}` VALUES ({marks})")).map_err(invalid)?;
    let elements = parameter["parameterValue"]["arrayValues"].as_array();
    for (at, element) in (0_i64..).zip(elements.into_iter().flatten()) {
        let given = element["structValues"].as_object();
        if given.is_none_or(|given| given.keys().any(|name| !names.contains(&name.as_str()))) {
            return Err(invalid(format!("{table}: a value that is not of its type")));
        }
        let values = fields
            .iter()
            .zip(&names)
            .map(|(field, name)| value(&field["type"], &element["structValues"][*name]["value"]));
        let values: Vec<Sql> = values.collect::<Result<_, _>>()?;
        insert
            .execute(params_from_iter(values.into_iter().chain([Sql::Integer(at)])))
            .map_err(invalid)?;
    }
    Ok(())
}
