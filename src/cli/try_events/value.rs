//! A row's values as JSON, in the order of their columns.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::NaiveDate;
use kappa_actors::row::{ColumnType, Row, TableSpec, Value};
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;

/// A row as an object: column by column.
pub(super) struct RowJson<'a>(pub(super) &'a TableSpec, pub(super) &'a Row);

impl Serialize for RowJson<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self(table, Row(values)) = self;
        let cells = table.columns.iter().zip(values);
        to.collect_map(cells.map(|(column, value)| (&column.name, ValueJson(column.kind, value))))
    }
}

/// One value, as a reader of the table sees it: JSON as JSON, bytes as base64.
pub(in crate::cli) struct ValueJson<'a>(
    pub(in crate::cli) ColumnType,
    pub(in crate::cli) &'a Value,
);

impl Serialize for ValueJson<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.1 {
            Value::Null => to.serialize_unit(),
            Value::Text(text) if self.0 == ColumnType::Json => {
                match serde_json::from_str::<&RawValue>(text) {
                    Ok(json) => json.serialize(to),
                    Err(_) => to.serialize_str(text),
                }
            }
            Value::Text(text) => to.serialize_str(text),
            Value::Integer(integer) => to.serialize_i64(*integer),
            Value::Float(float) => to.serialize_f64(*float),
            Value::Boolean(boolean) => to.serialize_bool(*boolean),
            Value::Timestamp(time) => to.collect_str(time),
            Value::Date(days) => match NaiveDate::from_epoch_days(*days) {
                Some(date) => to.collect_str(&date),
                None => to.serialize_i32(*days),
            },
            Value::Bytes(bytes) => to.serialize_str(&BASE64_STANDARD.encode(&**bytes)),
            Value::Version(version) => {
                to.serialize_str(&BASE64_STANDARD.encode(version.to_bytes()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_in_the_table() {
        let json = |kind, value| serde_json::to_string(&ValueJson(kind, &value)).unwrap();
        assert_eq!(json(ColumnType::Date, Value::Date(20_501)), "\"2026-02-17\"");
        assert_eq!(
            json(ColumnType::Json, Value::Text("{\"b\":1,\"a\":2}".into())),
            "{\"b\":1,\"a\":2}"
        );
        assert_eq!(json(ColumnType::Numeric, Value::Text("12.50".into())), "\"12.50\"");
        assert_eq!(
            json(ColumnType::Bytes, Value::Bytes(Box::new(b"\xff\0"[..].into()))),
            "\"/wA=\""
        );
        assert_eq!(json(ColumnType::Float, Value::Null), "null");
    }
}
