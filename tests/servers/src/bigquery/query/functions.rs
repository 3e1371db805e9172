//! GoogleSQL's functions of BYTES, which SQLite holds as blobs.
//!
//! <https://cloud.google.com/bigquery/docs/reference/standard-sql/string_functions>, and for the
//! operators <https://cloud.google.com/bigquery/docs/reference/standard-sql/operators>.

use std::cmp::Ordering;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value as Sql, ValueRef};
use rusqlite::{Connection, Error, Result};

/// Makes the functions known to a connection.
pub(super) fn register(db: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    let one = |name: &str, run: fn(ValueRef<'_>) -> Result<Sql>| {
        db.create_scalar_function(name, 1, flags, move |context| match context.get_raw(0) {
            ValueRef::Null => Ok(Sql::Null),
            value => run(value),
        })
    };
    one("to_hex", |value| Ok(Sql::Text(hex(bytes("TO_HEX", value)?))))?;
    one("from_hex", |value| from_hex(text("FROM_HEX", value)?))?;
    one("to_base64", |value| Ok(Sql::Text(BASE64_STANDARD.encode(bytes("TO_BASE64", value)?))))?;
    one("from_base64", |value| {
        let decoded = BASE64_STANDARD.decode(text("FROM_BASE64", value)?);
        decoded.map(Sql::Blob).map_err(|error| refused(format!("Failed to decode: {error}")))
    })?;
    for name in ["substr", "substring"] {
        db.create_scalar_function(name, 2, flags, |context| substr(context))?;
        db.create_scalar_function(name, 3, flags, |context| substr(context))?;
    }
    db.create_scalar_function("concat", -1, flags, |context| concat(context))?;
    db.create_scalar_function("bq_less", 2, flags, |context| {
        compare(context, |order| order == Ordering::Less)
    })?;
    db.create_scalar_function("bq_at_most", 2, flags, |context| {
        compare(context, |order| order != Ordering::Greater)
    })?;
    db.create_scalar_function("bq_and", 2, flags, |it| bitwise(it, |one, other| one & other))?;
    db.create_scalar_function("bq_or", 2, flags, |it| bitwise(it, |one, other| one | other))?;
    db.create_scalar_function("bq_xor", 2, flags, |it| bitwise(it, |one, other| one ^ other))
}

fn refused(words: String) -> Error {
    Error::UserFunctionError(words.into())
}

fn mismatch(name: &str, value: ValueRef<'_>) -> Error {
    let kind = value.data_type();
    refused(format!("No matching signature for function {name} for argument types: {kind}"))
}

fn bytes<'a>(name: &str, value: ValueRef<'a>) -> Result<&'a [u8]> {
    match value {
        ValueRef::Blob(bytes) => Ok(bytes),
        other => Err(mismatch(name, other)),
    }
}

fn text<'a>(name: &str, value: ValueRef<'a>) -> Result<&'a str> {
    match value {
        ValueRef::Text(text) => std::str::from_utf8(text).map_err(|e| refused(e.to_string())),
        other => Err(mismatch(name, other)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Both cases are taken, and an odd number of digits as if a zero came before.
fn from_hex(text: &str) -> Result<Sql> {
    let digits = if text.len().is_multiple_of(2) { text.to_owned() } else { format!("0{text}") };
    let byte = |at: usize| {
        let pair =
            digits.get(at..at + 2).filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()));
        pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())
    };
    let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
    bytes.map(Sql::Blob).ok_or_else(|| refused(format!("Failed to decode invalid hex: {text}")))
}

/// The position counts from one, and from the end where it is negative; one beyond the left end, and
/// zero, is the first. Bytes of BYTES, characters of STRING.
fn substr(context: &Context<'_>) -> Result<Sql> {
    let number = |at: usize| match context.get_raw(at) {
        ValueRef::Integer(number) => Ok(Some(number)),
        ValueRef::Null => Ok(None),
        other => Err(mismatch("SUBSTR", other)),
    };
    let Some(position) = number(1)? else { return Ok(Sql::Null) };
    let length = if context.len() == 3 { number(2)? } else { Some(i64::MAX) };
    let Some(length) = length else { return Ok(Sql::Null) };
    let length = usize::try_from(length)
        .map_err(|_| refused("Third argument in SUBSTR() cannot be negative".to_owned()))?;
    let from = |count: usize| {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let from = if position > 0 { position - 1 } else { count + position };
        let from = if position == 0 || from < 0 { 0 } else { from };
        usize::try_from(from).unwrap_or_default()
    };
    Ok(match context.get_raw(0) {
        ValueRef::Null => Sql::Null,
        ValueRef::Blob(bytes) => {
            let rest = bytes.iter().copied().skip(from(bytes.len()));
            Sql::Blob(rest.take(length).collect())
        }
        value => {
            let text = text("SUBSTR", value)?;
            Sql::Text(text.chars().skip(from(text.chars().count())).take(length).collect())
        }
    })
}

/// BYTES with BYTES, or STRING with STRING.
fn concat(context: &Context<'_>) -> Result<Sql> {
    let values: Vec<_> = (0..context.len()).map(|at| context.get_raw(at)).collect();
    if values.contains(&ValueRef::Null) {
        return Ok(Sql::Null);
    }
    if let Some(ValueRef::Blob(_)) = values.first() {
        let all: Result<Vec<_>> = values.iter().map(|value| bytes("CONCAT", *value)).collect();
        return Ok(Sql::Blob(all?.concat()));
    }
    let all: Result<Vec<_>> = values.iter().map(|value| text("CONCAT", *value)).collect();
    Ok(Sql::Text(all?.concat()))
}

/// The order of two values of one type: bytes are compared as unsigned numbers, and those that are
/// the beginning of others are less.
fn compare(context: &Context<'_>, holds: impl Fn(Ordering) -> bool) -> Result<Option<bool>> {
    let (one, other) = (context.get_raw(0), context.get_raw(1));
    let order = match (one, other) {
        (ValueRef::Null, _) | (_, ValueRef::Null) => return Ok(None),
        (ValueRef::Integer(one), ValueRef::Integer(other)) => one.cmp(&other),
        (ValueRef::Blob(one), ValueRef::Blob(other))
        | (ValueRef::Text(one), ValueRef::Text(other)) => one.cmp(other),
        (one, other) => match (number(one), number(other)) {
            // NaN is neither less nor more than any number.
            (Some(one), Some(other)) => match one.partial_cmp(&other) {
                Some(order) => order,
                None => return Ok(Some(false)),
            },
            _ => {
                return Err(refused(format!(
                    "No matching signature for operator < for argument types: {}, {}",
                    one.data_type(),
                    other.data_type()
                )));
            }
        },
    };
    Ok(Some(holds(order)))
}

/// A number, or the text that holds a NUMERIC, NaN or infinity.
fn number(value: ValueRef<'_>) -> Option<f64> {
    match value {
        ValueRef::Integer(value) => Some(value as f64),
        ValueRef::Real(value) => Some(value),
        ValueRef::Text(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

/// Of integers, or of bytes of one length.
fn bitwise(context: &Context<'_>, run: fn(i64, i64) -> i64) -> Result<Sql> {
    Ok(match (context.get_raw(0), context.get_raw(1)) {
        (ValueRef::Null, _) | (_, ValueRef::Null) => Sql::Null,
        (ValueRef::Integer(one), ValueRef::Integer(other)) => Sql::Integer(run(one, other)),
        (ValueRef::Blob(one), ValueRef::Blob(other)) if one.len() == other.len() => {
            let byte = |(one, other): (&u8, &u8)| run((*one).into(), (*other).into()) as u8;
            Sql::Blob(one.iter().zip(other).map(byte).collect())
        }
        (ValueRef::Blob(_), ValueRef::Blob(_)) => {
            let words = "Bitwise binary operator for BYTES requires equal length of the inputs";
            return Err(refused(words.to_owned()));
        }
        (one, _) => return Err(mismatch("&", one)),
    })
}
