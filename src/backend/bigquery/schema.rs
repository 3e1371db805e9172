//! Tables as REST knows them.

use std::time::Duration;

use kappa_actors::row::{Column, ColumnType, TableSpec};
use serde_json::{Value, json};

use super::{TableOptions, WriteMode};

/// Columns that a primary key may have:
/// <https://cloud.google.com/bigquery/docs/change-data-capture#prerequisites>
const MAX_KEY_COLUMNS: usize = 16;
/// Stands in the description of the version's column before the definition of `order_by`.
const ORDER_BY: &str = "; order_by: ";
/// Bytes of a definition that is described as it is: a description has 1,024 characters at most,
/// <https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#TableFieldSchema>
const MAX_DEFINITION: usize = 512;
/// Columns to cluster by: <https://cloud.google.com/bigquery/docs/clustered-tables>
const MAX_CLUSTER_COLUMNS: usize = 4;

/// The resource of a table that is to be made, without its reference.
///
/// # Errors
/// Words, where BigQuery takes no such table.
pub(super) fn resource(
    table: &TableSpec,
    mode: WriteMode,
    options: &TableOptions,
) -> Result<Value, String> {
    let name = &table.name;
    if table.key.len() > MAX_KEY_COLUMNS {
        let count = table.key.len();
        return Err(format!("{name}: a key of {count} columns: at most {MAX_KEY_COLUMNS}"));
    }
    if table.cluster_by.len() > MAX_CLUSTER_COLUMNS {
        let count = table.cluster_by.len();
        return Err(format!("{name}: clustered by {count}: at most {MAX_CLUSTER_COLUMNS}"));
    }
    let fields: Vec<_> = (0..table.columns.len()).filter_map(|at| field(table, at)).collect();
    let mut body = json!({ "schema": { "fields": fields } });
    if let Some(column) = table.partition_by.and_then(|at| table.columns.get(at)) {
        body["timePartitioning"] = json!({ "type": "DAY", "field": column.name });
    }
    if !table.cluster_by.is_empty() {
        body["clustering"] = json!({ "fields": names(table, &table.cluster_by) });
    }
    if mode == WriteMode::Upsert {
        body["tableConstraints"] = json!({ "primaryKey": { "columns": names(table, &table.key) } });
        if !options.max_staleness.is_zero() {
            body["maxStaleness"] = json!(interval(options.max_staleness));
        }
    }
    if !options.labels.is_empty() {
        body["labels"] = json!(options.labels);
    }
    Ok(body)
}

/// A column as a field of a schema. The column of the version describes what orders the rows: a
/// table keeps nothing else that belongs to it alone.
pub(super) fn field(table: &TableSpec, at: usize) -> Option<Value> {
    let column = table.columns.get(at)?;
    let mut field = json!({ "name": column.name, "type": column.kind.name(), "mode": "NULLABLE" });
    let mut description = column.description.clone();
    if table.version == Some(at)
        && let Some(order) = order_by(table)
    {
        description = Some(format!("{}{ORDER_BY}{order}", description.unwrap_or_default()));
    }
    if let Some(description) = description {
        field["description"] = json!(description);
    }
    Some(field)
}

/// The definition of `order_by` as a description holds it: a long one as its beginning and a hash.
fn order_by(table: &TableSpec) -> Option<String> {
    let definition = table.order_by.as_ref()?;
    if definition.len() <= MAX_DEFINITION {
        return Some(definition.clone());
    }
    let begins: String = definition.chars().take(MAX_DEFINITION / 4).collect();
    Some(format!("{begins}… {}", blake3::hash(definition.as_bytes()).to_hex()))
}

/// Compares what orders the rows, where the table has a column of versions already.
fn compare_order(table: &TableSpec, found: &Value) -> Result<(), String> {
    let noted = found["description"].as_str().unwrap_or_default().split_once(ORDER_BY);
    let (noted, wanted) = (noted.map(|(_, order)| order), order_by(table));
    if noted == wanted.as_deref() {
        return Ok(());
    }
    let told = |order: Option<&str>| match order {
        None => "the order of the log".to_owned(),
        Some(order) => format!("order_by = {order}"),
    };
    Err(format!(
        "the rows of table {} are ordered by {}, configured is {}: versions of both cannot be \
         compared; set order_by back, or replay the history into another table",
        table.name,
        told(noted),
        told(wanted.as_deref())
    ))
}

/// The columns that an existing table lacks, and those that it has beyond the configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Gap {
    /// Indexes of the columns it lacks.
    pub(super) missing: Vec<usize>,
    /// Names of columns that are no longer configured.
    pub(super) idle: Vec<String>,
}

/// Compares an existing table with the configuration.
///
/// # Errors
/// Words for a contradiction that only a person can decide.
pub(super) fn compare(table: &TableSpec, mode: WriteMode, found: &Value) -> Result<Gap, String> {
    let name = &table.name;
    let kind = found["type"].as_str().unwrap_or("TABLE");
    if kind != "TABLE" {
        return Err(format!("{name} is a {kind}, not a table: rename one of them"));
    }
    let no_fields = Vec::new();
    let fields = found["schema"]["fields"].as_array().unwrap_or(&no_fields);
    let same = |field: &Value, column: &Column| {
        field["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(&column.name))
    };
    let mut gap = Gap::default();
    for (at, column) in table.columns.iter().enumerate() {
        let Some(field) = fields.iter().find(|field| same(field, column)) else {
            gap.missing.push(at);
            continue;
        };
        let stands = field["type"].as_str().unwrap_or_default();
        if table.version == Some(at)
            && column.kind == ColumnType::Bytes
            && column_type(stands) == Some(ColumnType::Integer)
        {
            return Err(format!(
                "table {name} was filled by an older kappa: its column {} is INTEGER, and versions \
                 are BYTES now; replay the history into another table, or drop this one and replay \
                 the history into it",
                column.name,
            ));
        }
        if column_type(stands) != Some(column.kind) || field["mode"] == json!("REPEATED") {
            let repeated = if field["mode"] == json!("REPEATED") { "REPEATED " } else { "" };
            return Err(format!(
                "column {} of table {name} is {repeated}{stands}, configured is {}: change the \
                 configuration, or write to another table",
                column.name,
                column.kind.name(),
            ));
        }
        if table.version == Some(at) {
            compare_order(table, field)?;
        }
    }
    for field in fields {
        if !table.columns.iter().any(|column| same(field, column)) {
            gap.idle.push(field["name"].as_str().unwrap_or_default().to_owned());
        }
    }
    compare_key(table, mode, found)?;
    Ok(gap)
}

fn compare_key(table: &TableSpec, mode: WriteMode, found: &Value) -> Result<(), String> {
    let stands = found["tableConstraints"]["primaryKey"]["columns"].as_array();
    let stands: Vec<_> = stands.into_iter().flatten().filter_map(Value::as_str).collect();
    let wanted = if mode == WriteMode::Upsert { names(table, &table.key) } else { Vec::new() };
    if stands == wanted {
        return Ok(());
    }
    let told = |names: &[&str]| match names {
        [] => "no primary key".to_owned(),
        names => format!("the primary key ({})", names.join(", ")),
    };
    let hint = if wanted.is_empty() && !table.key.is_empty() {
        ": rows that are appended would break it; set the table's mode to \"upsert\", or write to \
         another table"
    } else {
        ": change the configuration, or write to another table"
    };
    Err(format!(
        "table {} has {}, configured is {}{hint}",
        table.name,
        told(&stands),
        told(&wanted)
    ))
}

/// The query of the view that shows the newest row of each key of `table`, which SQL knows as
/// `source`, with its columns that are no longer configured.
pub(super) fn deduplicated(table: &TableSpec, idle: &[String], source: &str) -> String {
    let columns = table.columns.iter().map(|column| &column.name).chain(idle);
    let columns = columns.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let version = table.version.and_then(|at| table.columns.get(at));
    let order =
        version.map(|version| format!(" ORDER BY `{}` DESC", version.name)).unwrap_or_default();
    format!(
        "SELECT {columns} FROM (SELECT {columns}, ROW_NUMBER() OVER ({}{order}) AS _place \
         FROM {source}) WHERE _place = 1",
        partition(table),
    )
}

/// The part of [`deduplicated`] that names the key.
pub(super) fn partition(table: &TableSpec) -> String {
    let names: Vec<_> =
        names(table, &table.key).into_iter().map(|name| format!("`{name}`")).collect();
    format!("PARTITION BY {}", names.join(", "))
}

fn names<'a>(table: &'a TableSpec, which: &[usize]) -> Vec<&'a str> {
    which.iter().filter_map(|&at| table.columns.get(at)).map(|column| &*column.name).collect()
}

/// The type by either of its names:
/// <https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#TableFieldSchema>
fn column_type(name: &str) -> Option<ColumnType> {
    Some(match name {
        "STRING" => ColumnType::String,
        "INTEGER" | "INT64" => ColumnType::Integer,
        "FLOAT" | "FLOAT64" => ColumnType::Float,
        "NUMERIC" | "DECIMAL" => ColumnType::Numeric,
        "BOOLEAN" | "BOOL" => ColumnType::Boolean,
        "TIMESTAMP" => ColumnType::Timestamp,
        "DATE" => ColumnType::Date,
        "JSON" => ColumnType::Json,
        "BYTES" => ColumnType::Bytes,
        _ => return None,
    })
}

/// A duration as SQL writes an interval: years-months days hours:minutes:seconds.
fn interval(of: Duration) -> String {
    let seconds = of.as_secs();
    format!("0-0 0 {}:{}:{}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// An interval as REST shows it: years-months days hours:minutes:seconds.
pub(super) fn parse_interval(text: &str) -> Option<Duration> {
    let number = |text: &str| text.parse::<u64>().ok();
    let mut parts = text.split_whitespace();
    let (years, months) = parts.next()?.split_once('-')?;
    let days = number(years)? * 365 + number(months)? * 30 + number(parts.next()?)?;
    let mut seconds = 0;
    for part in parts.next()?.split(':') {
        seconds = seconds * 60 + number(part.split('.').next()?)?;
    }
    Some(Duration::from_secs(days * 86_400 + seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_read_as_it_is_written() {
        for seconds in [0, 59, 600, 86_399] {
            let of = Duration::from_secs(seconds);
            assert_eq!(parse_interval(&interval(of)), Some(of));
        }
        assert_eq!(parse_interval("0-0 1 0:0:1.5"), Some(Duration::from_secs(86_401)));
        assert_eq!(parse_interval("soon"), None);
    }
}
