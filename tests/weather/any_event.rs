//! Every published event ends in the right place, whatever its bytes.

use crate::support::{Fate, Oracle, Published, Publisher, Scene, envelope, generated};

/// In the configuration of these tests, the largest event in bytes.
const MAX_EVENT_BYTES: usize = 20_000;

#[test]
fn every_event_ends_where_it_belongs() {
    let scene = Scene::new(&format!("max_event_bytes = {MAX_EVENT_BYTES}"));
    let publisher = Publisher::open(&scene.data_dir());
    let mut oracle = Oracle::default();
    oracle.publish(&publisher, generated(1).take(10_000), 1_000);
    oracle.publish(&publisher, hostile(), 10);
    oracle.publish(&publisher, odd_but_valid(), 10);
    oracle.publish(&publisher, badly_typed(), 10);
    oracle.publish(&publisher, generated(2).take(10_000), 1_000);
    scene.run_until_idle();
    oracle.check(&scene);
}

/// An event with `inner` as the value of a member of its data.
fn with_inner(id: &str, inner: &str) -> String {
    envelope(id, "cart.seen", &format!(r#","data":{{"inner":{inner}}}"#))
}

/// Arrays in one another, `depth` levels with the event's own two.
fn nested(id: &str, depth: usize) -> String {
    with_inner(id, &format!("{}{}", "[".repeat(depth - 2), "]".repeat(depth - 2)))
}

/// Payloads that are no events, in every way.
fn hostile() -> Vec<Published> {
    let valid = envelope("hostile", "order.placed", "");
    let time = r#""timestamp":"2026-02-17T14:30:00Z""#;
    let mut payloads: Vec<Vec<u8>> = vec![
        b"\xff\xfe\x00".to_vec(),
        [&valid.as_bytes()[..valid.len() - 2], b"\xc3\x28\"}"].concat(),
        [b"\xef\xbb\xbf", valid.as_bytes()].concat(),
        with_inner("surrogate", r#""\ud83d""#).into(),
        with_inner("surrogates", r#""\ude00\ud83d""#).into(),
        with_inner("control", "\"a\u{1}b\"").into(),
        nested("deep", 128).into(),
        with_inner("bottomless", &"[".repeat(9_000)).into(),
        with_inner("large", &format!("\"{}\"", "x".repeat(MAX_EVENT_BYTES))).into(),
        format!("{valid}{valid}").into(),
        format!("{valid}\n{valid}").into(),
        format!("{valid} x").into(),
        format!("{valid}\0").into(),
        format!("[{valid}]").into(),
        valid[..valid.len() - 1].into(),
        valid.replace('"', "'").into(),
        with_inner("comma", "[1,]").into(),
        with_inner("nan", "NaN").into(),
        // The last of repeated keys counts.
        valid.replace('}', r#","event_id":""}"#).into(),
        valid.replace('}', r#","event_id":7}"#).into(),
        valid.replace('}', r#","timestamp":"yesterday"}"#).into(),
    ];
    let whole = ["", " ", "[]", "42", "\"text\"", "null", "true", "{}", "{", "nothing at all"];
    payloads.extend(whole.map(Vec::from));
    let id = r#""event_id":"a""#;
    let kind = r#""event_type":"order.placed""#;
    payloads.extend([
        format!("{{{kind},{time}}}").into(),
        format!("{{{id},{time}}}").into(),
        format!("{{{id},{kind}}}").into(),
    ]);
    let values = ["\"\"", "null", "1", "true", "[]", "{}", r#"["a"]"#];
    for wrong in values {
        payloads.push(format!(r#"{{"event_id":{wrong},{kind},{time}}}"#).into());
        payloads.push(format!(r#"{{{id},"event_type":{wrong},{time}}}"#).into());
        payloads.push(format!(r#"{{{id},{kind},"timestamp":{wrong}}}"#).into());
    }
    let times = ["2026-02-17", "2026-02-17T14:30:00", "2026-02-30T00:00:00Z", "1771338600"];
    for wrong in times.into_iter().chain(["0000-12-31T23:59:59Z", "9999-12-31T23:59:59-01:00"]) {
        payloads.push(format!(r#"{{{id},{kind},"timestamp":"{wrong}"}}"#).into());
    }
    // Two equal payloads are two messages, and so two dead letters.
    payloads.push(b"[]".to_vec());
    payloads.into_iter().map(|payload| Published::new(payload, Fate::Invalid)).collect()
}

/// Unusual but valid events.
pub(crate) fn odd_but_valid() -> Vec<Published> {
    let id_of_all = "\u{1f600} ' \\\" \\\\ \\u0000 %_;--";
    let long = "i".repeat(5_000);
    let order = |id: &str, data: &str| envelope(id, "order.placed", &format!(r#","data":{data}"#));
    let payloads = [
        envelope("bare", "order.placed", ""),
        envelope("no dot", "order", ""),
        envelope("other prefix", "orders.placed", ""),
        envelope("case counts", "Order.placed", ""),
        envelope("only a dot", ".", ""),
        envelope("ends at the dot", "order.", ""),
        envelope(id_of_all, "order.placed", ""),
        envelope(&long, "user.registered", r#","data":{}"#),
        envelope("first", "order.placed", r#","event_id":"last of repeated keys""#),
        envelope("x", "order.placed", r#","event_id":9,"event_id":"last is a text""#),
        order("repeated", r#"{"total":1,"total":2.5,"items":[1,2],"items":[3]}"#),
        order("nulls", r#"{"total":null,"currency":null,"customer_id":null,"items":null}"#),
        order("no array", r#"{"items":{"a":1}}"#),
        order("not an object", "7"),
        order("whole", r#"{"total":12}"#),
        order("large", r#"{"total":123456789012345678901234567890}"#),
        order("precise", r#"{"total":0.1000000000000000055511151231257827}"#),
        order("negative", r#"{"total":-1.5e3}"#),
        envelope("escaped", "order.placed", "").replace("event_id", "event\\u005fid"),
        format!(" \n{}\r\n ", envelope("white space", "order.placed", ",\n\t\"data\" : {\r\n}")),
        envelope("offset", "order.placed", "").replace(".123Z", ".123456789+05:30"),
        envelope("year one", "order.placed", "").replace("2026-02-17", "0001-01-01"),
        envelope("last year", "order.placed", "").replace("2026-02-17", "9999-12-31"),
        nested("as deep as can be", 127),
        with_inner("pair", r#""\ud83d\ude00""#),
        envelope("more", "cart.seen", r#","data":[1,"two",null],"metadata":"text","x":{}"#)
            .replace("\"metadata\":\"text\"", r#""metadata":{"source":"s","n":[1.50]}"#),
    ];
    payloads.into_iter().map(|payload| Published::new(payload, Fate::Stored)).collect()
}

/// Valid events of which no row can be made: they are archived, and become dead letters.
fn badly_typed() -> Vec<Published> {
    let datas = [
        r#"{"total":"much"}"#,
        r#"{"total":true}"#,
        r#"{"total":[1]}"#,
        r#"{"customer_id":{}}"#,
        r#"{"currency":["EUR"]}"#,
    ];
    let order = |(at, data): (usize, &str)| {
        envelope(&format!("bad-{at}"), "order.placed", &format!(r#","data":{data}"#))
    };
    let payloads = datas.into_iter().enumerate().map(order);
    payloads.map(|payload| Published::new(payload, Fate::Condemned("process"))).collect()
}
