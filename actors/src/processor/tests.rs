use bytes::Bytes;

use super::*;
use crate::envelope::{EnvelopeConfig, EnvelopePlan};
use crate::message::{Attributes, Lease};
use crate::position::Position;
use crate::row::Value;
use crate::version::Version;

mod mistakes;
mod shipped;
mod trace;

const EVENT: &str = r#"{"event_id":"evt_1","event_type":"order.placed","entity_id":"ord_1",
    "timestamp":"2026-02-17T14:30:00.123Z","data":{"customer_id":"cust_1","total":109.97,
    "items":[{"sku":"a","n":2},{"sku":"b","n":1}],"note":null},"metadata":{"source":"web"}}"#;

const FEW: EventLimits = EventLimits { max_rows: 3, max_bytes: 4_096 };

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

fn envelope() -> EnvelopePlan {
    let config = EnvelopeConfig {
        id: "/event_id".into(),
        r#type: "/event_type".into(),
        time: "/timestamp".into(),
    };
    EnvelopePlan::compile(&config, 10_000_000).unwrap()
}

/// Compiles a processor `p` of the table `t` from the rest of its file.
fn compile(toml: &str) -> Result<ProcessorPlan, PlanError> {
    let config = format!("match = [\"order.\"]\ntable = \"t\"\n{toml}");
    ProcessorPlan::compile("p", &toml::from_str(&config).unwrap(), &envelope(), FEW)
}

/// The rows that `plan` makes of `payload`.
fn rows(plan: &ProcessorPlan, payload: &str) -> Result<Vec<Row>, BadRow> {
    let message = Message {
        id: "m1".into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        publish_time: Timestamp::from_micros(7),
        attributes: Some(Arc::new(Attributes::from([("n".into(), "3".into())]))),
        ordering_key: "".into(),
        attempt: None,
        archived: false,
        suspect: None,
        lease: Lease(1),
    };
    let envelope = envelope().read(payload.as_bytes()).unwrap();
    let mut rows = vec![Row(Box::default())];
    let event = EventView { message: &message, envelope: &envelope };
    let made = make_rows(plan, &event, NOW, &mut rows);
    let rows = rows.split_off(1);
    assert!(made.is_ok() || rows.is_empty(), "a bad row left rows behind");
    made.map(|_| rows)
}

fn one(toml: &str, payload: &str) -> Result<Vec<Value>, BadRow> {
    let mut rows = rows(&compile(toml).unwrap(), payload)?;
    assert_eq!(rows.len(), 1);
    Ok(rows.remove(0).0.into_vec())
}

/// The version of a row of the message in [`rows`].
fn version(order: Option<i64>, revision: u16) -> Value {
    let position = Position::of("m1", Timestamp::from_micros(7), 0);
    Value::Version(Box::new(Version::new(order, position, revision)))
}

fn text(value: &str) -> Value {
    Value::Text(value.into())
}

#[test]
fn every_source_fills_its_column() {
    let columns = r#"
        [columns]
        from = { type = "STRING", from = "/data/customer_id" }
        element = { type = "STRING", from = "/data/items/1/sku" }
        len = { type = "INTEGER", len = "/data/items" }
        no_len = { type = "INTEGER", len = "/data/total" }
        value = { type = "NUMERIC", value = "1.50" }
        now = { type = "TIMESTAMP", now = true }
        id = { type = "STRING", message = "id" }
        published = { type = "TIMESTAMP", message = "publish_time" }
        ordering_key = { type = "STRING", message = "ordering_key" }
        attribute = { type = "INTEGER", attribute = "n" }
        no_attribute = { type = "STRING", attribute = "x", default = "none" }
        whole = { type = "JSON", from = "/data/items" }
    "#;
    assert_eq!(
        one(columns, EVENT).unwrap(),
        [
            text("cust_1"),
            text("b"),
            Value::Integer(2),
            Value::Integer(0),
            text("1.5"),
            Value::Timestamp(NOW),
            text("m1"),
            Value::Timestamp(Timestamp::from_micros(7)),
            Value::Null,
            Value::Integer(3),
            text("none"),
            text(r#"[{"sku":"a","n":2},{"sku":"b","n":1}]"#),
        ]
    );
}

#[test]
fn missing_and_null_take_the_default_or_are_null_or_refused_where_required() {
    for pointer in ["/data/note", "/data/nothing", "/data/total/x", "/nothing/at/all"] {
        let column =
            |rest: &str| format!("columns.c = {{ type = \"STRING\", from = \"{pointer}\"{rest} }}");
        assert_eq!(one(&column(""), EVENT).unwrap(), [Value::Null], "{pointer}");
        assert_eq!(one(&column(", default = 5"), EVENT).unwrap(), [text("5")], "{pointer}");
        let missing = one(&column(", required = true"), EVENT).unwrap_err();
        assert_eq!(missing.to_string(), "column c: missing", "{pointer}");
    }
}

#[test]
fn a_value_that_does_not_fit_names_column_value_and_type() {
    let column = r#"columns.total = { type = "INTEGER", from = "/data/total", default = 0 }"#;
    let bad = one(column, EVENT).unwrap_err();
    assert_eq!(bad.to_string(), "column total: 109.97 is no INTEGER");
    let attribute = r#"columns.n = { type = "DATE", attribute = "n" }"#;
    let bad = one(attribute, EVENT).unwrap_err();
    assert_eq!(bad.to_string(), "column n: \"3\" is no DATE");
}

#[test]
fn a_key_column_without_a_value_is_a_bad_row() {
    let keyed = |extra: &str| {
        format!(
            "key = [\"event_id\", \"note\"]\ncolumns.event_id = {{ type = \"STRING\", from = \
             \"/event_id\" }}\ncolumns.note = {{ type = \"STRING\", from = \"/data/note\"{extra} }}"
        )
    };
    assert_eq!(one(&keyed(""), EVENT).unwrap_err(), BadRow::Missing { column: "note".into() });
    assert_eq!(one(&keyed(", default = \"-\""), EVENT).unwrap()[1], text("-"));
}

#[test]
fn a_keyed_row_ends_with_the_version_of_its_event() {
    let plan = compile(
        "key = [\"id\"]\nrevision = 2\ncolumns.id = { type = \"STRING\", from = \"/event_id\" }",
    )
    .unwrap();
    let table = plan.table();
    assert_eq!(table.version, Some(1));
    assert_eq!((&*table.columns[1].name, table.columns[1].kind.name()), ("_version", "BYTES"));
    let row = rows(&plan, EVENT).unwrap().remove(0);
    assert_eq!(row.0[1], version(None, 2));
    assert_eq!(
        compile("columns.id = { type = \"STRING\", from = \"/event_id\" }")
            .unwrap()
            .table()
            .version,
        None
    );
}

#[test]
fn order_by_comes_first_in_the_version_for_each_of_its_types() {
    let latest = |kind: &str, value: &str| {
        format!(
            "key = [\"id\"]\norder_by = \"at\"\nrevision = 1\n\
             columns.id = {{ type = \"STRING\", from = \"/entity_id\" }}\n\
             columns.at = {{ type = \"{kind}\", value = {value} }}"
        )
    };
    for (kind, value, order) in [
        ("TIMESTAMP", "\"1969-12-31T23:59:59.999999Z\"", -1),
        ("TIMESTAMP", "\"9999-12-31T23:59:59.999999Z\"", 253_402_300_799_999_999),
        ("DATE", "\"1969-12-31\"", -1),
        ("INTEGER", "-9223372036854775808", i64::MIN),
        ("INTEGER", "9223372036854775807", i64::MAX),
    ] {
        let row = one(&latest(kind, value), EVENT).unwrap();
        assert_eq!(row[2], version(Some(order), 1), "{kind} {value}");
    }
    let definition = |toml: &str| compile(toml).unwrap().table().order_by.clone();
    let integer = definition(&latest("INTEGER", "1"));
    assert_eq!(integer.as_deref(), Some("at INTEGER {\"value\":1}"));
    assert_ne!(integer, definition(&latest("INTEGER", "2")));
    assert_ne!(integer, definition(&latest("DATE", "\"2026-02-17\"")));
}

#[test]
fn a_value_of_order_by_too_far_behind_the_publish_time_is_a_bad_row() {
    let latest = |kind: &str, max: &str| {
        let toml = format!(
            "key = [\"event_id\"]\norder_by = \"at\"\nmax_future = \"{max}\"\n\
             columns.event_id = {{ type = \"STRING\", from = \"/event_id\" }}\n\
             columns.at = {{ type = \"{kind}\", from = \"/data/at\" }}"
        );
        move |at: &str| {
            one(
                &toml,
                &format!(
                    r#"{{"event_id":"e","event_type":"order.a","timestamp":"2026-02-17T14:30:00Z","data":{{"at":"{at}"}}}}"#
                ),
            )
        }
    };
    // The message was published at 1970-01-01T00:00:00.000007Z.
    let timestamp = latest("TIMESTAMP", "1h");
    assert!(timestamp("1970-01-01T01:00:00.000007Z").is_ok());
    let bad = timestamp("1970-01-01T01:00:00.000008Z").unwrap_err();
    let says = "column at: 1970-01-01T01:00:00.000008Z is more than max_future (1h) after the \
                publish time";
    assert_eq!(bad.to_string(), says);
    let date = latest("DATE", "1d");
    assert!(date("1970-01-02").is_ok());
    assert!(matches!(date("1970-01-03"), Err(BadRow::Future { .. })));
}

#[test]
fn two_rows_of_one_event_with_one_key_are_a_bad_row() {
    let plan = compile(
        "key = [\"id\", \"sku\"]\nexplode = \"/data/items\"\n\
         columns.id = { type = \"STRING\", root = \"/event_id\" }\n\
         columns.sku = { type = \"STRING\", from = \"/sku\" }",
    )
    .unwrap();
    let event = |skus: &str| {
        format!(
            r#"{{"event_id":"e","event_type":"order.a","timestamp":"2026-02-17T14:30:00Z",
            "data":{{"items":[{skus}]}}}}"#
        )
    };
    assert_eq!(rows(&plan, &event(r#"{"sku":"a"},{"sku":"b"}"#)).unwrap().len(), 2);
    let bad = rows(&plan, &event(r#"{"sku":"a"},{"sku":"b"},{"sku":"a"}"#)).unwrap_err();
    assert_eq!(bad.to_string(), "two rows have the key id = \"e\", sku = \"a\"");
}

const EXPLODED: &str = r#"
    key = ["event_id", "number"]
    explode = "/data/items"
    [columns]
    event_id = { type = "STRING", root = "/event_id" }
    number = { type = "INTEGER", index = true }
    sku = { type = "STRING", from = "/sku" }
    n = { type = "INTEGER", from = "/n" }
    total = { type = "FLOAT", root = "/data/total" }
"#;

#[test]
fn explode_makes_a_row_for_each_element() {
    let rows = rows(&compile(EXPLODED).unwrap(), EVENT).unwrap();
    let values: Vec<&[Value]> = rows.iter().map(|row| &row.0[..5]).collect();
    let row = |number, sku, n| {
        [text("evt_1"), Value::Integer(number), text(sku), Value::Integer(n), Value::Float(109.97)]
    };
    assert_eq!(values, [&row(0, "a", 2)[..], &row(1, "b", 1)[..]]);
}

#[test]
fn explode_makes_no_row_of_no_array() {
    let plan = compile(EXPLODED).unwrap();
    for items in ["[]", "null"] {
        let event = EVENT.replace(r#"[{"sku":"a","n":2},{"sku":"b","n":1}]"#, items);
        assert!(rows(&plan, &event).unwrap().is_empty(), "{items}");
    }
    assert!(rows(&plan, &EVENT.replace("\"items\"", "\"things\"")).unwrap().is_empty());
}

#[test]
fn explode_makes_all_rows_or_none() {
    let plan = compile(EXPLODED).unwrap();
    for (items, reason) in [
        (r#"[{"sku":"a","n":2},{"sku":"b","n":"x"}]"#, "column n: \"x\" is no INTEGER"),
        (r#"{"sku":"a"}"#, "/data/items: not an array"),
        (r#""abc""#, "/data/items: not an array"),
        ("[1,2,3,4]", "/data/items: more rows than max_rows_per_event (4 > 3)"),
    ] {
        let event = EVENT.replace(r#"[{"sku":"a","n":2},{"sku":"b","n":1}]"#, items);
        assert_eq!(rows(&plan, &event).unwrap_err().to_string(), reason, "{items}");
    }
}

#[test]
fn columns_from_message_metadata_are_listed() {
    let plan = compile(
        r#"
        [columns]
        from = { type = "STRING", from = "/event_id" }
        now = { type = "TIMESTAMP", now = true }
        id = { type = "STRING", message = "id" }
        published = { type = "TIMESTAMP", message = "publish_time" }
        tenant = { type = "STRING", attribute = "tenant" }
        "#,
    );
    let plan = plan.unwrap();
    let needs: Vec<(&str, String)> = plan.message_columns().collect();
    assert_eq!(
        needs,
        [
            ("id", "message = \"id\"".to_owned()),
            ("published", "message = \"publish_time\"".to_owned()),
            ("tenant", "attribute = \"tenant\"".to_owned()),
        ]
    );
}

#[test]
fn a_number_that_no_double_holds_fails_only_the_column_that_needs_it() {
    let event = EVENT.replace("109.97", "1e400");
    let wants = |column: &str| {
        let toml = format!("[columns]\nv = {{ type = \"{column}\", from = \"/data/total\" }}");
        one(&toml, &event)
    };
    assert_eq!(wants("JSON").unwrap(), [Value::Text("1e400".into())]);
    let reason = wants("FLOAT").unwrap_err().to_string();
    assert!(reason.contains('v'), "{reason}");
    let beside = "[columns]\nv = { type = \"STRING\", from = \"/data/total/none\" }\n\
                  w = { type = \"STRING\", from = \"/data/customer_id\" }";
    assert_eq!(one(beside, &event).unwrap(), [Value::Null, Value::Text("cust_1".into())]);
}

#[test]
fn an_event_whose_rows_take_too_many_bytes_makes_none() {
    const COPIED: &str = r#"
        explode = "/data/items"
        [columns]
        n = { type = "INTEGER", index = true }
        all = { type = "JSON", root = "" }
        "#;
    let plan = compile(COPIED).unwrap();
    let long = EVENT.replace("null", &format!("\"{}\"", "x".repeat(2_500)));
    assert_eq!(rows(&plan, EVENT).unwrap().len(), 2);
    let reason = "its rows take more than max_bytes_per_event (4096 bytes)";
    let bad = rows(&plan, &long).map(|rows| rows.len());
    assert_eq!(bad.unwrap_err().to_string(), reason);
    // Not even one row: each value counts before the next is made.
    let wide = r#"
        [columns]
        a = { type = "JSON", from = "" }
        b = { type = "JSON", from = "" }
        c = { type = "JSON", from = "" }
        "#;
    let bad = rows(&compile(wide).unwrap(), &long);
    assert_eq!(bad.unwrap_err().to_string(), reason);
}

#[test]
fn a_row_costs_what_its_values_keep_allocated() {
    let plan = compile("[columns]\nall = { type = \"JSON\", from = \"/data\" }").unwrap();
    let blank = EVENT.replace("\"note\":null", &format!("\"note\":{}null", " ".repeat(2_000)));
    let made = rows(&plan, &blank).unwrap();
    let Value::Text(text) = &made[0].0[0] else { panic!("no text: {made:?}") };
    assert!(text.capacity() < 2 * text.len() + 64, "{} for {}", text.capacity(), text.len());
    assert!(made[0].cost_bytes() >= text.capacity() as u64);
}
