//! JSON values into column values, where that keeps the meaning.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{Datelike, NaiveDate};
use compact_str::CompactString;

use super::decimal::{Decimal, is_number};
use crate::json::{minify, unquote};
use crate::row::{ColumnType, Value};
use crate::time::Timestamp;

/// 1970-01-01 in days since the day before 0001-01-01.
const EPOCH_DAYS: i32 = 719_163;

/// Converts the JSON text `raw`, which is valid and not null, to a column type; `None` if it would lose its meaning.
pub(super) fn from_json(kind: ColumnType, raw: &str) -> Option<Value> {
    if kind == ColumnType::Json {
        return Some(Value::Text(minify(raw).into()));
    }
    match raw.as_bytes().first()? {
        b'"' => match unquote(raw)? {
            Cow::Borrowed(text) => from_text(kind, text),
            Cow::Owned(text) => from_text(kind, &text),
        },
        b'{' | b'[' => None,
        b't' | b'f' if kind == ColumnType::String => Some(text(raw)),
        b't' | b'f' => boolean(raw).filter(|_| kind == ColumnType::Boolean),
        _ if kind == ColumnType::String => Some(text(raw)),
        _ => number(kind, raw),
    }
}

/// Converts a JSON string with the contents `text`.
pub(super) fn from_text(kind: ColumnType, value: &str) -> Option<Value> {
    match kind {
        ColumnType::String => Some(text(value)),
        ColumnType::Integer | ColumnType::Float | ColumnType::Numeric => {
            if is_number(value) {
                number(kind, value)
            } else {
                None
            }
        }
        ColumnType::Boolean => boolean(value),
        ColumnType::Timestamp => Timestamp::parse_rfc3339(value).ok().map(Value::Timestamp),
        ColumnType::Date => date(value),
        ColumnType::Json => Some(text(&serde_json::Value::from(value).to_string())),
        ColumnType::Bytes => {
            STANDARD.decode(value).ok().map(|bytes| Value::Bytes(Box::new(bytes.into())))
        }
    }
}

fn text(value: &str) -> Value {
    Value::Text(CompactString::new(value))
}

fn boolean(value: &str) -> Option<Value> {
    match value {
        "true" => Some(Value::Boolean(true)),
        "false" => Some(Value::Boolean(false)),
        _ => None,
    }
}

/// `value` is a number as JSON writes them.
fn number(kind: ColumnType, value: &str) -> Option<Value> {
    match kind {
        ColumnType::Integer => match value.parse() {
            Ok(integer) => Some(Value::Integer(integer)),
            Err(_) => Decimal::parse(value)?.integer().map(Value::Integer),
        },
        ColumnType::Float => {
            value.parse().ok().filter(|double: &f64| double.is_finite()).map(Value::Float)
        }
        ColumnType::Numeric => Some(Value::Text(Decimal::parse(value)?.numeric()?.into())),
        _ => None,
    }
}

/// `YYYY-MM-DD`, years 1 to 9999.
fn date(value: &str) -> Option<Value> {
    let digits = |at: std::ops::Range<usize>| -> Option<u32> {
        let part = value.get(at)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let bytes = value.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let year = i32::try_from(digits(0..4)?).ok().filter(|year| *year > 0)?;
    let date = NaiveDate::from_ymd_opt(year, digits(5..7)?, digits(8..10)?)?;
    Some(Value::Date(date.num_days_from_ce() - EPOCH_DAYS))
}

#[cfg(test)]
mod tests;
