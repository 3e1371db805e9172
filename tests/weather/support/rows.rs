//! The rows of a warehouse, and those that an event must become, worked out from its JSON alone.

use chrono::{DateTime, SecondsFormat, Utc};
use kappa_actors::version::Version;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::{Map, Value, json};

/// The columns of one row by name.
pub(super) type Row = Map<String, Value>;

/// The table that an event of this type belongs to.
pub(super) fn table_of(kind: &str) -> &'static str {
    match kind.split_once('.') {
        Some(("order", _)) => "orders",
        Some(("user", _)) => "users",
        Some(("product", _)) => "products",
        _ => "other",
    }
}

/// Returns the expected table and row of a valid event, without the columns that only the daemon knows.
pub(super) fn expected(payload: &[u8]) -> (&'static str, Row) {
    let event: Value = serde_json::from_slice(payload).unwrap();
    let table = table_of(event["event_type"].as_str().unwrap());
    let time = DateTime::parse_from_rfc3339(event["timestamp"].as_str().unwrap()).unwrap();
    let time = time.with_timezone(&Utc).to_rfc3339_opts(SecondsFormat::Micros, true);
    let data = &event["data"];
    let or = |value: &Value, default: Value| if value.is_null() { default } else { value.clone() };
    let row = if table == "orders" {
        json!({
            "order_id": or(&event["entity_id"], json!("")),
            "customer_id": or(&data["customer_id"], json!("")),
            "total_amount": or(&data["total"], json!(0.0)).as_f64(),
            "item_count": data["items"].as_array().map_or(0, Vec::len),
            "currency": or(&data["currency"], json!("USD")),
            "source": or(&event["metadata"]["source"], json!("")),
        })
    } else {
        json!({
            "entity_id": event["entity_id"],
            "source": event["metadata"]["source"],
            "data": data,
            "metadata": event["metadata"],
        })
    };
    let Value::Object(mut row) = row else { unreachable!("an object was written above") };
    row.insert("event_id".to_owned(), event["event_id"].clone());
    row.insert("event_type".to_owned(), event["event_type"].clone());
    row.insert("event_timestamp".to_owned(), json!(time));
    (table, row)
}

/// Returns all rows of a table, without the columns that only the daemon knows.
pub(super) fn stored(warehouse: &Connection, table: &str) -> Vec<Row> {
    let mut select = warehouse.prepare(&format!("SELECT * FROM {table}")).unwrap();
    let names: Vec<String> = select.column_names().map(str::to_owned).collect();
    let mut rows = select.query(()).unwrap();
    let mut all = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let columns = names.iter().enumerate();
        let mut row: Row = columns
            .map(|(at, name)| (name.clone(), cell(name, row.get_ref(at).unwrap())))
            .collect();
        let processed = row.remove("processed_at").unwrap();
        let processed = processed.as_str().unwrap();
        assert!(processed.len() == 27 && processed.ends_with('Z'), "processed_at is {processed}");
        assert_eq!(
            row.remove("_version").unwrap(),
            json!(Version::BYTES),
            "the length of a version"
        );
        all.push(row);
    }
    all
}

/// Returns a value as JSON; the text of a JSON column is parsed.
fn cell(column: &str, value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => json!(integer),
        ValueRef::Real(real) => json!(real),
        ValueRef::Text(text) if matches!(column, "data" | "metadata") => {
            serde_json::from_slice(text).unwrap()
        }
        ValueRef::Text(text) => json!(str::from_utf8(text).unwrap()),
        ValueRef::Blob(bytes) if column == "_version" => json!(bytes.len()),
        ValueRef::Blob(_) => panic!("{column} holds bytes"),
    }
}
