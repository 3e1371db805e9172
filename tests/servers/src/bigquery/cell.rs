//! Values of a row and the conversions to a column's type.
//!
//! The rules are those of <https://cloud.google.com/bigquery/docs/supported-data-types>, and the
//! ranges of values <https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types>.

use std::cmp::Ordering;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost_types::field_descriptor_proto::Type;
use rusqlite::types::Value as Sql;
use serde_json::Value;

/// One value as it came over the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl Cell<'_> {
    /// The value in JSON: bytes in base64, timestamps in microseconds, dates in days, and NaN and the infinities as
    /// BigQuery writes them.
    pub(super) fn json(self) -> Value {
        match self {
            Cell::Null => Value::Null,
            Cell::Bool(value) => value.into(),
            Cell::Int(value) => value.into(),
            Cell::Float(value) if value.is_nan() => "NaN".into(),
            Cell::Float(value) if value.is_infinite() => {
                if value > 0.0 {
                    "Infinity".into()
                } else {
                    "-Infinity".into()
                }
            }
            Cell::Float(value) => value.into(),
            Cell::Text(value) => value.into(),
            Cell::Bytes(value) => BASE64_STANDARD.encode(value).into(),
        }
    }

    /// The value in SQLite, in a column of type `kind`.
    pub(super) fn sql(self, kind: &str) -> Sql {
        match self {
            Cell::Null => Sql::Null,
            Cell::Bool(value) => Sql::Integer(value.into()),
            Cell::Int(value) => Sql::Integer(value),
            Cell::Float(value) if value.is_finite() => Sql::Real(value),
            // From a protobuf string.
            Cell::Text(text) if kind == "BYTES" => Sql::Blob(text.as_bytes().to_vec()),
            Cell::Text(text) => Sql::Text(text.to_owned()),
            Cell::Bytes(bytes) if kind == "BYTES" => Sql::Blob(bytes.to_vec()),
            other => Sql::Text(other.json().as_str().unwrap_or_default().to_owned()),
        }
    }
}

/// Whether fields of protobuf type `from` may fill columns of type `to`.
pub(super) fn convertible(from: Type, to: &str) -> bool {
    use Type::{Bool, Bytes, Double, Enum, Float, Int32, Int64, String, Uint32, Uint64};
    // The page names none of the types that are encoded otherwise: sint, fixed and sfixed.
    let signed = matches!(from, Int32 | Int64);
    let small = signed || from == Uint32;
    let integer = small || from == Uint64;
    match to {
        "BOOL" | "BOOLEAN" => from == Bool || integer,
        "BYTES" => matches!(from, Bytes | String),
        "DATE" => signed || from == String,
        "DATETIME" | "TIME" => matches!(from, String | Int64),
        "FLOAT" | "FLOAT64" => matches!(from, Double | Float),
        "INTEGER" | "INT64" => small || from == Enum,
        "JSON" | "GEOGRAPHY" | "INTERVAL" => from == String,
        "NUMERIC" | "BIGNUMERIC" => integer || matches!(from, Double | Float | String | Bytes),
        "STRING" => matches!(from, String | Enum),
        "TIMESTAMP" => small,
        _ => false,
    }
}

/// Why a value of a convertible type is no value of `column_type`, if it is none.
pub(super) fn fault(cell: Cell<'_>, column_type: &str) -> Option<String> {
    let ok = match (column_type, cell) {
        (_, Cell::Null) => true,
        ("DATE", Cell::Int(days)) => (-719_162..=2_932_896).contains(&days),
        ("DATE", Cell::Text(text)) => text.parse::<chrono::NaiveDate>().is_ok(),
        ("TIMESTAMP", Cell::Int(micros)) => {
            (-62_135_596_800_000_000..=253_402_300_799_999_999).contains(&micros)
        }
        ("NUMERIC", Cell::Text(text)) => decimal(text, 29, 9),
        ("BIGNUMERIC", Cell::Text(text)) => decimal(text, 39, 38) && in_range(text),
        ("NUMERIC", Cell::Bytes(bytes)) => bytes.len() <= 16,
        ("BIGNUMERIC", Cell::Bytes(bytes)) => bytes.len() <= 32,
        ("JSON", Cell::Text(text)) => serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok(),
        _ => true,
    };
    (!ok).then(|| format!("value {cell:?} is not a valid {column_type}"))
}

/// Whether `text` is a decimal of at most so many digits before and behind the point:
/// <https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#decimal_types>.
fn decimal(text: &str, before: usize, behind: usize) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    !(whole.is_empty() && fraction.is_empty())
        && digits(whole)
        && digits(fraction)
        && whole.trim_start_matches('0').len() <= before
        && fraction.len() <= behind
}

/// Returns whether a decimal with at most 38 digits after the point is one of BIGNUMERIC's: from -2^255 to
/// 2^255 - 1 of its smallest parts. The exact range is on
/// <https://cloud.google.com/dotnet/docs/reference/Google.Cloud.BigQuery.V2/latest/Google.Cloud.BigQuery.V2.BigQueryBigNumeric>.
fn in_range(text: &str) -> bool {
    const BEYOND: &str =
        "57896044618658097711785492504343953926634992332820282019728792003956564819968";
    let unsigned = text.trim_start_matches(['-', '+']);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let parts = format!("{whole}{fraction:0<38}");
    let parts = parts.trim_start_matches('0');
    match parts.len().cmp(&BEYOND.len()).then_with(|| parts.cmp(BEYOND)) {
        Ordering::Less => true,
        Ordering::Equal => text.starts_with('-'),
        Ordering::Greater => false,
    }
}
