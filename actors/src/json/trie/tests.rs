use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

use super::super::minify;
use super::*;

fn capture<'a>(pointers: &[&str], json: &'a str) -> Vec<Option<&'a str>> {
    let mut trie = Trie::default();
    let slots: Vec<usize> =
        pointers.iter().map(|text| trie.insert(&Pointer::parse(text).unwrap())).collect();
    let found = trie.capture(json).unwrap();
    slots.into_iter().map(|slot| found[slot]).collect()
}

#[test]
fn values_are_captured_as_they_are_written() {
    let json = r#" {"a": {"b": 1.50, "c" : [10, {"d": "x\n"}]}, "a/b": null} "#;
    assert_eq!(
        capture(&["/a/b", "/a/c/0", "/a/c/1/d", "/a~1b", "/a/c/2", "/a/b/x", "/z"], json),
        [Some("1.50"), Some("10"), Some(r#""x\n""#), Some("null"), None, None, None]
    );
}

#[test]
fn a_whole_and_its_parts_can_both_be_captured() {
    let json = r#"{"a":{"b":[1,2]}}"#;
    assert_eq!(
        capture(&["/a/b/1", "/a", "", "/a"], json),
        [Some("2"), Some(r#"{"b":[1,2]}"#), Some(json), Some(r#"{"b":[1,2]}"#)]
    );
}

#[test]
fn a_number_that_no_double_holds_is_captured_as_it_is_written() {
    let json = r#"{"a": 1e400, "b": {"c": [-2E999, "1e400"]}, "d": "x"}"#;
    let found = capture(&["/a", "/b", "/b/c/1", "/a/none", "/b/c/0/none", "/d"], json);
    let b = r#"{"c": [-2E999, "1e400"]}"#;
    assert_eq!(found, [Some("1e400"), Some(b), Some("\"1e400\""), None, None, Some("\"x\"")]);
}

#[test]
fn a_repeated_key_begins_again() {
    let json = r#"{"a":{"b":1,"c":2},"a":{"c":3},"d":[1],"d":null}"#;
    assert_eq!(capture(&["/a/b", "/a/c", "/d/0"], json), [None, Some("3"), None]);
}

/// A document that may repeat keys, as its text.
fn document() -> impl Strategy<Value = String> {
    let scalar = select(vec!["null", "true", "0", "-1.50", "1e3", r#""""#, r#""é\n\u0041""#]);
    scalar.prop_map(str::to_owned).prop_recursive(5, 60, 6, |inner| {
        let member = (key(), inner.clone()).prop_map(|(key, value)| format!("{key:?} : {value}"));
        prop_oneof![
            proptest::collection::vec(inner, 0..5).prop_map(|all| format!("[{}]", all.join(" ,"))),
            proptest::collection::vec(member, 0..16)
                .prop_map(|all| format!("{{ {} }}", all.join(", "))),
        ]
    })
}

fn key() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "c", "0", "1", "01", "", "x/y", "~"])
}

fn pointer() -> impl Strategy<Value = String> {
    proptest::collection::vec(key(), 0..4).prop_map(|tokens| {
        tokens
            .iter()
            .map(|token| format!("/{}", token.replace('~', "~0").replace('/', "~1")))
            .collect()
    })
}

fn members(value: &Value) -> usize {
    match value {
        Value::Object(all) => all.len() + all.values().map(members).sum::<usize>(),
        Value::Array(all) => all.iter().map(members).sum(),
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn captures_agree_with_pointers_into_a_whole_document(
        json in document(),
        pointers in proptest::collection::vec(pointer(), 0..8),
    ) {
        let whole: Value = serde_json::from_str(&json).unwrap();
        let pointers: Vec<&str> = pointers.iter().map(String::as_str).collect();
        for (pointer, raw) in pointers.iter().zip(capture(&pointers, &json)) {
            let value = raw.map(|raw| serde_json::from_str(raw).unwrap());
            prop_assert_eq!(value.as_ref(), whole.pointer(pointer), "{}", pointer);
        }
    }

    #[test]
    fn minified_text_is_the_same_document_with_each_key_once(json in document()) {
        let whole: Value = serde_json::from_str(&json).unwrap();
        let text = minify(&json);
        prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), whole.clone());
        prop_assert_eq!(text.matches(':').count(), members(&whole));
        prop_assert!(!text.contains(' '));
    }
}
