//! Compares the values of a row with those that a warehouse returns.

use std::cmp::Ordering;

use serde_json::{Map, Value as Json};

use crate::row::{ColumnType, Value};

/// Whether a warehouse that was given `expected` may return `found`. Warehouses write decimals,
/// numbers and JSON in forms of their own.
pub(super) fn are_equal(kind: ColumnType, expected: &Value, found: &Value) -> bool {
    match (kind, expected, found) {
        (ColumnType::Json, Value::Text(one), Value::Text(other)) => {
            one == other || json(one).is_some_and(|one| Some(one) == json(other))
        }
        (ColumnType::Numeric, Value::Text(one), Value::Text(other)) => {
            decimal(one) == decimal(other)
        }
        _ => expected.total_cmp(found) == Ordering::Equal,
    }
}

/// JSON with each number as a double, as the tables' readers take it.
fn json(text: &str) -> Option<Json> {
    fn plain(json: Json) -> Json {
        match json {
            Json::Number(number) => number.as_f64().map_or(Json::Null, Json::from),
            Json::Array(all) => all.into_iter().map(plain).collect(),
            Json::Object(all) => {
                let all = all.into_iter().map(|(name, value)| (name, plain(value)));
                Json::Object(all.collect::<Map<_, _>>())
            }
            other => other,
        }
    }
    serde_json::from_str(text).ok().map(plain)
}

/// A decimal without zeros that change nothing: sign, digits before the point, digits behind it.
fn decimal(text: &str) -> (bool, &str, &str) {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    (negative && !(whole.is_empty() && fraction.is_empty()), whole, fraction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::warehouse::text;

    #[test]
    fn the_forms_of_one_value_are_equal_and_other_values_are_not() {
        let equal = |kind, one: &str, other: &str| are_equal(kind, &text(one), &text(other));
        for (one, other) in [("12.50", "12.5"), ("-0.0", "0"), (".5", "0.500"), ("7", "7.")] {
            assert!(equal(ColumnType::Numeric, one, other), "{one} {other}");
        }
        assert!(!equal(ColumnType::Numeric, "-1", "1"));
        assert!(!equal(ColumnType::Numeric, "10", "1"));
        assert!(equal(ColumnType::Json, r#"{"a":1.0,"b":[1]}"#, r#"{ "b": [1], "a": 1 }"#));
        assert!(!equal(ColumnType::Json, r#"{"a":1}"#, r#"{"a":2}"#));
        assert!(!equal(ColumnType::String, "1.0", "1"));
        assert!(!are_equal(ColumnType::String, &text("a"), &Value::Null));
        assert!(are_equal(ColumnType::Float, &Value::Float(-0.0), &Value::Float(0.0)));
    }
}
