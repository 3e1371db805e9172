use super::*;

fn text(value: &str) -> Option<Value> {
    Some(Value::Text(value.into()))
}

fn at(value: &str) -> Option<Value> {
    Some(Value::Timestamp(Timestamp::parse_rfc3339(value).unwrap()))
}

fn check(kind: ColumnType, cases: &[(&str, Option<Value>)]) {
    for (raw, value) in cases {
        assert_eq!(from_json(kind, raw), *value, "{raw} as {}", kind.name());
    }
}

#[test]
fn a_string_takes_text_and_the_spelling_of_numbers_and_booleans() {
    check(
        ColumnType::String,
        &[
            (r#""""#, text("")),
            (r#""a\u00e9\n""#, text("aé\n")),
            (r#""a\u0000b""#, text("a\0b")),
            (r#""\ud83d\ude00""#, text("😀")),
            ("12", text("12")),
            ("1.50", text("1.50")),
            ("-1E+2", text("-1E+2")),
            ("12345678901234567890123", text("12345678901234567890123")),
            ("true", text("true")),
            ("false", text("false")),
            ("{}", None),
            ("[1]", None),
        ],
    );
}

#[test]
fn an_integer_takes_every_spelling_of_a_64_bit_integer() {
    check(
        ColumnType::Integer,
        &[
            ("12", Some(Value::Integer(12))),
            ("-9223372036854775808", Some(Value::Integer(i64::MIN))),
            ("9223372036854775807", Some(Value::Integer(i64::MAX))),
            ("3.0", Some(Value::Integer(3))),
            ("1e3", Some(Value::Integer(1000))),
            ("\"3\"", Some(Value::Integer(3))),
            ("\"3.0\"", Some(Value::Integer(3))),
            ("\"-7\"", Some(Value::Integer(-7))),
            ("9223372036854775808", None),
            ("3.5", None),
            ("\"3.5\"", None),
            ("\"\"", None),
            ("\" 3\"", None),
            ("\"+3\"", None),
            ("\"007\"", None),
            ("\"three\"", None),
            ("true", None),
            ("{}", None),
            ("[3]", None),
        ],
    );
}

#[test]
fn a_float_takes_numbers_and_numeric_text_as_the_nearest_double() {
    check(
        ColumnType::Float,
        &[
            ("12", Some(Value::Float(12.0))),
            ("12.5", Some(Value::Float(12.5))),
            ("\"12.5\"", Some(Value::Float(12.5))),
            ("\"1e-2\"", Some(Value::Float(0.01))),
            ("9007199254740993", Some(Value::Float(9_007_199_254_740_992.0))),
            ("2.2250738585072011e-308", Some(Value::Float(2.225_073_858_507_201e-308))),
            ("1e-999", Some(Value::Float(0.0))),
            ("1e999", None),
            ("\"1e999\"", None),
            ("\"NaN\"", None),
            ("\"inf\"", None),
            ("\"Infinity\"", None),
            ("\"abc\"", None),
            ("\"12,5\"", None),
            ("\"\"", None),
            ("false", None),
            ("[]", None),
        ],
    );
}

#[test]
fn a_numeric_keeps_every_digit() {
    check(
        ColumnType::Numeric,
        &[
            ("0.1", text("0.1")),
            ("\"109.970\"", text("109.97")),
            ("-0", text("0")),
            (
                "12345678901234567890123456789.123456789",
                text("12345678901234567890123456789.123456789"),
            ),
            ("123456789012345678901234567890", None),
            ("0.1234567891", None),
            ("\"1,000\"", None),
            ("true", None),
            ("{}", None),
        ],
    );
}

#[test]
fn a_boolean_takes_true_and_false_and_their_text() {
    check(
        ColumnType::Boolean,
        &[
            ("true", Some(Value::Boolean(true))),
            ("false", Some(Value::Boolean(false))),
            ("\"true\"", Some(Value::Boolean(true))),
            ("\"false\"", Some(Value::Boolean(false))),
            ("\"True\"", None),
            ("\"yes\"", None),
            ("1", None),
            ("[]", None),
        ],
    );
}

#[test]
fn a_timestamp_takes_rfc_3339_cut_to_microseconds() {
    check(
        ColumnType::Timestamp,
        &[
            ("\"2026-02-17T14:30:00.1239999Z\"", at("2026-02-17T14:30:00.123999Z")),
            ("\"2026-02-17T15:30:00+01:00\"", at("2026-02-17T14:30:00Z")),
            ("\"0000-01-01T00:00:00Z\"", None),
            ("\"2026-02-17\"", None),
            ("\"2026-02-17T14:30:00\"", None),
            ("1771338600", None),
            ("{}", None),
        ],
    );
}

#[test]
fn a_date_takes_a_day_of_the_calendar() {
    check(
        ColumnType::Date,
        &[
            ("\"1970-01-01\"", Some(Value::Date(0))),
            ("\"2026-02-17\"", Some(Value::Date(20_501))),
            ("\"0001-01-01\"", Some(Value::Date(-719_162))),
            ("\"9999-12-31\"", Some(Value::Date(2_932_896))),
            ("\"2024-02-29\"", Some(Value::Date(19_782))),
            ("\"2026-02-29\"", None),
            ("\"0000-01-01\"", None),
            ("\"2026-2-17\"", None),
            ("\"2026-02-17T00:00:00Z\"", None),
            ("\"+026-02-17\"", None),
            ("\"20260217\"", None),
            ("\"ééééé\"", None),
            ("20260217", None),
        ],
    );
}

#[test]
fn json_takes_anything_without_white_space_and_repeated_keys() {
    check(
        ColumnType::Json,
        &[
            (r#"{ "a" : [ 1.50 , null ] , "a" : { "b" : 1 } }"#, text(r#"{"a":{"b":1}}"#)),
            (r#""a b""#, text(r#""a b""#)),
            ("1.50", text("1.50")),
            ("true", text("true")),
        ],
    );
    assert_eq!(from_text(ColumnType::Json, "a\"b"), text(r#""a\"b""#));
}

#[test]
fn bytes_take_padded_base64() {
    let bytes = |value: &'static [u8]| Some(Value::Bytes(bytes::Bytes::from_static(value).into()));
    check(
        ColumnType::Bytes,
        &[
            ("\"\"", bytes(b"")),
            ("\"aGk=\"", bytes(b"hi")),
            ("\"+\\/8=\"", bytes(&[0xfb, 0xff])),
            ("\"aGk\"", None),
            ("\"-_8=\"", None),
            ("\"a b\"", None),
            ("12", None),
            ("[104]", None),
        ],
    );
}
