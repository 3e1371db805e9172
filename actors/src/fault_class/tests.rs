use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::envelope::{EnvelopeConfig, EnvelopePlan};
use crate::message::{Attributes, Lease, Message};
use crate::processor::{EventLimits, EventView, ProcessorPlan, make_rows};
use crate::time::Timestamp;

const RULE: &str = r#"
    match = ["*"]
    table = "lines"
    explode = "/lines"
    key = ["id", "number"]
    order_by = "at"
    max_future = "1d"
    columns.id = { type = "STRING", root = "/event_id", required = true }
    columns.number = { type = "INTEGER", from = "/n", required = true }
    columns.at = { type = "TIMESTAMP", root = "/at", required = true }
    columns.price = { type = "NUMERIC", from = "/price" }
    columns.day = { type = "DATE", from = "/day" }
    columns.tag = { type = "BOOLEAN", attribute = "tag" }
"#;

/// Every class that the rule above and the envelope can have.
fn possible() -> BTreeSet<String> {
    let envelope = ["larger than max_event_bytes", "not UTF-8", "not JSON", "not an object"];
    let field = ["missing", "null", "not a string", "empty", "not a time of RFC 3339"];
    let row = [
        "explode finds no array",
        "more rows than max_rows_per_event",
        "more bytes than max_bytes_per_event",
        "two rows with one key",
        "rejected by the processor",
    ];
    let column = ["missing", "not an INTEGER", "not a TIMESTAMP", "not a NUMERIC", "not a DATE"];
    let column = column.into_iter().chain(["not a BOOLEAN", "later than max_future allows"]);
    let mut all: BTreeSet<_> = envelope.map(|kind| format!("envelope: {kind}")).into();
    for name in ["id", "type", "time"] {
        all.extend(field.map(|kind| format!("envelope.{name}: {kind}")));
    }
    all.extend(row.map(|kind| format!("rule: {kind}")));
    for name in ["id", "number", "at", "price", "day", "tag"] {
        all.extend(column.clone().map(|kind| format!("rule.{name}: {kind}")));
    }
    all
}

fn envelope() -> EnvelopePlan {
    let place = |name: &str| name.to_owned();
    let config = EnvelopeConfig {
        id: place("/event_id"),
        r#type: place("/event_type"),
        time: place("/timestamp"),
    };
    EnvelopePlan::compile(&config, 2_000).unwrap()
}

fn rule() -> ProcessorPlan {
    let limits = EventLimits { max_rows: 3, max_bytes: 1_500 };
    ProcessorPlan::compile("rule", &toml::from_str(RULE).unwrap(), &envelope(), limits).unwrap()
}

/// The class of the event's fault, if it has one.
fn class(payload: &[u8], tag: &str) -> Option<String> {
    let envelope = match envelope().read(payload) {
        Ok(envelope) => envelope,
        Err(invalid) => return Some(invalid.class.to_string()),
    };
    let message = Message {
        id: "m1".into(),
        payload: Bytes::copy_from_slice(payload),
        publish_time: Timestamp::from_micros(1_771_338_600_000_000),
        attributes: Some(Arc::new(Attributes::from([("tag".into(), tag.into())]))),
        ordering_key: "".into(),
        attempt: None,
        archived: false,
        suspect: None,
        lease: Lease(1),
    };
    let rule = rule();
    let event = EventView { message: &message, envelope: &envelope };
    let made = make_rows(&rule, &event, Timestamp::default(), &mut Vec::new());
    made.err().map(|bad| FaultClass::bad_row(&rule, &bad).to_string())
}

/// A JSON text: often one that fits somewhere, else a text that only an event can hold.
fn value() -> impl Strategy<Value = String> {
    let fitting = select(vec![
        "\"2026-02-17T14:30:00Z\"",
        "\"2099-01-01T00:00:00Z\"",
        "\"2026-02-17\"",
        "1",
        "2",
        "true",
        "null",
        "\"\"",
        "[{}]",
        "{}",
    ]);
    prop_oneof![
        4 => fitting.prop_map(str::to_owned),
        1 => "SECRET[a-z:. \u{1F600}]{0,40}".prop_map(|text| serde_json::json!(text).to_string()),
        1 => any::<f64>().prop_map(|number| serde_json::json!(number).to_string()),
    ]
}

prop_compose! {
    fn event()(
        head in [value(), value(), value(), value()],
        lines in prop::collection::vec([value(), value(), value()], 0..5),
        shape in select(vec!["list", "list", "list", "list", "value", "broken"]),
        cut in 0..400_usize,
        other in value(),
    ) -> Vec<u8> {
        let [id, kind, time, at] = head;
        let line = |[n, price, day]: &[String; 3]| format!("{{\"n\":{n},\"price\":{price},\"day\":{day}}}");
        let lines: Vec<_> = lines.iter().map(line).collect();
        let lines = if shape == "value" { other } else { format!("[{}]", lines.join(",")) };
        let text = format!(
            "{{\"event_id\":{id},\"event_type\":{kind},\"timestamp\":{time},\"at\":{at},\"lines\":{lines}}}"
        );
        let mut bytes = text.into_bytes();
        if shape == "broken" {
            bytes.truncate(cut);
        }
        bytes
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn every_event_gets_a_class_that_the_configuration_allows(
        payload in event(),
        tag in "[a-z]{0,6}|true",
    ) {
        let class = class(&payload, &tag);
        prop_assert!(class.iter().all(|class| possible().contains(class)), "{class:?}");
    }
}

#[test]
fn each_kind_of_fault_has_a_class_of_its_own() {
    let head = r#""event_id":"e","event_type":"t","timestamp":"2026-02-17T14:30:00Z""#;
    let line = r#"{"n":1,"price":"1.5","day":"2026-02-17"}"#;
    let event = |at: &str, lines: &str| format!("{{{head},\"at\":\"{at}\",\"lines\":{lines}}}");
    let good = |lines: &str| event("2026-02-17T14:30:00Z", lines);
    let long = format!("[{}]", line.replace("1.5", &"9".repeat(1_100)));
    for (payload, expected) in [
        ("{".to_owned(), "envelope: not JSON"),
        ("[]".to_owned(), "envelope: not an object"),
        ("{}".to_owned(), "envelope.id: missing"),
        (good("[]").replace("\"t\"", "7"), "envelope.type: not a string"),
        (
            good("[]").replace("\"2026-02-17T14:30:00Z\",\"at", "\"soon\",\"at"),
            "envelope.time: not a time of RFC 3339",
        ),
        (
            format!("{{{head}, \"x\":\"{}\"}}", "x".repeat(2_000)),
            "envelope: larger than max_event_bytes",
        ),
        (good("7"), "rule: explode finds no array"),
        (good("[{},{},{},{}]"), "rule: more rows than max_rows_per_event"),
        (good(&format!("[{line},{line}]")), "rule: two rows with one key"),
        (good(&long), "rule.price: not a NUMERIC"),
        (good(&format!("[{}]", line.replace("\"n\":1", "\"n\":null"))), "rule.number: missing"),
        (good(&format!("[{}]", line.replace("1.5", "many"))), "rule.price: not a NUMERIC"),
        (
            event("2099-01-01T00:00:00Z", &format!("[{line}]")),
            "rule.at: later than max_future allows",
        ),
    ] {
        assert_eq!(class(payload.as_bytes(), "true").as_deref(), Some(expected), "{payload}");
        assert!(possible().contains(expected), "{expected}");
    }
    assert_eq!(
        class(good(&format!("[{line}]")).as_bytes(), "x").as_deref(),
        Some("rule.tag: not a BOOLEAN")
    );
    assert_eq!(class(b"\xff", "").as_deref(), Some("envelope: not UTF-8"));
    assert_eq!(class(good(&format!("[{line}]")).as_bytes(), "true"), None);
}

#[test]
fn a_refusal_is_classed_by_its_kind_and_never_by_its_words() {
    let refusal = |kind, reason: &str| Refusal { row: 0, kind, reason: reason.to_owned() };
    let class = |kind| {
        let table = rule();
        let of = |reason| FaultClass::refused("rule", table.table(), &refusal(kind, reason));
        assert_eq!(of("value 17"), of("value 18"));
        of("value 17").to_string()
    };
    let kinds = [
        RefusalKind::TooLarge,
        RefusalKind::Constraint,
        RefusalKind::Value,
        RefusalKind::Partition,
        RefusalKind::Unexplained,
    ];
    assert_eq!(
        kinds.map(class),
        [
            "rule: refused, too large for the warehouse",
            "rule: refused by a constraint of the table",
            "rule: refused for a value",
            "rule: refused, outside the range of partitions",
            "rule: refused without a reason",
        ]
    );
}

#[test]
fn a_processor_in_code_that_names_an_unknown_column_is_classed_without_it() {
    let bad = BadRow::value("text of an event", "17", ColumnType::Date);
    assert_eq!(FaultClass::bad_row(&rule(), &bad).to_string(), "rule: not a DATE");
}
