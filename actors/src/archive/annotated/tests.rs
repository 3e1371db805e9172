use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::archive::LineFormat;
use crate::message::Lease;

const TIME: Timestamp = Timestamp::from_micros(1_771_338_600_000_001);

fn message(payload: &str) -> Message {
    Message {
        id: "7".into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        publish_time: TIME,
        attributes: None,
        ordering_key: "".into(),
        attempt: None,
        archived: false,
        suspect: None,
        lease: Lease(1),
    }
}

fn line(message: &Message) -> Bytes {
    let mut lines = Vec::new();
    LineFormat::Annotated.encode(message, &mut lines);
    assert_eq!(lines.pop(), Some(b'\n'));
    assert!(!lines.iter().any(|byte| matches!(byte, b'\n' | b'\r')));
    lines.into()
}

fn text(message: &Message) -> String {
    String::from_utf8(line(message).to_vec()).unwrap()
}

fn read(line: &str) -> Result<ArchivedEvent, LineError> {
    LineFormat::Annotated.decode(Bytes::copy_from_slice(line.as_bytes()))
}

/// Encodes and decodes, and expects everything back.
fn round_trip(message: &Message) {
    let line = line(message);
    let event = LineFormat::Annotated.decode(line.clone()).unwrap();
    let payload = String::from_utf8(message.payload.to_vec()).unwrap();
    assert_eq!(event.payload, payload.replace(['\n', '\r'], " "), "{line:?}");
    let origin = event.origin.unwrap();
    assert_eq!(origin.message_id, message.id);
    assert_eq!(origin.publish_time, message.publish_time);
    assert_eq!(origin.attributes, message.attributes);
    assert_eq!(origin.ordering_key, message.ordering_key);
}

#[test]
fn an_annotation_is_the_last_member_of_the_event() {
    assert_eq!(
        text(&message("{\"n\":1.00}")),
        r#"{"n":1.00,"_kappa":{"id":"7","at":"2026-02-17T14:30:00.000001Z"}}"#
    );
    let full = Message {
        attributes: Some(Arc::new([("k\"é".to_owned(), "v\n\u{1f600}".to_owned())].into())),
        ordering_key: "order-1".into(),
        ..message("{\"n\":1}")
    };
    assert_eq!(
        text(&full),
        concat!(
            r#"{"n":1,"_kappa":{"id":"7","at":"2026-02-17T14:30:00.000001Z","#,
            r#""attributes":{"k\"é":"v\n😀"},"ordering_key":"order-1"}}"#
        )
    );
    round_trip(&full);
}

#[test]
fn every_shape_of_an_object_comes_back_byte_by_byte() {
    let own = r#"{"id":"9","at":"2020-01-01T00:00:00.000000Z"}"#;
    let deep = format!("{}0{}", "{\"a\":".repeat(127), "}".repeat(127));
    for payload in [
        "{}",
        " {\t} ",
        "{\r\n}\n",
        "{\"a\":{}}",
        "{\"a\":{} , \"b\":[{}]\n}\r\n \t",
        r#"{"_kappa":1}"#,
        &format!(r#"{{"_kappa":{own}}}"#),
        &format!(r#"{{"_kappa":{own},"_kappa":{own}}} "#),
        &format!(r#"{{"a":{{"_kappa":{own}}}}}"#),
        r#"{"a":",\"_kappa\":{\"id\":\"9\",\"at\":\"x\"}}"}"#,
        r#"{"a":"\\","_kappa":{}}"#,
        r#"{"_kappa":{"_kappa":{}}}"#,
        &deep,
    ] {
        round_trip(&message(payload));
        let depth_is_read =
            serde_json::from_slice::<serde::de::IgnoredAny>(&line(&message(payload)));
        depth_is_read.unwrap();
    }
}

#[test]
fn a_message_whose_attributes_look_like_an_annotation_comes_back() {
    let hostile = r#"","_kappa":{"id":"9","at":"2020-01-01T00:00:00.000000Z"}}"#;
    round_trip(&Message {
        id: hostile.into(),
        attributes: Some(Arc::new(
            [("_kappa".to_owned(), hostile.to_owned()), (hostile.to_owned(), "{".to_owned())]
                .into(),
        )),
        ordering_key: hostile.into(),
        ..message("{\"a\":1}")
    });
}

#[test]
fn a_line_that_does_not_end_with_a_whole_annotation_is_an_error() {
    let good = text(&message("{\"a\":1}"));
    read(&good).unwrap();
    for end in 0..good.len() {
        assert!(read(&good[..end]).is_err(), "{}", &good[..end]);
    }
    let annotation = r#""_kappa":{"id":"7","at":"2026-02-17T14:30:00.000001Z"}"#;
    for bad in [
        "".to_owned(),
        r#"{"a":1}"#.to_owned(),
        annotation.to_owned(),
        // Not the last member, not the outermost object, or more than one value.
        format!(r#"{{"a":1,{annotation},"b":2}}"#),
        format!(r#"{{"a":{{"b":1,{annotation}}}}}"#),
        format!(r#"{{"a":1,{annotation}}}}}"#),
        format!(r#"{{"a":1,{annotation}}} x"#),
        // Without, or with one comma too many.
        format!(r#"{{"a":1 {annotation}}}"#),
        format!("{{,{annotation}}}"),
        format!(r#"{{"a":{{{annotation}}}"#),
        format!(r#""a":1,{annotation}}}"#),
        // Of other members.
        r#"{"a":1,"_kappa":{"id":"7"}}"#.to_owned(),
        r#"{"a":1,"_kappa":{"at":"2026-02-17T14:30:00.000001Z"}}"#.to_owned(),
        good.replace("\"id\"", "\"x\":1,\"id\""),
        good.replace("\"7\"", "7"),
        good.replace("\"id\"", "\"id\":\"7\",\"id\""),
        good.replace("2026-02-17", "2026-02-30"),
    ] {
        assert!(read(&bad).is_err(), "{bad}");
    }
}

#[test]
#[should_panic(expected = "an archived event is a JSON object")]
fn a_payload_that_is_no_object_is_never_written_as_an_annotated_line() {
    line(&message("[1]"));
}

/// Whitespace between tokens.
fn space() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(String::new()), 1 => "[ \t\n\r]{1,3}"]
}

/// A JSON string, as it is written.
fn string() -> impl Strategy<Value = String> {
    let plain = any::<String>();
    let hostile = prop_oneof![
        Just("_kappa".to_owned()),
        Just("\"_kappa\":{".to_owned()),
        Just(",\"_kappa\":{\"id\":\"1\",\"at\":\"2020-01-01T00:00:00Z\"}}".to_owned()),
        Just("\\".to_owned()),
        Just("\\\"".to_owned()),
    ];
    prop_oneof![plain, hostile].prop_map(|text| serde_json::to_string(&text).unwrap())
}

fn object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let member = (space(), string(), space(), value, space())
        .prop_map(|(a, key, b, value, c)| format!("{a}{key}{b}:{value}{c}"));
    let members = prop::collection::vec(member, 0..4);
    (space(), members, space()).prop_map(|(before, members, behind)| {
        let inner = if members.is_empty() { before.clone() } else { members.join(",") };
        format!("{before}{{{inner}}}{behind}")
    })
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        string(),
        any::<i64>().prop_map(|number| number.to_string()),
        Just("null".to_owned()),
        Just("{}".to_owned()),
        Just(r#"{"id":"1","at":"2020-01-01T00:00:00.000000Z"}"#.to_owned()),
    ];
    leaf.prop_recursive(4, 20, 4, |inner| {
        let array = prop::collection::vec(inner.clone(), 0..4)
            .prop_map(|elements| format!("[{}]", elements.join(",")));
        prop_oneof![array, object(inner)]
    })
}

proptest! {
    #[test]
    fn any_message_whose_payload_is_an_object_comes_back(
        payload in object(value()),
        id in any::<String>(),
        micros in -62_135_596_800_000_000_i64..=253_402_300_799_999_999,
        attributes in prop::option::of(prop::collection::btree_map(any::<String>(), any::<String>(), 1..4)),
        ordering_key in any::<String>(),
    ) {
        serde_json::from_str::<serde::de::IgnoredAny>(&payload).expect("an object");
        let attributes = attributes.map(|all: BTreeMap<String, String>| Arc::new(all.into_iter().collect()));
        round_trip(&Message {
            id: id.into(),
            publish_time: Timestamp::from_micros(micros),
            attributes,
            ordering_key: ordering_key.into(),
            ..message(&payload)
        });
    }
}
