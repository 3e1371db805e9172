//! Values as a query shows them: texts, whatever their type.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use chrono::NaiveDate;
use kappa_actors::row::{ColumnType, Value};
use kappa_actors::time::Timestamp;
use serde_json::Value as Json;

/// Reads the value in a cell; `None` if it is no value of this type.
pub(super) fn value(kind: ColumnType, cell: &Json) -> Option<Value> {
    let text = match cell {
        Json::Null => return Some(Value::Null),
        cell => cell.as_str()?,
    };
    Some(match kind {
        ColumnType::String | ColumnType::Numeric | ColumnType::Json => Value::Text(text.into()),
        ColumnType::Integer => Value::Integer(text.parse().ok()?),
        ColumnType::Float => Value::Float(text.parse().ok()?),
        ColumnType::Boolean => Value::Boolean(text.parse().ok()?),
        ColumnType::Timestamp => Value::Timestamp(Timestamp::from_micros(text.parse().ok()?)),
        ColumnType::Date => Value::Date(text.parse::<NaiveDate>().ok()?.to_epoch_days()),
        ColumnType::Bytes => {
            Value::Bytes(Box::new(Bytes::from(BASE64_STANDARD.decode(text).ok()?)))
        }
    })
}
