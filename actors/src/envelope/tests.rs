use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

use super::*;

const EVENT: &str = r#"{"event_id":"evt_1","event_type":"order.placed","timestamp":"2026-02-17T14:30:00.123Z","data":{"total":109.97,"items":[{"q":2},null,true,-1e3,"\ud83d\ude00\n"]}}"#;

fn plan(id: &str, kind: &str, time: &str, max_event_bytes: u64) -> EnvelopePlan {
    let config = EnvelopeConfig { id: id.into(), r#type: kind.into(), time: time.into() };
    EnvelopePlan::compile(&config, max_event_bytes).unwrap()
}

fn read(payload: impl AsRef<[u8]>) -> Result<Envelope, Invalid> {
    plan("/event_id", "/event_type", "/timestamp", 10_000).read(payload.as_ref())
}

fn reason(payload: impl AsRef<[u8]>) -> String {
    read(payload).unwrap_err().to_string()
}

/// An event whose id, type and time are these JSON texts.
fn event(id: &str, kind: &str, time: &str) -> String {
    format!(r#"{{"event_id":{id},"event_type":{kind},"timestamp":{time}}}"#)
}

const TIME: &str = r#""2026-02-17T14:30:00.123Z""#;

#[test]
fn a_valid_event_gives_its_envelope() {
    let envelope = read(format!(" {EVENT}\n")).unwrap();
    assert_eq!((&*envelope.id, &*envelope.kind), ("evt_1", "order.placed"));
    assert_eq!(envelope.time.to_string(), "2026-02-17T14:30:00.123000Z");
}

#[test]
fn anything_but_a_json_object_is_invalid() {
    for (payload, expected) in [
        (&b"{\"event_id\": \"\xff\"}"[..], "not UTF-8"),
        (b"", "not JSON: EOF while parsing a value"),
        (b"hello", "not JSON: expected value"),
        (b"\xef\xbb\xbf{}", "not JSON: expected value"),
        (b"{} {}", "not JSON: trailing characters"),
        (b"{\"a\": 1,}", "not JSON: trailing comma"),
        (b"{\"a\": NaN}", "not JSON: expected value"),
        (b"{'a': 1}", "not JSON: key must be a string"),
        (b"{\"a\": 01}", "not JSON: invalid number"),
        (
            b"{\"a\": \"\n\"}",
            "not JSON: control character (\\u0000-\\u001F) found while parsing a string",
        ),
        (b"{\"a\": \"\\ud800\"}", "not JSON: unexpected end of hex escape"),
        (b"{\"\\udc00\": 1}", "not JSON: lone leading surrogate in hex escape"),
        (b"[{}]", "not an object"),
        (b"\"text\"", "not an object"),
        (b"12", "not an object"),
        (b"null", "not an object"),
    ] {
        assert_eq!(reason(payload), expected, "{}", String::from_utf8_lossy(payload));
    }
}

#[test]
fn a_number_that_no_double_holds_is_json() {
    for number in ["1e400", "-1E+309", "123.5e999999999999", &"9".repeat(400), "0.0e-999"] {
        let payload = EVENT.replace("109.97", number);
        let envelope = read(&payload).unwrap_or_else(|invalid| panic!("{number}: {invalid}"));
        assert_eq!((&*envelope.id, &*envelope.kind), ("evt_1", "order.placed"));
    }
    for wrong in ["01e400", "1e400e1", "1.e400", "+1e400", "1e", "-e400"] {
        assert!(reason(EVENT.replace("109.97", wrong)).contains("not JSON"), "{wrong}");
    }
    let both = EVENT.replace("109.97", "1e400").replace("null", "nul");
    assert!(reason(both).contains("not JSON: expected ident"), "the other fault is named");
}

#[test]
fn a_lone_surrogate_is_found_where_nothing_points_to() {
    for hidden in [r#""\ud83d""#, r#"[{"a":"\udfff"}]"#, r#"{"\ud83dx":1}"#] {
        let payload = EVENT.replacen('{', &format!("{{\"hidden\":{hidden},"), 1);
        assert!(reason(payload).starts_with("not JSON: "), "{hidden}");
    }
}

#[test]
fn a_field_that_is_no_filled_string_is_invalid_and_the_others_are_kept() {
    for (id, expected) in [
        ("\"\"", "/event_id: empty"),
        ("null", "/event_id: null"),
        ("12", "/event_id: not a string"),
        ("true", "/event_id: not a string"),
        ("[\"a\"]", "/event_id: not a string"),
        ("{\"a\":\"b\"}", "/event_id: not a string"),
    ] {
        let invalid = read(event(id, "\"t\"", TIME)).unwrap_err();
        assert_eq!(invalid.reason, expected, "{id}");
        assert_eq!((invalid.id.as_deref(), invalid.kind.as_deref()), (None, Some("t")));
    }
    assert_eq!(reason(event("\"i\"", "\"\"", TIME)), "/event_type: empty");
    assert_eq!(reason("{}"), "/event_id: missing");
    assert_eq!(reason(r#"{"event_id":"i","event_type":"t"}"#), "/timestamp: missing");
    for (time, expected) in [
        ("1771338600", "/timestamp: not a string"),
        ("\"yesterday\"", "/timestamp: not an RFC 3339 timestamp"),
        ("\"2026-02-17T14:30:00\"", "/timestamp: not an RFC 3339 timestamp"),
        ("\"0000-01-01T00:00:00Z\"", "/timestamp: a year outside 1 to 9999"),
    ] {
        let invalid = read(event("\"i\"", "\"t\"", time)).unwrap_err();
        assert_eq!(invalid.reason, expected, "{time}");
        assert_eq!((invalid.id.as_deref(), invalid.kind.as_deref()), (Some("i"), Some("t")));
    }
}

#[test]
fn nesting_of_128_is_invalid_and_of_127_is_not() {
    let nested = |depth: usize| {
        // The event's own object is the first level.
        let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
        EVENT.replacen('{', &format!("{{\"deep\":{open}{close},"), 1)
    };
    assert!(read(nested(127)).is_ok());
    assert_eq!(reason(nested(128)), "not JSON: recursion limit exceeded");
}

#[test]
fn an_event_over_the_limit_is_invalid_and_keeps_its_id_and_type() {
    let size = EVENT.len() as u64;
    let read = |max| plan("/event_id", "/event_type", "/timestamp", max).read(EVENT.as_bytes());
    assert!(read(size).is_ok());
    let invalid = read(size - 1).unwrap_err();
    assert_eq!(invalid.reason, format!("larger than max_event_bytes ({size} > {})", size - 1));
    assert_eq!(invalid.id.as_deref(), Some("evt_1"));
}

#[test]
fn a_broken_event_keeps_the_fields_before_the_break() {
    let cut = EVENT.split_once("\"timestamp\"").unwrap().0;
    for mut payload in [cut.as_bytes().to_vec(), EVENT.as_bytes().to_vec()] {
        payload.extend(b"\xff");
        let invalid = read(&payload).unwrap_err();
        assert_eq!(invalid.reason, "not UTF-8");
        assert_eq!(
            (invalid.id.as_deref(), invalid.kind.as_deref()),
            (Some("evt_1"), Some("order.placed"))
        );
    }
    assert_eq!(read(cut).unwrap_err().id.as_deref(), Some("evt_1"));
}

#[test]
fn of_a_repeated_key_the_last_one_counts_at_every_level() {
    let plan = plan("/meta/id", "/meta/types/1", "/time", 10_000);
    let read = |text: &str| plan.read(text.as_bytes());
    let envelope = read(&format!(
        r#"{{"meta":{{"id":"old","types":["a","b"]}},"time":1,"time":{TIME},"meta":{{"types":[0,"x","y"],"id":3,"\u0069d":"new"}}}}"#
    ));
    let envelope = envelope.unwrap();
    assert_eq!((&*envelope.id, &*envelope.kind), ("new", "x"));
    let emptied =
        read(&format!(r#"{{"time":{TIME},"meta":{{"id":"i","types":["a","b"]}},"meta":7}}"#));
    let emptied = emptied.unwrap_err();
    assert_eq!((&*emptied.reason, emptied.id), ("/meta/id: missing", None));
}

#[test]
fn pointers_that_are_none_are_refused_with_their_key() {
    for text in ["event_id", "", "/a~2"] {
        let config = EnvelopeConfig { id: "/i".into(), r#type: text.into(), time: "/t".into() };
        let error = EnvelopePlan::compile(&config, 1).unwrap_err();
        assert_eq!(error.key, "envelope.type", "{text}");
        assert!(error.hint.is_some());
    }
}

/// Reads the envelope from a whole document.
fn oracle(payload: &[u8]) -> Result<Option<Envelope>, serde_json::Error> {
    // This reader makes doubles of numbers.
    let mended = std::str::from_utf8(payload).ok().and_then(crate::json::without_huge_numbers);
    let value: Value = serde_json::from_slice(mended.as_deref().map_or(payload, str::as_bytes))?;
    let text = |pointer| value.pointer(pointer)?.as_str().filter(|text| !text.is_empty());
    let envelope = || {
        Some(Envelope {
            id: text("/event_id")?.into(),
            kind: text("/event_type")?.into(),
            time: Timestamp::parse_rfc3339(text("/timestamp")?).ok()?,
        })
    };
    Ok(value.as_object().and_then(|_| envelope()))
}

#[derive(Clone, Debug)]
enum Mutation {
    Replace(Index, Vec<u8>),
    Remove(Index, Index),
    Repeat(Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let pieces: Vec<&'static [u8]> = vec![
        b"\"",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\\",
        b"\\u",
        b"\\ud800",
        b"\\udc00",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xff",
        b"\0",
        b"-",
        b".",
        b"e9",
        b"0",
        b"1e999",
        b"null",
        b" ",
        b"\"event_id\":",
    ];
    let piece = prop_oneof![
        4 => select(pieces).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 1..3),
    ];
    prop_oneof![
        (any::<Index>(), piece).prop_map(|(at, piece)| Mutation::Replace(at, piece)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Mutation::Remove(from, to)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Mutation::Repeat(from, to)),
    ]
}

fn mutate(payload: &mut Vec<u8>, mutation: Mutation) {
    let place = |at: Index| at.index(payload.len() + 1);
    let range = |from: Index, to: Index| place(from).min(place(to))..place(from).max(place(to));
    match mutation {
        Mutation::Replace(at, piece) => {
            let at = place(at);
            payload.splice(at..(at + 1).min(payload.len()), piece);
        }
        Mutation::Remove(from, to) => {
            let range = range(from, to);
            payload.drain(range.start..(range.start + 4).min(range.end));
        }
        Mutation::Repeat(from, to) => {
            let range = range(from, to);
            payload.extend_from_within(range);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn validity_and_envelope_agree_with_reading_a_whole_document(
        mutations in proptest::collection::vec(mutation(), 0..4)
    ) {
        let mut payload = EVENT.as_bytes().to_vec();
        for mutation in mutations {
            mutate(&mut payload, mutation);
        }
        let ours = read(&payload);
        match oracle(&payload) {
            Ok(Some(envelope)) => prop_assert_eq!(ours, Ok(envelope)),
            Ok(None) => {
                let reason = ours.unwrap_err().reason;
                prop_assert!(reason.starts_with('/') || reason == "not an object", "{}", reason);
            }
            Err(_) => {
                let reason = ours.unwrap_err().reason;
                prop_assert!(reason.starts_with("not JSON: ") || reason == "not UTF-8", "{}", reason);
            }
        }
    }
}
